// SPDX-License-Identifier: Apache-2.0
// Stored files whose bytes say where they are. Include before the imports of the test file.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

import berth;

namespace host_test {

inline std::byte byte_at(std::uint32_t file, berth::bytes offset) {
  const auto h = (offset + 1) * 0x9e3779b97f4a7c15u ^ (file + 1) * 0xff51afd7ed558ccdu;
  return static_cast<std::byte>((h ^ h >> 29) >> 16);
}

/// A file: its size, and the file whose bytes it has (its own number, or that of one with the same bytes).
struct generated_file {
  berth::bytes size = 0;
  std::uint32_t bytes_of = 0;
};

/// Each file has one byte more behind it, so that a read at a wrong place finds wrong bytes.
class generated_files {
 public:
  explicit generated_files(std::vector<generated_file> files) : files_(std::move(files)) {}

  berth::storage as_storage() {
    return {this, [](void* self, const berth::storage_range& from, std::span<std::byte> to) {
              return static_cast<generated_files*>(self)->read(from, to);
            }};
  }
  /// The n-th read from now on fails, the first being 1; 0: none.
  void fail_at(int n) { until_failure_ = n; }
  int reads() const { return reads_; }

 private:
  berth::result<berth::done> read(const berth::storage_range& from, std::span<std::byte> to) {
    ++reads_;
    if (until_failure_ > 0 && --until_failure_ == 0)
      return berth::fail(berth::errc::unreadable, "file " + std::to_string(from.file), "the disk went away");
    if (from.file >= files_.size())
      return berth::fail(berth::errc::not_found, "file " + std::to_string(from.file), "there is no such file");
    const auto& f = files_[from.file];
    if (from.offset + to.size() > f.size + 1)
      return berth::fail(berth::errc::invalid_argument, "file " + std::to_string(from.file), "the range leaves it");
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = byte_at(f.bytes_of, from.offset + i);
    return berth::done{};
  }

  std::vector<generated_file> files_;
  std::atomic<int> until_failure_ = 0, reads_ = 0;
};

}  // namespace host_test
