// SPDX-License-Identifier: Apache-2.0
module;

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

module berth.runtime;

import berth.base;
import :new_files;

namespace berth {
namespace {

bytes left_on(const std::string& folder) {
  struct statvfs s{};
  if (::statvfs(folder.c_str(), &s) != 0) return 0;
  return static_cast<bytes>(s.f_bavail) * s.f_frsize;
}

}  // namespace

result<bytes> make_folder(const std::string& folder) {
  std::error_code problem;
  std::filesystem::create_directories(folder, problem);
  if (problem || !std::filesystem::is_directory(folder, problem))
    return fail(errc::unwritable, folder,
                text<416>("cannot be made a folder: ").append(problem ? problem.message() : "a file is in the way"));
  return left_on(folder);
}

failure new_files::cannot(std::string_view name, int error) const {
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  return fail(errc::unwritable, folder_ + "/" + std::string(name),
              text<416>("cannot be written: ")
                  .append(std::generic_category().message(error))
                  .append(full ? "; free the bytes it needs, or choose another folder"
                               : "; check the rights of the folder, or choose another one"),
              size_, full ? left_on(folder_) : 0);
}

new_files::~new_files() {
  if (descriptor_ >= 0) ::close(descriptor_);
  for (const auto& f : files_)
    if (!f.temporary.empty()) ::unlink(f.temporary.c_str());
}

result<done> new_files::begin(const std::string& name, bytes size) {
  size_ = size;
  written_ = 0;
  if (name.empty() || name.find('/') != std::string::npos || name.find('\0') != std::string::npos)
    return fail(errc::unsafe_path, name, "is no file name; a tensor of this name cannot be offloaded");
  for (unsigned attempt = 0;; ++attempt) {
    const auto temporary = folder_ + "/.berth-" + std::to_string(::getpid()) + "-" + std::to_string(files_.size()) +
                           "-" + std::to_string(attempt) + ".tmp";
    descriptor_ = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ >= 0) {
      files_.push_back({name, temporary});
      break;
    }
    if (errno != EINTR && (errno != EEXIST || attempt == 1000)) return cannot(name, errno);
  }
  // A disk that is too small says so before anything is written; file systems that cannot reserve go on without.
  if (size > 0 && ::fallocate(descriptor_, 0, 0, static_cast<off_t>(size)) != 0 &&
      (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
    return cannot(name, errno);
  return done{};
}

result<done> new_files::write(std::span<const std::byte> part) {
  while (!part.empty()) {
    const auto n = ::write(descriptor_, part.data(), part.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return cannot(files_.back().name, n < 0 ? errno : ENOSPC);
    written_ += static_cast<bytes>(n);
    part = part.subspan(static_cast<std::size_t>(n));
  }
  return done{};
}

result<done> new_files::finish() {
  const bool kept = written_ == size_ && ::fdatasync(descriptor_) == 0;
  const int error = kept ? 0 : written_ == size_ ? errno : EIO;
  const bool closed = ::close(std::exchange(descriptor_, -1)) == 0;
  if (!kept || !closed) return cannot(files_.back().name, kept ? errno : error);
  return done{};
}

result<done> new_files::commit() {
  for (auto& f : files_) {
    if (::rename(f.temporary.c_str(), (folder_ + "/" + f.name).c_str()) != 0) return cannot(f.name, errno);
    f.temporary.clear();
  }
  return done{};
}

}  // namespace berth
