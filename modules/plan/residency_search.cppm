// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

export module berth.plan:residency_search;

import berth.model;
import :ring;
import :residency;

export namespace berth {

struct residency_options {
  std::uint64_t max_steps = 5'000;  ///< periods computed at most, over the whole search
};

struct residency_choice {
  picoseconds period = 0;
  bytes resident = 0;   ///< weights that stay
  bool proven = false;  ///< no allowed choice is better: the bound is reached or the search was exhaustive
};

/// Cells of scratch for `choose_residents`.
constexpr std::size_t residency_search_cells(std::size_t atoms) {
  return detail::residency_levels::cells(atoms) + residency_cells(atoms) + 6 * atoms;
}

}  // namespace berth

namespace berth::detail {

/// Spread starts and swaps per slot size, then depth-first search for what they may have missed.
class residency_search {
 public:
  constexpr residency_search(const residency_problem& p, std::span<std::uint8_t> streamed,
                             std::span<std::uint64_t> scratch, std::uint64_t max_steps)
      : p_(p),
        n_(p.atoms.size()),
        levels_(p, scratch.first(n_)),
        best_(streamed),
        ring_(scratch.subspan(n_, 4 * n_)),
        in_(scratch.subspan(5 * n_, n_)),
        sizes_(scratch.subspan(6 * n_, n_)),
        bounds_(scratch.subspan(7 * n_, n_)),
        free_(scratch.subspan(8 * n_, n_)),
        order_(scratch.subspan(9 * n_, n_)),
        resident_(scratch.subspan(10 * n_, n_)),
        steps_(max_steps) {}

  constexpr result<residency_choice> run() {
    for (auto& b : best_) b = 0;
    if (levels_.all_fit()) return chosen(levels_.compute(), true);
    const auto count = list_levels();
    if (count == 0)
      return fail(errc::does_not_fit, "device", "not even the smallest set of resident atoms leaves room for the slots",
                  levels_.least_memory(), p_.memory);
    const auto bound = static_cast<picoseconds>(bounds_[order_[0]]);
    auto first = count;  // the level with the best start
    for (std::size_t l = 0; l < count && bound < value_; ++l)
      if (enter(order_[l]) && try_starts(bound)) first = l;
    // The best start first: the steps may not last for all.
    if (first < count && enter(order_[first])) improve_best(bound);
    for (std::size_t l = 0; l < count && bound < value_; ++l)
      if (enter(order_[l])) improve_starts(bound);
    bool finished = true;
    for (std::size_t l = 0; l < count && bound < value_ && finished; ++l)
      if (enter(order_[l])) finished = exhaust();
    return chosen(value_, finished || value_ == bound);
  }

 private:
  constexpr residency_choice chosen(picoseconds period, bool proven) const {
    bytes resident = 0;
    for (std::size_t i = 0; i < n_; ++i)
      if (best_[i] == 0) resident += p_.atoms[i].weights;
    return {period, resident, proven};
  }

  /// Slot sizes with an allowed set, by rising bound, then by size. Returns their number.
  constexpr std::size_t list_levels() {
    std::size_t count = 0;
    for (const auto i : levels_.candidates()) {
      const bytes s = levels_.size(i);
      if (std::find(sizes_.begin(), sizes_.begin() + static_cast<std::ptrdiff_t>(count), s) !=
          sizes_.begin() + static_cast<std::ptrdiff_t>(count))
        continue;
      if (!levels_.reachable(s)) continue;
      sizes_[count] = s;
      bounds_[count] = static_cast<std::uint64_t>(std::max(levels_.compute(), levels_.cover(s)));
      order_[count] = count;
      ++count;
    }
    const auto end = order_.begin() + static_cast<std::ptrdiff_t>(count);
    std::sort(order_.begin(), end, [this](std::uint64_t a, std::uint64_t b) {
      return bounds_[a] != bounds_[b] ? bounds_[a] < bounds_[b] : sizes_[a] < sizes_[b];
    });
    return count;
  }

  /// Makes `level` the current one; false if nothing better than the best can be in it.
  constexpr bool enter(std::uint64_t level) {
    if (static_cast<picoseconds>(bounds_[level]) >= value_) return false;
    slot_ = sizes_[level];
    need_ = levels_.need(slot_);
    const auto all = levels_.candidates();
    cheapest_ = *std::find_if(all.begin(), all.end(), [this](std::uint64_t i) { return size(i) <= slot_; });
    movable_ = 0;
    for (std::size_t i = 0; i < n_; ++i) {
      const auto& a = p_.atoms[i];
      if (!a.must_stay && a.weights > 0 && a.weights <= slot_) free_[movable_++] = i;
    }
    return true;
  }

  constexpr bytes size(std::size_t i) const { return p_.atoms[i].weights; }

  constexpr void clear() {
    for (auto& m : in_) m = 0;
    held_ = 0;
    paid_ = 0;
  }
  constexpr void put(std::size_t i, bool streamed) {
    in_[i] = streamed ? 1 : 0;
    held_ = streamed ? held_ + size(i) : held_ - size(i);
    paid_ += streamed ? levels_.cost(i) : -levels_.cost(i);
  }
  constexpr picoseconds period(picoseconds enough) {
    if (steps_ > 0) --steps_;
    return period_with(p_, in_, ring_, enough);
  }
  constexpr void keep(picoseconds value) {
    if (value >= value_) return;
    value_ = value;
    for (std::size_t i = 0; i < n_; ++i) best_[i] = in_[i] != 0 ? 1 : 0;
  }

  /// Starts spread over the chain by bytes at several phases, and one that streams the cheapest atoms.
  static constexpr int starts = 7;
  static constexpr double phases[starts] = {0.5, 0, 1, 0.25, 0.75, 0.125, 0.625};
  constexpr void begin(int start) {
    clear();
    if (start == 1)
      take_cheapest();
    else
      take_spread(phases[start]);
    repair();
  }
  /// True if one of them is the best so far.
  constexpr bool try_starts(picoseconds bound) {
    const auto before = value_;
    for (int start = 0; start < starts && value_ > bound && steps_ > 0; ++start) {
      begin(start);
      keep(period(value_));
    }
    return value_ < before;
  }
  constexpr void improve_starts(picoseconds bound) {
    for (int start = 0; start < starts && value_ > bound && steps_ > 0; ++start) {
      begin(start);
      descend(bound);
    }
  }
  constexpr void improve_best(picoseconds bound) {
    clear();
    for (std::size_t i = 0; i < n_; ++i)
      if (best_[i] != 0) put(i, true);
    descend(bound);
  }

  constexpr void take_spread(double phase) {
    double all = 0, due = 0;
    for (std::size_t k = 0; k < movable_; ++k) all += static_cast<double>(size(free_[k]));
    const double part = static_cast<double>(need_) / all;
    for (std::size_t k = 0; k < movable_; ++k) {
      const auto w = static_cast<double>(size(free_[k]));
      due += part * w;
      if (due < phase * w || due <= 0) continue;
      due -= w;
      put(free_[k], true);
    }
  }

  /// Whole kinds by falling value, the members of the last kind spread over the chain.
  constexpr void take_cheapest() {
    const auto all = levels_.candidates();
    for (std::size_t k = 0, next = 0; k < all.size() && held_ < need_; k = next) {
      const bytes each = size(all[k]);
      for (next = k; next < all.size() && size(all[next]) == each && levels_.cost(all[next]) == levels_.cost(all[k]);)
        ++next;
      if (each > slot_) continue;
      const auto members = next - k;
      const auto count = std::min<std::uint64_t>(members, (need_ - held_ + each - 1) / each);
      for (std::uint64_t t = 0; t < count; ++t) put(all[k + (2 * t + 1) * members / (2 * count)], true);
    }
  }

  /// Adds atoms until the set is allowed, then takes out what it does not need, largest first.
  constexpr void repair() {
    while (held_ < need_) {
      std::size_t pick = n_;
      for (std::size_t k = 0; k < movable_; ++k) {
        const auto i = free_[k];
        if (in_[i] != 0) continue;
        const bool closes = held_ + size(i) >= need_;
        const bool best_closes = pick < n_ && held_ + size(pick) >= need_;
        if (pick == n_ || (closes && (!best_closes || size(i) < size(pick))) ||
            (!closes && !best_closes && size(i) > size(pick)))
          pick = i;
      }
      put(pick, true);
    }
    while (drop_one()) {
    }
  }
  constexpr bool drop_one() {
    std::size_t pick = n_;
    for (std::size_t k = 0; k < movable_; ++k) {
      const auto i = free_[k];
      if (in_[i] != 0 && held_ - size(i) >= need_ && (pick == n_ || size(i) > size(pick))) pick = i;
    }
    if (pick != n_) put(pick, false);
    return pick != n_;
  }

  /// Exchanges a streamed atom for a resident one as long as that shortens the period, first among near ones.
  constexpr void descend(picoseconds bound) {
    auto value = period(never);
    keep(value);
    for (const auto radius : {std::size_t{3}, movable_ / 2}) {
      std::size_t quiet = 0;
      for (std::size_t k = 0; quiet < movable_ && value > bound && steps_ > 0; k = k + 1 == movable_ ? 0 : k + 1) {
        ++quiet;
        if (in_[free_[k]] == 0) continue;
        const auto better = exchange(k, radius, value);
        if (better == value) continue;
        value = better;
        keep(value);
        quiet = 0;
      }
    }
  }
  constexpr picoseconds exchange(std::size_t k, std::size_t radius, picoseconds value) {
    const auto out = free_[k];
    for (std::size_t d = 1; d <= radius && d <= movable_ / 2 && steps_ > 0; ++d)
      for (const auto at : {k + d, k + movable_ - d}) {
        const auto into = free_[at % movable_];
        if (in_[into] != 0 || held_ - size(out) + size(into) < need_) continue;
        if (paid_ - levels_.cost(out) + levels_.cost(into) >= value) continue;
        put(out, false);
        put(into, true);
        if (const auto found = period(value); found < value) {
          while (drop_one()) {
          }
          return std::min(found, period(found));
        }
        put(into, false);
        put(out, true);
      }
    return value;
  }

  /// Depth-first over the atoms in chain order, streamed first. True if the level was searched to its end.
  constexpr bool exhaust() {
    clear();
    bytes behind = 0;      // of the atoms not decided yet
    std::size_t last = 0;  // the last atom that fills the slot: a set without one belongs to another level
    for (std::size_t k = 0; k < movable_; ++k) {
      behind += size(free_[k]);
      if (size(free_[k]) == slot_) last = k;
    }
    std::size_t k = 0, full = 0;
    for (bool open = true;;) {
      if (open && k < movable_) {
        if (steps_ == 0) return false;
        const auto i = free_[k];
        put(i, true);
        behind -= size(i);
        full += size(i) == slot_ ? 1 : 0;
        resident_[k++] = 0;
        open = promising();
        continue;
      }
      for (; k > 0 && resident_[k - 1] != 0; --k) behind += size(free_[k - 1]);
      if (k == 0) return true;
      const auto i = free_[k - 1];
      put(i, false);
      full -= size(i) == slot_ ? 1 : 0;
      resident_[k - 1] = 1;
      open = held_ + behind >= need_ && (full > 0 || k <= last);
    }
  }

  /// True if adding to the current set may lead to a better one; an allowed set is kept, and never added to.
  constexpr bool promising() {
    const bytes left = held_ < need_ ? need_ - held_ : 0;
    const auto cheapest = static_cast<__int128>(levels_.cost(cheapest_)) * static_cast<__int128>(left);
    const auto least = paid_ + static_cast<picoseconds>(cheapest / static_cast<__int128>(size(cheapest_)));
    if (least >= value_) {
      --steps_;
      return false;
    }
    const auto value = period(value_);
    if (left == 0) keep(value);
    return left > 0 && value < value_;
  }

  const residency_problem& p_;
  std::size_t n_;
  residency_levels levels_;
  std::span<std::uint8_t> best_;
  std::span<std::uint64_t> ring_, in_, sizes_, bounds_, free_, order_, resident_;
  std::uint64_t steps_;
  picoseconds value_ = never;  ///< of best_
  // The current level and set.
  bytes slot_ = 0;
  bytes need_ = 0;
  std::size_t movable_ = 0;  ///< atoms in free_, in chain order
  std::uint64_t cheapest_ = 0;
  bytes held_ = 0;
  picoseconds paid_ = 0;
};

}  // namespace berth::detail

export namespace berth {

/// Chooses which atoms of a device stay and which stream so that the decode period is least; marks the latter in
/// `streamed` (one mark per atom) and clears the other marks. Among choices of equal period the first one found stays.
/// Exact where `proven`; that is practically always so for few atoms, for equal blocks with two slots or more, and
/// wherever compute is the bottleneck. Else the best of some spread starts improved by exchanges.
/// Errors: `invalid_argument` (no slot, marks of another size), `capacity` (scratch), `does_not_fit` with the least
/// memory that would do. At most `max_steps` periods of O(atoms), some more cheap steps, no allocation.
constexpr result<residency_choice> choose_residents(const residency_problem& p, std::span<std::uint8_t> streamed,
                                                    std::span<std::uint64_t> scratch,
                                                    const residency_options& options = {}) {
  if (p.slots == 0) return fail(errc::invalid_argument, "slots", "streaming needs at least one staging slot");
  if (streamed.size() != p.atoms.size()) return fail(errc::invalid_argument, "streamed", "needs one mark per atom");
  if (const auto cells = residency_search_cells(p.atoms.size()); cells > scratch.size())
    return fail(errc::capacity, "residency", "the scratch is too small", cells * 8, scratch.size() * 8);
  return detail::residency_search(p, streamed, scratch, options.max_steps).run();
}

}  // namespace berth
