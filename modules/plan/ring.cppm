// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <span>

export module berth.plan:ring;

import berth.base;

export namespace berth {

/// One streamed atom of a round: its copy, its compute, and the resident compute up to the next streamed atom
/// (the last one's goes on to the first of the next round). All >= 0.
struct ring_item {
  picoseconds copy = 0;
  picoseconds compute = 0;
  picoseconds resident_after = 0;
};

}  // namespace berth

// The rounds of a ring over anything that has size(), copy(j), compute(j) and resident_after(j); `Cell` is any 64-bit
// integer, so that solvers whose scratch is unsigned need no second copy of the items.
namespace berth::detail {

constexpr picoseconds later(picoseconds a, picoseconds b) { return a < b ? b : a; }

/// The event graph of planning.md 4, run forward. Copy g ends at x(g) = max(x(g-1), c(g-K)) + copy, compute g ends at
/// c(g) = max(c(g-1) + resident(g-1), x(g)) + compute. The state between two rounds is x of the last item and c of the
/// last K items; one round is a max-plus linear map of it. Precondition: 1 <= slots <= size, `ended` has size cells.
template <class Items, class Cell>
struct ring_rounds {
  const Items& items;
  std::size_t slots;
  std::span<Cell> ended;  ///< when the compute of each item ended, last time round
  picoseconds copied = 0;
  picoseconds free_at = 0;

  /// Smallest and largest advance of a component of the state in one round.
  struct growth {
    picoseconds least = never;
    picoseconds most = 0;
    constexpr void see(picoseconds d) {
      least = d < least ? d : least;
      most = later(most, d);
    }
  };

  constexpr void rest() {
    for (auto& e : ended) e = 0;
    copied = 0;
    free_at = items.resident_after(items.size() - 1);
  }

  constexpr growth advance() {
    const std::size_t m = items.size();
    const auto before = copied;
    growth g;
    for (std::size_t j = 0; j < m; ++j) {
      const auto freed = static_cast<picoseconds>(ended[j < slots ? m - slots + j : j - slots]);
      copied = later(copied, freed) + items.copy(j);
      const auto end = later(free_at, copied) + items.compute(j);
      if (j >= m - slots) g.see(end - static_cast<picoseconds>(ended[j]));
      ended[j] = static_cast<Cell>(end);
      free_at = end + items.resident_after(j);
    }
    g.see(copied - before);
    return g;
  }
};

/// Rounds after which the growth is the period; why four: see `ring_period`.
inline constexpr int ring_transient = 4;

template <class Items, class Cell>
constexpr picoseconds period_of(const Items& items, std::size_t slots, std::span<Cell> ended, picoseconds enough) {
  const std::size_t m = items.size();
  picoseconds copies = 0, computes = 0;
  for (std::size_t j = 0; j < m; ++j) {
    copies += items.copy(j);
    computes += items.compute(j) + items.resident_after(j);
  }
  auto low = later(copies, computes);
  if (slots > m) return low;
  ring_rounds<Items, Cell> rounds{items, slots, ended.first(m)};
  rounds.rest();
  auto high = never;
  for (int r = 0; r < ring_transient && low < high && low < enough; ++r) {
    const auto g = rounds.advance();
    low = later(low, g.least);
    high = g.most < high ? g.most : high;
  }
  return low;
}

struct item_view {
  std::span<const ring_item> items;
  constexpr std::size_t size() const { return items.size(); }
  constexpr picoseconds copy(std::size_t j) const { return items[j].copy; }
  constexpr picoseconds compute(std::size_t j) const { return items[j].compute; }
  constexpr picoseconds resident_after(std::size_t j) const { return items[j].resident_after; }
};

}  // namespace berth::detail

export namespace berth {

/// Cells of scratch for `ring_period`.
constexpr std::size_t ring_cells(std::size_t items, std::uint32_t slots) { return slots > items ? 0 : items; }

/// Steady-state period of a decode round in picoseconds: the maximum cycle ratio of the event graph (planning.md 4).
/// 0 for no items. Preconditions: slots >= 1, `ring_cells` cells, four rounds of all copies and computes fit 63 bits.
/// With `enough` the search may stop early: a returned value >= enough is only a lower bound of the period.
/// Exact, at most four passes over the items, whatever the slots; no allocation.
///
/// Why (S = all copies, C = all compute of a round, L = the period, "token" = one wrap-around):
/// - A simple cycle passes every copy and compute at most once, so it weighs at most S + C. With w >= 2 tokens its
///   ratio is at most (S + C) / 2 <= max(S, C), the ratio of the two plain cycles: some critical cycle has one token,
///   and L is an integer. With slots > items a freed slot skips more than a round, so L = max(S, C).
/// - For every state v, the smallest and largest growth of v in a round enclose L (Baccelli et al. 1992, 3.2).
/// - Starting at rest, v(r) is the heaviest walk with r tokens. From r = 3 on some heaviest walk repeats a vertex: one
///   that does not weighs at most S + C, and two full rounds along the heavier line weigh no less.
/// - Hence v(r+1) <= v(r) + L for r >= 2: take out the simple cycle between the repeats (one token: at most L), or
///   put one round less of the plain cycle in its place (w >= 2 tokens: S + C - S or S + C - C, at most L).
/// - If L > max(S, C), v(r+1) >= v(r) + L for r >= 3: a critical cycle c uses both lines. A walk that meets c takes it
///   in. One that does not has a closed piece disjoint from c, at most S + C - L; the plain cycle of the same tokens
///   with c inserted weighs at least min(S, C) + L, which is L more whenever L >= max(S, C).
/// So the third round closes the enclosure if L = max(S, C), and the fourth always.
constexpr picoseconds ring_period(std::span<const ring_item> items, std::uint32_t slots, std::span<picoseconds> scratch,
                                  picoseconds enough = never) {
  return detail::period_of(detail::item_view{items}, slots, scratch, enough);
}

/// Cells of scratch for `ring_round_ends`.
constexpr std::size_t ring_end_cells(std::size_t items, std::uint32_t slots, std::size_t rounds) {
  return slots < items * rounds ? slots : 0;
}

/// The transient: end of each of the first `out.size()` rounds (with the last item's resident compute) when everything
/// starts idle at time 0, in picoseconds. O(items) per round. Preconditions as for `ring_period`, `ring_end_cells`.
constexpr void ring_round_ends(std::span<const ring_item> items, std::uint32_t slots, std::span<picoseconds> out,
                               std::span<picoseconds> scratch) {
  const bool bounded = slots < items.size() * out.size();  // else no copy ever waits for a slot
  if (bounded)
    for (std::uint32_t k = 0; k < slots; ++k) scratch[k] = 0;
  picoseconds copied = 0, free_at = 0;
  std::size_t slot = 0;
  for (auto& end : out) {
    for (const auto& item : items) {
      copied = detail::later(copied, bounded ? scratch[slot] : picoseconds{0}) + item.copy;
      const auto computed = detail::later(free_at, copied) + item.compute;
      if (bounded) {
        scratch[slot] = computed;
        slot = slot + 1 == slots ? 0 : slot + 1;
      }
      free_at = computed + item.resident_after;
    }
    end = free_at;
  }
}

}  // namespace berth
