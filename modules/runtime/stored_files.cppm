// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <vector>

// Not exported: files that weights are read from.
export module berth.runtime:stored_files;

import berth.base;

namespace berth {

/// Files by number, opened when they are first read and closed when too many are open. Remembers what every file was
/// like when it was added: one that is not so any more is an error. Reads may come from several threads.
class stored_files {
 public:
  explicit stored_files(std::size_t most_open) : most_open_(most_open > 0 ? most_open : 1) {}
  stored_files(const stored_files&) = delete;
  stored_files& operator=(const stored_files&) = delete;
  ~stored_files();

  /// Not while reads are under way. `size` is what the file is known to have.
  std::uint32_t add(std::string path, bytes size);
  std::uint32_t count() const { return static_cast<std::uint32_t>(files_.size()); }

  /// Fills `to` from `offset` on. Errors: `not_found`, `unreadable`, `corrupted` for a file that changed or ends early.
  result<done> read(std::uint32_t file, bytes offset, std::span<std::byte> to);

 private:
  struct times {
    std::int64_t seconds = 0, nanoseconds = 0;
    friend bool operator==(const times&, const times&) = default;
  };
  struct file {
    std::string path;
    bytes size = 0;
    times written;
    bool found = false;
    int descriptor = -1;
    std::uint32_t readers = 0;
    std::uint64_t last_use = 0;
  };

  result<int> acquire(std::uint32_t number);
  void release(std::uint32_t number);
  void close_oldest();
  result<done> check_unchanged(const file& f, int descriptor) const;

  std::mutex mutex_;  ///< guards descriptors, readers and last uses
  std::vector<file> files_;
  std::vector<std::uint32_t> open_;
  std::size_t most_open_;
  std::uint64_t uses_ = 0;
};

}  // namespace berth
