// SPDX-License-Identifier: Apache-2.0
module;

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <vector>

export module berth.sim:contents;

import berth.base;
import berth.exec;

export namespace berth::sim {

/// What lies in simulated memory: which stored bytes every place got last. Simulated machines move no bytes, but they
/// know where the bytes came from, so that a checksum tells a wrong read from a right one. A fixed number of places,
/// found by where they begin; machines that exchange buffers share one table.
class content_table {
 public:
  content_table(std::uint32_t places, std::pmr::memory_resource* memory)
      : slots_(std::bit_ceil(std::size_t{places} * 2), memory), most_(places) {}

  /// A number for a new buffer.
  std::uint64_t new_buffer() { return ++buffers_; }

  /// False: no room for another place.
  bool put(std::uint64_t buffer, bytes offset, const storage_range& from) {
    auto& s = slot(buffer, offset);
    if (s.buffer == 0) {
      if (used_ == most_) return false;
      ++used_;
    }
    s = {buffer, offset, from};
    return true;
  }
  /// What begins at this place, if it is at least `size` bytes long.
  std::optional<storage_range> find(std::uint64_t buffer, bytes offset, bytes size) const {
    const auto& s = const_cast<content_table*>(this)->slot(buffer, offset);
    if (s.buffer == 0 || s.from.size < size) return std::nullopt;
    return storage_range{s.from.file, s.from.offset, size};
  }

  /// Stands for the checksum of stored bytes: equal for equal ranges, different for nearly all others.
  static std::uint64_t checksum(const storage_range& r) {
    return mix(mix(mix(0x9e3779b97f4a7c15u, r.file), r.offset), r.size);
  }

 private:
  struct place {
    std::uint64_t buffer = 0;  ///< 0: free
    bytes offset = 0;
    storage_range from;
  };
  static std::uint64_t mix(std::uint64_t h, std::uint64_t v) {
    h = (h ^ v) * 0xff51afd7ed558ccdu;
    return h ^ h >> 32;
  }
  place& slot(std::uint64_t buffer, bytes offset) {
    auto at = static_cast<std::size_t>(mix(mix(0, buffer), offset)) & (slots_.size() - 1);
    while (slots_[at].buffer != 0 && (slots_[at].buffer != buffer || slots_[at].offset != offset))
      at = (at + 1) & (slots_.size() - 1);
    return slots_[at];
  }

  std::pmr::vector<place> slots_;
  std::size_t most_, used_ = 0;
  std::uint64_t buffers_ = 0;
};

}  // namespace berth::sim
