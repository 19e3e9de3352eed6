// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <string>

// Not exported: readers of this module only.
export module berth.formats:input_file;

import berth.base;

namespace berth {

/// A regular file open for reading; closed on the way out.
class input_file {
 public:
  /// Errors: `not_found` (also for a symbolic link whose target is gone), `unreadable` for folders, devices and
  /// permission problems.
  static result<input_file> open(const std::string& path);

  input_file(input_file&& other) noexcept;
  input_file& operator=(input_file&& other) noexcept;
  ~input_file();

  bytes size() const { return size_; }
  /// Bytes really read: fewer than `n` at the end of the file or on an error.
  std::size_t read_at(char* to, std::size_t n, std::uint64_t offset) const;

 private:
  input_file(int fd, bytes size) : fd_(fd), size_(size) {}
  int fd_;
  bytes size_;
};

}  // namespace berth
