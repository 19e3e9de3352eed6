// SPDX-License-Identifier: Apache-2.0
// Exports nothing: weight files as reader threads use them.
module;

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

export module berth.runtime:weight_files;

import berth.base;

namespace berth::detail {

/// Where bytes came from.
struct read_counts {
  bytes cached = 0;  ///< through the page cache
  bytes direct = 0;  ///< from the disk into memory (O_DIRECT)
};

/// Files that are opened when first read, and read with many threads. What is in the page cache is copied from there;
/// the rest comes by direct I/O where file system, offset and memory allow it, so that a large checkpoint does not
/// drive everything else out of the cache. A bounded number of descriptors stays open.
class weight_files {
 public:
  /// `sizes` as they were when the headers were read. Both must outlive this.
  weight_files(std::span<const std::string> paths, std::span<const bytes> sizes, bool direct);
  ~weight_files();
  weight_files(const weight_files&) = delete;
  weight_files& operator=(const weight_files&) = delete;

  /// Fills `to` from `offset` on. `slack` bytes before and behind `to` are this caller's to overwrite: with them a
  /// direct read may begin early and end late. Errors: `not_found`; `unreadable` with the number of bytes that arrived
  /// in `available`; `corrupted` for a file of another size than when its header was read.
  result<read_counts> read(std::uint32_t file, bytes offset, std::span<std::byte> to, bytes slack);

  /// Whether every file that was read is still what it was when it was opened. Error: `corrupted`.
  result<done> unchanged() const;

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace berth::detail
