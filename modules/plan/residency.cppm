// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

export module berth.plan:residency;

import berth.model;
import :ring;

export namespace berth {

/// One atom of a device's chain, as the choice of residents sees it.
struct residency_atom {
  bytes weights = 0;        ///< on the device if resident, through a staging slot if streamed
  bytes state = 0;          ///< on the device in either case
  bytes workspace = 0;      ///< while the atom runs
  picoseconds compute = 0;  ///< of one decode step
  picoseconds copy = 0;     ///< of the weights into a slot
  bool must_stay = false;   ///< never streamed (tied to a resident, pinned)
};

/// A device that runs its atoms round after round; which of them stream is to be chosen.
/// Preconditions of everything below: slots >= 1; all sums of bytes, and slots x the largest atom, fit 63 bits; four
/// rounds of all times fit 63 bits; times are >= 0.
struct residency_problem {
  std::span<const residency_atom> atoms;
  bytes memory = 0;
  std::uint32_t slots = 2;
};

/// Bytes that the device needs when the atoms marked in `streamed` stream:
/// resident weights + all states + largest workspace + slots x largest streamed weights. O(atoms).
constexpr bytes residency_need(const residency_problem& p, std::span<const std::uint8_t> streamed) {
  bytes resident = 0, state = 0, workspace = 0, slot = 0;
  for (std::size_t i = 0; i < p.atoms.size(); ++i) {
    const auto& a = p.atoms[i];
    state += a.state;
    workspace = std::max(workspace, a.workspace);
    if (streamed[i] != 0)
      slot = std::max(slot, a.weights);
    else
      resident += a.weights;
  }
  return resident + state + workspace + p.slots * slot;
}

/// Compute of a round: the period when everything is resident, and a bound otherwise.
constexpr picoseconds round_compute(const residency_problem& p) {
  picoseconds sum = 0;
  for (const auto& a : p.atoms) sum += a.compute;
  return sum;
}

}  // namespace berth

namespace berth::detail {

/// Items of a ring in plain cells: copy, compute, resident compute after.
struct ring_cells_view {
  std::span<const std::uint64_t> cells;
  std::size_t count = 0;
  constexpr std::size_t size() const { return count; }
  constexpr picoseconds copy(std::size_t j) const { return static_cast<picoseconds>(cells[3 * j]); }
  constexpr picoseconds compute(std::size_t j) const { return static_cast<picoseconds>(cells[3 * j + 1]); }
  constexpr picoseconds resident_after(std::size_t j) const { return static_cast<picoseconds>(cells[3 * j + 2]); }
};

/// Period when the atoms with a mark stream. Compute before the first streamed atom belongs to the last one's rest.
template <class Mark>
constexpr picoseconds period_with(const residency_problem& p, std::span<Mark> streamed,
                                  std::span<std::uint64_t> scratch, picoseconds enough) {
  const std::size_t n = p.atoms.size();
  const auto cells = scratch.first(3 * n);
  std::size_t m = 0;
  picoseconds before = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const auto& a = p.atoms[i];
    if (streamed[i] != 0) {
      cells[3 * m] = static_cast<std::uint64_t>(a.copy);
      cells[3 * m + 1] = static_cast<std::uint64_t>(a.compute);
      cells[3 * m + 2] = 0;
      ++m;
    } else if (m == 0) {
      before += a.compute;
    } else {
      cells[3 * m - 1] += static_cast<std::uint64_t>(a.compute);
    }
  }
  if (m == 0) return before;
  cells[3 * m - 1] += static_cast<std::uint64_t>(before);
  return period_of(ring_cells_view{cells, m}, p.slots, scratch.subspan(3 * n, n), enough);
}

/// What the choice is about once states and workspaces are paid: which weights to give up.
///
/// For a slot size s, a set of atoms of at most s bytes is allowed if it holds at least
/// need(s) = all weights + slots x s - room. Some s is the largest streamed size, so the allowed sets of all s together
/// are all allowed sets. Streaming one atom more with the same slots never shortens the period (the schedule of the
/// larger set, with the additional atom's copy left out, obeys every rule of the smaller), so smallest sets suffice.
///
/// A set costs the sum of its copies; with one slot, of its copies and its compute (a copy waits for the compute before
/// it). The period is at least that and at least C, hence at least the cheapest cover of need(s).
class residency_levels {
 public:
  static constexpr std::size_t cells(std::size_t atoms) { return atoms; }

  constexpr residency_levels(const residency_problem& p, std::span<std::uint64_t> scratch)
      : p_(p), by_ratio_(scratch.first(p.atoms.size())) {
    bytes states = 0, workspace = 0;
    std::size_t count = 0;
    for (std::size_t i = 0; i < p.atoms.size(); ++i) {
      const auto& a = p.atoms[i];
      states += a.state;
      workspace = std::max(workspace, a.workspace);
      weights_ += a.weights;
      if (!a.must_stay && a.weights > 0) by_ratio_[count++] = i;
    }
    compute_ = round_compute(p);
    fixed_ = states + workspace;
    by_ratio_ = by_ratio_.first(count);
    std::sort(by_ratio_.begin(), by_ratio_.end(), [this](std::uint64_t a, std::uint64_t b) {
      const auto left = static_cast<__int128>(cost(a)) * static_cast<__int128>(size(b));
      const auto right = static_cast<__int128>(cost(b)) * static_cast<__int128>(size(a));
      if (left != right) return left < right;
      return size(a) != size(b) ? size(a) > size(b) : a < b;
    });
  }

  constexpr bytes size(std::uint64_t i) const { return p_.atoms[i].weights; }
  constexpr picoseconds cost(std::uint64_t i) const {
    const auto& a = p_.atoms[i];
    return p_.slots == 1 ? a.copy + a.compute : a.copy;
  }
  constexpr picoseconds compute() const { return compute_; }
  /// Atoms that may stream, cheapest per byte first.
  constexpr std::span<const std::uint64_t> candidates() const { return by_ratio_; }

  constexpr bool all_fit() const { return fixed_ <= p_.memory && weights_ <= p_.memory - fixed_; }
  /// Bytes to stream at least with slots of s bytes. Positive unless everything fits.
  constexpr bytes need(bytes s) const {
    const bytes wanted = fixed_ + weights_ + p_.slots * s;
    return wanted > p_.memory ? wanted - p_.memory : 0;
  }
  constexpr bool reachable(bytes s) const {
    bytes sum = 0;
    for (const auto i : by_ratio_)
      if (size(i) <= s) sum += size(i);
    return sum >= need(s);
  }
  /// Smallest memory with which some choice is allowed.
  constexpr bytes least_memory() const {
    bytes least = fixed_ + weights_;
    for (const auto i : by_ratio_) {
      bytes sum = 0;
      for (const auto j : by_ratio_)
        if (size(j) <= size(i)) sum += size(j);
      least = std::min(least, fixed_ + weights_ + p_.slots * size(i) - sum);
    }
    return least;
  }

  /// Cheapest cover of need(s), or less: exact where the atoms are of few kinds, else the linear relaxation.
  constexpr picoseconds cover(bytes s) const {
    const bytes wanted = need(s);
    const auto relaxed = relaxation(0, s, wanted);
    if (relaxed <= compute_ || kinds(s) > max_kinds) return relaxed;
    cover_search c{never, max_cover_steps};
    extend(c, 0, s, wanted, 0);
    return c.steps == 0 ? relaxed : c.best;
  }

 private:
  static constexpr std::size_t max_kinds = 12;
  static constexpr std::uint32_t max_cover_steps = 2000;

  constexpr bool alike(std::size_t k, std::size_t l) const {
    return size(by_ratio_[k]) == size(by_ratio_[l]) && cost(by_ratio_[k]) == cost(by_ratio_[l]);
  }
  constexpr std::size_t kinds(bytes s) const {
    std::size_t count = 0;
    for (std::size_t k = 0; k < by_ratio_.size(); ++k)
      if (size(by_ratio_[k]) <= s && (k == 0 || !alike(k - 1, k))) ++count;
    return count;
  }

  /// Least cost of `wanted` bytes from the candidates from the k-th on, the last one in part; `never` if too few.
  constexpr picoseconds relaxation(std::size_t k, bytes s, bytes wanted) const {
    picoseconds sum = 0;
    for (; wanted > 0 && k < by_ratio_.size(); ++k) {
      const auto i = by_ratio_[k];
      if (size(i) > s) continue;
      if (size(i) < wanted) {
        sum += cost(i);
        wanted -= size(i);
        continue;
      }
      const auto part = static_cast<unsigned __int128>(cost(i)) * wanted;
      return sum + static_cast<picoseconds>((part + size(i) - 1) / size(i));
    }
    return wanted == 0 ? sum : never;
  }

  struct cover_search {
    picoseconds best;
    std::uint32_t steps;
  };
  /// Depth-first over the kinds: as many as useful of each first. The depth is at most `max_kinds`.
  constexpr void extend(cover_search& c, std::size_t k, bytes s, bytes wanted, picoseconds paid) const {
    if (c.steps == 0) return;
    --c.steps;
    if (wanted == 0) {
      c.best = std::min(c.best, paid);
      return;
    }
    while (k < by_ratio_.size() && size(by_ratio_[k]) > s) ++k;
    if (k == by_ratio_.size()) return;
    const auto rest = relaxation(k, s, wanted);
    if (rest == never || paid + rest >= c.best) return;
    std::size_t next = k + 1;
    while (next < by_ratio_.size() && alike(k, next)) ++next;
    const bytes each = size(by_ratio_[k]);
    for (auto count = std::min<std::uint64_t>(next - k, (wanted + each - 1) / each) + 1; count-- > 0;) {
      const bytes taken = count * each;
      extend(c, next, s, taken < wanted ? wanted - taken : 0,
             paid + static_cast<picoseconds>(count) * cost(by_ratio_[k]));
    }
  }

  const residency_problem& p_;
  std::span<std::uint64_t> by_ratio_;
  bytes weights_ = 0;
  bytes fixed_ = 0;
  picoseconds compute_ = 0;
};

}  // namespace berth::detail

export namespace berth {

/// Cells of scratch for `residency_period` and `residency_bound`.
constexpr std::size_t residency_cells(std::size_t atoms) { return 4 * atoms; }

/// Steady-state period, in picoseconds, of a decode round when the atoms marked in `streamed` stream; whether they fit
/// is not asked. With `enough` as in `ring_period`. O(atoms).
constexpr picoseconds residency_period(const residency_problem& p, std::span<const std::uint8_t> streamed,
                                       std::span<std::uint64_t> scratch, picoseconds enough = never) {
  return detail::period_with(p, streamed, scratch, enough);
}

/// Lower bound of the period of every allowed choice, in picoseconds; `never` if no choice is allowed.
/// max(C, least copies), least copies = minimum over slot sizes s of the cheapest set of atoms of at most s bytes that
/// frees enough memory (planning.md 5, item 6, with whole atoms instead of bytes where they are of few kinds).
/// O(atoms^2) plus at most 2000 steps per slot size.
constexpr picoseconds residency_bound(const residency_problem& p, std::span<std::uint64_t> scratch) {
  const detail::residency_levels levels(p, scratch);
  if (levels.all_fit()) return levels.compute();
  auto best = never;
  bytes last = 0;
  for (const auto i : levels.candidates()) {
    const auto s = levels.size(i);
    if (s == last) continue;  // equal atoms lie side by side
    last = s;
    if (levels.reachable(s)) best = std::min(best, std::max(levels.compute(), levels.cover(s)));
    if (best == levels.compute()) break;
  }
  return best;
}

}  // namespace berth
