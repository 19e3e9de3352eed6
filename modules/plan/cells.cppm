// SPDX-License-Identifier: Apache-2.0
// Not exported: typed arrays inside the 64-bit cells that strategies are given as scratch.
module;

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>

export module berth.plan:cells;

namespace berth {

/// Cells that `count` objects of type T take.
template <class T>
constexpr std::size_t cells_for(std::size_t count) {
  return (count * sizeof(T) + sizeof(std::uint64_t) - 1) / sizeof(std::uint64_t);
}

/// Cuts arrays off the front of a span of cells. The caller has computed the need with `cells_for`.
class cell_cutter {
 public:
  explicit cell_cutter(std::span<std::uint64_t> cells) : cells_(cells) {}

  template <class T>
  std::span<T> take(std::size_t count) {
    static_assert(alignof(T) <= alignof(std::uint64_t));
    auto* first = reinterpret_cast<T*>(cells_.data());
    for (std::size_t i = 0; i < count; ++i) new (first + i) T();
    cells_ = cells_.subspan(cells_for<T>(count));
    return {first, count};
  }
  std::span<std::uint64_t> rest() const { return cells_; }

 private:
  std::span<std::uint64_t> cells_;
};

}  // namespace berth
