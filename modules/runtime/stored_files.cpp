// SPDX-License-Identifier: Apache-2.0
module;

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

module berth.runtime;

import :stored_files;

namespace berth {
namespace {

failure cannot_read(const std::string& path, bytes offset, int error) {
  const auto code = error == ENOENT || error == ENOTDIR ? errc::not_found : errc::unreadable;
  const std::string_view mend = error == ENOENT   ? "; it was there when the checkpoint was read: put it back"
                                : error == EMFILE ? "; allow more open files (ulimit -n) or ask for fewer"
                                                  : "; check the file and its disk";
  return fail(code, path,
              text<416>("cannot be read at byte ")
                  .append(offset)
                  .append(": ")
                  .append(std::generic_category().message(error))
                  .append(mend));
}

failure changed(const std::string& path, bytes offset, bytes size, bytes now) {
  return fail(errc::corrupted, path,
              text<416>("changed while it was read (at byte ")
                  .append(offset)
                  .append("); leave the files alone while a model is loaded or runs, and load it again"),
              size, now);
}

}  // namespace

stored_files::~stored_files() {
  for (const auto& f : files_)
    if (f.descriptor >= 0) ::close(f.descriptor);
}

std::uint32_t stored_files::add(std::string path, bytes size) {
  struct stat s{};
  auto& f = files_.emplace_back();
  f.path = std::move(path);
  f.size = size;
  f.found = ::stat(f.path.c_str(), &s) == 0;
  f.written = {s.st_mtim.tv_sec, s.st_mtim.tv_nsec};
  return static_cast<std::uint32_t>(files_.size() - 1);
}

result<done> stored_files::check_unchanged(const file& f, int descriptor) const {
  struct stat s{};
  if (::fstat(descriptor, &s) != 0) return cannot_read(f.path, 0, errno);
  const times written{s.st_mtim.tv_sec, s.st_mtim.tv_nsec};
  if (!f.found || static_cast<bytes>(s.st_size) != f.size || !(written == f.written))
    return changed(f.path, 0, f.size, static_cast<bytes>(s.st_size));
  return done{};
}

void stored_files::close_oldest() {
  auto oldest = open_.end();
  for (auto at = open_.begin(); at != open_.end(); ++at)
    if (files_[*at].readers == 0 && (oldest == open_.end() || files_[*at].last_use < files_[*oldest].last_use))
      oldest = at;
  if (oldest == open_.end()) return;  // all are being read: one more, then
  ::close(files_[*oldest].descriptor);
  files_[*oldest].descriptor = -1;
  *oldest = open_.back();
  open_.pop_back();
}

result<int> stored_files::acquire(std::uint32_t number) {
  const std::lock_guard lock(mutex_);
  auto& f = files_[number];
  if (f.descriptor < 0) {
    if (open_.size() >= most_open_) close_oldest();
    int descriptor = -1;
    do descriptor = ::open(f.path.c_str(), O_RDONLY | O_CLOEXEC);
    while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0) return cannot_read(f.path, 0, errno);
    if (auto ok = check_unchanged(f, descriptor); !ok) {
      ::close(descriptor);
      return ok.propagate();
    }
    f.descriptor = descriptor;
    open_.push_back(number);
  }
  ++f.readers;
  f.last_use = ++uses_;
  return f.descriptor;
}

void stored_files::release(std::uint32_t number) {
  const std::lock_guard lock(mutex_);
  --files_[number].readers;
  while (open_.size() > most_open_) {
    const auto before = open_.size();
    close_oldest();
    if (open_.size() == before) break;
  }
}

result<done> stored_files::read(std::uint32_t file, bytes offset, std::span<std::byte> to) {
  if (to.empty()) return done{};
  const auto descriptor = acquire(file);
  if (!descriptor) return descriptor.propagate();
  const auto& f = files_[file];
  result<done> out = done{};
  for (std::size_t filled = 0; filled < to.size();) {
    const auto at = offset + filled;
    const auto n = ::pread(*descriptor, to.data() + filled, to.size() - filled, static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      out = cannot_read(f.path, at, errno);
    else if (n == 0)
      out = changed(f.path, at, offset + to.size(), at);
    if (n <= 0) break;
    filled += static_cast<std::size_t>(n);
  }
  // A file that was written to in between has given bytes of both versions.
  if (out) out = check_unchanged(f, *descriptor);
  release(file);
  return out;
}

}  // namespace berth
