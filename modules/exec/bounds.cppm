// SPDX-License-Identifier: Apache-2.0
module;

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <string_view>
#include <vector>

export module berth.exec:bounds;

import berth.base;
import :handles;

export namespace berth {

/// How much a decorator keeps track of at once. Its tables are allocated at construction; what exceeds one fails with
/// `capacity` before the machine underneath is called.
struct machine_bounds {
  std::uint32_t streams = 256;
  std::uint32_t events = 4096;
  std::uint32_t buffers = 4096;  ///< live at a time
  std::uint32_t faults = 1024;   ///< of `faulty`: entries of the list of injected faults
  std::uint32_t queued = 4096;   ///< of `joined`: operations that wait for an event of another machine
};

}  // namespace berth

namespace berth::detail {

inline failure beyond_bound(std::string_view what, std::uint64_t bound) {
  return fail(errc::capacity, what, text<64>("the decorator keeps track of at most ").append(bound), bound + 1, bound);
}

/// What a decorator knows of handles: a map with linear probing that never grows. Machines may number handles as they
/// like; only how many are live at a time is bounded.
template <class T>
class handle_table {
 public:
  handle_table(std::size_t bound, std::pmr::memory_resource* memory)
      : slots_(std::bit_ceil(2 * bound + 2), memory), bound_(bound) {}

  bool full() const { return size_ == bound_; }
  std::size_t size() const { return size_; }
  std::size_t bound() const { return bound_; }

  /// Null: not in the table.
  T* find(std::uint32_t handle) {
    const auto i = position(handle);
    return slots_[i].handle == handle && handle != no_handle ? &slots_[i].value : nullptr;
  }
  const T* find(std::uint32_t handle) const {
    const auto i = position(handle);
    return slots_[i].handle == handle && handle != no_handle ? &slots_[i].value : nullptr;
  }
  /// Adds or replaces. Precondition: not full, and a handle.
  void set(std::uint32_t handle, const T& value) {
    auto& s = slots_[position(handle)];
    if (s.handle == no_handle) ++size_;
    s = {handle, value};
  }
  void erase(std::uint32_t handle) {
    auto hole = position(handle);
    if (slots_[hole].handle != handle || handle == no_handle) return;
    // Closes the gap, so that probing never meets a hole before what it looks for.
    for (auto i = next(hole); slots_[i].handle != no_handle; i = next(i)) {
      const auto home = home_of(slots_[i].handle);
      const bool stays = hole <= i ? hole < home && home <= i : hole < home || home <= i;
      if (stays) continue;
      slots_[hole] = slots_[i];
      hole = i;
    }
    slots_[hole] = {};
    --size_;
  }
  /// Calls `f(handle, value)` for all, in the order of the slots.
  template <class F>
  void each(F&& f) const {
    for (const auto& s : slots_)
      if (s.handle != no_handle) f(s.handle, s.value);
  }

 private:
  struct slot {
    std::uint32_t handle = no_handle;
    T value{};
  };

  std::size_t home_of(std::uint32_t handle) const { return (handle * std::size_t{0x9e3779b1u}) & (slots_.size() - 1); }
  std::size_t next(std::size_t i) const { return (i + 1) & (slots_.size() - 1); }
  /// Where the handle is, or the empty slot where it would go.
  std::size_t position(std::uint32_t handle) const {
    auto i = home_of(handle);
    while (slots_[i].handle != no_handle && slots_[i].handle != handle) i = next(i);
    return i;
  }

  std::pmr::vector<slot> slots_;  // at least half of them empty
  std::size_t bound_;
  std::size_t size_ = 0;
};

}  // namespace berth::detail
