// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <span>

export module berth.plan:balance;

import berth.model;
import berth.topology;
import :problem;
import :interval_cover;

export namespace berth {

/// A load relative to a limit, as an exact fraction.
struct load_ratio {
  bytes load = 0;
  bytes limit = 1;

  friend constexpr bool operator<(const load_ratio& a, const load_ratio& b) {
    return static_cast<unsigned __int128>(a.load) * b.limit < static_cast<unsigned __int128>(b.load) * a.limit;
  }
};

/// Exact minimum of the maximum of load / limit over contiguous parts, then the tie rules of the strategy `balanced`:
/// fewest seats; largest minimum of limit - load over the seats used; smallest list of seat positions in chain order;
/// smallest list of last atoms.
///
/// Method: a bisection on the ratio with the cover tables as probe narrows it to 2^-30; then "strictly better than
/// the plan at hand" is probed in exact integers until it fails, so the result is the optimum, not an approximation.
/// Seats with equal limits are one type. `special` (or `none`) is a seat whose cap is fixed at `special_cap` and whose
/// load does not count for the ratio (GPU 0 of `balanced_low_0`).
class balancer {
 public:
  struct part {
    seat_index seat = none;
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
  };

  static constexpr std::size_t cells(const problem_view& p, std::span<const seat> seats) {
    return interval_loads::cells(p) + 3 * static_cast<std::size_t>(count_sets(seats, none)) + 8 * seats.size() + 8;
  }
  /// Sets of seats that the tables would have; above `max_cover_sets` the caller must not go on.
  static constexpr std::uint64_t count_sets(std::span<const seat> seats, seat_index special) {
    std::uint64_t sets = 1;
    for (std::size_t i = 0; i < seats.size(); ++i) {
      std::uint64_t copies = 1;
      bool first = true;
      for (std::size_t j = 0; j < seats.size(); ++j) {
        if (j == i || i == special || j == special || seats[j].limit != seats[i].limit) continue;
        if (j < i) first = false;
        ++copies;
      }
      if (first) sets *= copies + 1;
      if (sets > max_cover_sets) return max_cover_sets + 1;
    }
    return sets;
  }

  constexpr balancer(const problem_view& p, std::span<const seat> seats, seat_index special,
                     std::span<std::uint64_t> scratch)
      : seats_(seats), special_(special), loads_(p, scratch.first(interval_loads::cells(p))) {
    auto rest = scratch.subspan(interval_loads::cells(p));
    const auto k = seats.size();
    type_of_ = rest.first(k);
    limit_of_type_ = rest.subspan(k, k);
    used_ = rest.subspan(2 * k, k);
    order_ = rest.subspan(3 * k, k);
    make_types();
    table_.loads = &loads_;
    table_.types = std::span<seat_type>(types_, type_count_);
    table_.prefix = rest.subspan(4 * k, table_.sets);
    table_.suffix = rest.subspan(4 * k + table_.sets, table_.sets);
  }

  balancer(const balancer&) = delete;  // the tables point into the object
  balancer& operator=(const balancer&) = delete;

  /// Smallest load of the special seat when the others may fill up to their limits; false if even that does not fit.
  constexpr bool smallest_special_load(bytes& out) {
    const auto t = type_of_[special_];
    set_caps_from_limits();
    table_.types[t].usable = false;
    table_.fill_prefix();
    table_.fill_suffix();
    const std::uint32_t others = table_.sets - 1 - table_.types[t].stride;
    bool found = false;
    for (std::uint32_t set = 0; set < table_.sets; ++set) {
      if (table_.copies_in(set, t) != 0) continue;
      const auto from = static_cast<std::uint32_t>(table_.prefix[set]);
      const auto to = static_cast<std::uint32_t>(table_.suffix[others - set]);
      const bytes load = to <= from ? 0 : loads_.load(from, to);
      if (!found || load < out) out = load;
      found = true;
    }
    return found && out <= seats_[special_].limit;
  }

  /// True if the chain fits within the limits (and `special_cap`).
  constexpr bool feasible(bytes special_cap) {
    special_cap_ = special_cap;
    set_caps_from_limits();
    table_.fill_prefix();
    return table_.prefix[table_.sets - 1] == loads_.size();
  }

  /// The optimal ratio. Precondition: some cover exists (every usable seat may take any load when `bounded` is false).
  constexpr load_ratio best_ratio(bool bounded) {
    load_ratio best = ratio_of_cover(bounded);
    std::uint64_t low = 0;
    const auto start = scaled(best);
    std::uint64_t high = start >> 64 != 0 ? ~std::uint64_t{0} : static_cast<std::uint64_t>(start);
    while (low < high) {
      const std::uint64_t middle = low + (high - low) / 2;
      if (probe_scaled(middle)) {
        const auto found = ratio_of_tables();
        if (found < best) best = found;
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    while (best.load > 0 && probe_below(best)) best = ratio_of_tables();
    return best;
  }

  /// The plan that the tie rules choose among those with ratio `best`; parts in chain order. Returns their number.
  constexpr std::uint32_t choose(load_ratio best, std::span<part> parts) {
    set_caps_at(best);
    table_.fill_prefix();
    const std::uint32_t count = table_.fewest();
    raise_headroom(best, count);
    table_.fill_suffix();
    pick_seats(count, parts);
    pick_cuts(count, parts);
    return count;
  }

  static constexpr std::size_t max_types = 32;

 private:
  constexpr void make_types() {
    std::uint32_t stride = 1;
    for (std::size_t i = 0; i < seats_.size(); ++i) {
      std::size_t t = type_count_;
      if (i != special_)
        for (std::size_t k = 0; k < type_count_; ++k)
          if (k != special_type_ && limit_of_type_[k] == seats_[i].limit) t = k;
      if (t == type_count_) {
        if (i == special_) special_type_ = t;
        limit_of_type_[t] = seats_[i].limit;
        ++type_count_;
      }
      type_of_[i] = t;
      ++types_[t].copies;
    }
    for (std::size_t t = 0; t < type_count_; ++t) {
      types_[t].stride = stride;
      stride *= types_[t].copies + 1;
    }
    table_.sets = stride;
  }

  constexpr bool is_special(std::size_t type) const { return special_ != none && type == type_of_[special_]; }

  constexpr void set_cap(std::size_t type, bytes cap, bool usable) {
    table_.types[type].cap = is_special(type) ? special_cap_ : cap;
    table_.types[type].usable = is_special(type) ? special_cap_ > 0 : usable;
  }
  constexpr void set_caps_from_limits() {
    for (std::size_t t = 0; t < type_count_; ++t) set_cap(t, limit_of_type_[t], limit_of_type_[t] > 0);
  }
  /// cap = floor(ratio * limit).
  constexpr void set_caps_at(load_ratio r) {
    for (std::size_t t = 0; t < type_count_; ++t)
      set_cap(t, static_cast<bytes>(static_cast<unsigned __int128>(r.load) * limit_of_type_[t] / r.limit),
              limit_of_type_[t] > 0);
  }
  constexpr bool probe() {
    table_.fill_prefix();
    return table_.prefix[table_.sets - 1] == loads_.size();
  }
  static constexpr unsigned scale_bits = 30;
  static constexpr unsigned __int128 scaled(load_ratio r) {
    return ((static_cast<unsigned __int128>(r.load) << scale_bits) + r.limit - 1) / r.limit;
  }
  constexpr bool probe_scaled(std::uint64_t x) {
    for (std::size_t t = 0; t < type_count_; ++t) {
      const auto cap = (static_cast<unsigned __int128>(x) * limit_of_type_[t]) >> scale_bits;
      set_cap(t, cap > max_bytes ? max_bytes : static_cast<bytes>(cap), limit_of_type_[t] > 0);
    }
    return probe();
  }
  /// Caps strictly below `r`: load * r.limit < r.load * limit, that is load <= (r.load * limit - 1) / r.limit.
  constexpr bool probe_below(load_ratio r) {
    for (std::size_t t = 0; t < type_count_; ++t) {
      const auto product = static_cast<unsigned __int128>(r.load) * limit_of_type_[t];
      if (product == 0)
        set_cap(t, 0, false);
      else
        set_cap(t, static_cast<bytes>((product - 1) / r.limit), true);
    }
    return probe();
  }

  /// Ratio of some cover: within the limits if `bounded`, else of the whole chain on the largest seat.
  constexpr load_ratio ratio_of_cover(bool bounded) {
    if (bounded) {
      set_caps_from_limits();
      table_.fill_prefix();
      return ratio_of_tables();
    }
    bytes largest = 0;
    for (std::size_t t = 0; t < type_count_; ++t)
      if (!is_special(t) && limit_of_type_[t] > largest) largest = limit_of_type_[t];
    return {loads_.load(0, loads_.size()), largest};
  }

  /// Largest ratio in the plan that the prefix table describes (walking back from the full set).
  constexpr load_ratio ratio_of_tables() const {
    load_ratio worst{0, 1};
    std::uint32_t set = table_.sets - 1;
    while (set != 0) {
      for (std::size_t t = 0; t < type_count_; ++t) {
        if (table_.copies_in(set, t) == 0) continue;
        const auto before = set - table_.types[t].stride;
        const auto from = static_cast<std::uint32_t>(table_.prefix[before]);
        const auto to = table_.types[t].usable ? loads_.reach(from, table_.types[t].cap) : from;
        if (to != table_.prefix[set]) continue;
        const load_ratio r{loads_.load(from, to), limit_of_type_[t] == 0 ? 1 : limit_of_type_[t]};
        if (!is_special(t) && worst < r) worst = r;
        set = before;
        break;
      }
    }
    return worst;
  }

  /// Lowers the caps so that every seat keeps as much head-room as some plan with `count` seats can give all of them.
  constexpr void raise_headroom(load_ratio best, std::uint32_t count) {
    bytes largest = 0;
    for (std::size_t t = 0; t < type_count_; ++t)
      if (!is_special(t) && limit_of_type_[t] > largest) largest = limit_of_type_[t];
    const bytes total = loads_.load(0, loads_.size());
    // Head-room may be negative where the ratio is above 1; both bounds are far inside 64 bits.
    __int128 low = -static_cast<__int128>(total), high = largest;
    while (low < high) {
      const __int128 middle = low + (high - low + 1) / 2;
      if (fits_headroom(best, middle, count))
        low = middle;
      else
        high = middle - 1;
    }
    fits_headroom(best, low, count);
  }
  constexpr bool fits_headroom(load_ratio best, __int128 headroom, std::uint32_t count) {
    for (std::size_t t = 0; t < type_count_; ++t) {
      const auto limit = static_cast<__int128>(limit_of_type_[t]);
      auto cap = static_cast<__int128>(static_cast<unsigned __int128>(best.load) * limit_of_type_[t] / best.limit);
      if (limit - headroom < cap) cap = limit - headroom;
      set_cap(t, cap < 0 ? 0 : static_cast<bytes>(cap), cap >= 0 && limit > 0);
    }
    table_.fill_prefix();
    return table_.covers_with(count);
  }

  /// Smallest positions first: a seat is taken if some set of the seats left still covers the rest.
  constexpr void pick_seats(std::uint32_t count, std::span<part> parts) {
    for (auto& u : used_) u = 0;
    std::uint32_t left = table_.sets - 1, at = 0;
    for (std::uint32_t k = 0; k < count; ++k) {
      for (std::size_t i = 0; i < seats_.size(); ++i) {
        const auto t = static_cast<std::size_t>(type_of_[i]);
        if (used_[i] != 0 || !table_.types[t].usable) continue;
        const auto to = loads_.reach(at, table_.types[t].cap);
        const auto rest = left - table_.types[t].stride;
        if (!covered_from(to, rest, count - k - 1)) continue;
        parts[k] = {static_cast<seat_index>(i), at, to};
        used_[i] = 1;
        left = rest;
        at = to;
        break;
      }
    }
  }
  /// True if at most `count` seats out of `available` cover [at, n).
  constexpr bool covered_from(std::uint32_t at, std::uint32_t available, std::uint32_t count) const {
    for (std::uint32_t set = 0; set < table_.sets; ++set) {
      if (table_.suffix[set] > at || table_.size_of(set) > count) continue;
      bool inside = true;
      for (std::size_t t = 0; t < type_count_ && inside; ++t)
        inside = table_.copies_in(set, t) <= table_.copies_in(available, t);
      if (inside) return true;
    }
    return false;
  }
  /// Earliest cuts for the chosen order of seats: the parts behind must still cover the rest.
  constexpr void pick_cuts(std::uint32_t count, std::span<part> parts) {
    std::uint32_t start = loads_.size();
    for (std::uint32_t k = count; k > 0; --k) {
      order_[k - 1] = start;
      start = loads_.reach_back(start, table_.types[type_of_[parts[k - 1].seat]].cap);
    }
    // order_[k] now holds where part k+1 starts at the earliest; a part has at least one atom.
    std::uint32_t at = 0;
    for (std::uint32_t k = 0; k < count; ++k) {
      const auto need = static_cast<std::uint32_t>(order_[k]);
      const auto end = k + 1 == count ? loads_.size() : (need > at + 1 ? need : at + 1);
      parts[k].begin = at;
      parts[k].end = end;
      at = end;
    }
  }

  std::span<const seat> seats_;
  seat_index special_;
  bytes special_cap_ = 0;
  interval_loads loads_;
  seat_type types_[max_types]{};
  std::size_t type_count_ = 0;
  std::size_t special_type_ = max_types;
  std::span<std::uint64_t> type_of_, limit_of_type_, used_, order_;
  cover_tables table_;
};

}  // namespace berth
