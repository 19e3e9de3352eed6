// SPDX-License-Identifier: Apache-2.0
// Periods of streaming rounds known at compile time. Passes by compiling within the compiler's default limits.
#include <array>
#include <cstddef>
#include <cstdint>

import berth;

namespace {

using namespace berth;

template <std::size_t M>
consteval picoseconds period(std::array<ring_item, M> items, std::uint32_t slots) {
  std::array<picoseconds, M> scratch{};
  return ring_period(items, slots, scratch);
}

// One item: with one slot its copy waits for its compute, and only the resident part overlaps.
static_assert(period<1>({{{5, 3, 0}}}, 1) == 8);
static_assert(period<1>({{{5, 3, 7}}}, 1) == 10);
static_assert(period<1>({{{5, 3, 1}}}, 2) == 5);
static_assert(period<1>({{{5, 3, 9}}}, 2) == 12);
// One slot: sum of compute + max(copy, resident before it). Two slots and equal items: the larger of the two sums.
static_assert(period<2>({{{4, 1, 6}, {9, 2, 3}}}, 1) == (1 + 4) + (2 + 9));
static_assert(period<3>({{{10, 2, 5}, {10, 2, 5}, {10, 2, 5}}}, 2) == 30);
static_assert(period<3>({{{10, 2, 9}, {10, 2, 9}, {10, 2, 9}}}, 2) == 33);
// Residents in one run leave the copy engine waiting; spread, they do not.
static_assert(period<4>({{{10, 8, 0}, {10, 8, 0}, {10, 8, 0}, {10, 8, 20}}}, 2) == 56);
static_assert(period<4>({{{10, 8, 5}, {10, 8, 5}, {10, 8, 5}, {10, 8, 5}}}, 2) == 52);
static_assert(period<4>({{{0, 0, 0}, {0, 0, 0}, {0, 0, 0}, {0, 0, 0}}}, 3) == 0);

/// Six atoms of 10 bytes, 5 to compute and 8 to copy, two slots: how many stream, and the period.
struct outcome {
  picoseconds period = 0;
  int streamed = 0;
  bool proven = false;
};
consteval outcome choose(bytes memory) {
  std::array<residency_atom, 6> atoms{};
  for (auto& a : atoms) a = {.weights = 10, .compute = 5, .copy = 8};
  std::array<std::uint8_t, 6> streamed{};
  std::array<std::uint64_t, residency_search_cells(6)> scratch{};
  const auto choice = choose_residents({atoms, memory, 2}, streamed, scratch);
  outcome o{choice->period, 0, choice->proven};
  for (const auto s : streamed) o.streamed += s;
  return o;
}
static_assert(choose(60).period == 30 && choose(60).streamed == 0 && choose(60).proven);
static_assert(choose(50).period == 30 && choose(50).streamed == 3 && choose(50).proven);
static_assert(choose(40).period == 32 && choose(40).streamed == 4 && choose(40).proven);

}  // namespace
