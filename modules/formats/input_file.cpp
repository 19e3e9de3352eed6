// SPDX-License-Identifier: Apache-2.0
module;

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

module berth.formats;

import :input_file;

namespace berth {

result<input_file> input_file::open(const std::string& path) {
  // O_NONBLOCK: opening a named pipe must not wait for a writer; it does nothing for regular files.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  const int code = errno;
  struct stat info{};
  if (fd < 0) {
    if (code == ENOENT && lstat(path.c_str(), &info) == 0 && S_ISLNK(info.st_mode))
      return fail(errc::not_found, path,
                  "a symbolic link whose target does not exist (an incomplete hub cache?); download the file again");
    if (code == ENOENT || code == ENOTDIR) return fail(errc::not_found, path, "no such file or folder");
    return fail(errc::unreadable, path, text<416>("cannot be opened: ").append(std::strerror(code)));
  }
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return fail(errc::unreadable, path, S_ISDIR(info.st_mode) ? "is a folder, not a file" : "is not a regular file");
  }
  return input_file(fd, static_cast<bytes>(info.st_size));
}

input_file::input_file(input_file&& other) noexcept : fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

input_file& input_file::operator=(input_file&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  return *this;
}

input_file::~input_file() {
  if (fd_ >= 0) ::close(fd_);
}

std::size_t input_file::read_at(char* to, std::size_t n, std::uint64_t offset) const {
  std::size_t got = 0;
  while (got < n) {
    const auto r = ::pread(fd_, to + got, n - got, static_cast<off_t>(offset + got));
    if (r < 0 && errno == EINTR) continue;
    if (r <= 0) break;
    got += static_cast<std::size_t>(r);
  }
  return got;
}

}  // namespace berth
