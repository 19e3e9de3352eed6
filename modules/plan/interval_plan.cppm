// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

export module berth.plan:interval_plan;

import berth.model;
import berth.topology;
import :problem;
import :cost;

namespace berth::detail {

/// A table of doubles over cells of scratch, usable in constant expressions.
class real_table {
 public:
  constexpr real_table() = default;
  constexpr explicit real_table(std::span<std::uint64_t> cells) : cells_(cells) {}
  constexpr double get(std::size_t i) const { return std::bit_cast<double>(cells_[i]); }
  constexpr void set(std::size_t i, double v) { cells_[i] = std::bit_cast<std::uint64_t>(v); }
  constexpr void fill(double v) {
    for (auto& c : cells_) c = std::bit_cast<std::uint64_t>(v);
  }

 private:
  std::span<std::uint64_t> cells_;
};

}  // namespace berth::detail

export namespace berth {

/// Objectives of the interval planner: how the costs of consecutive intervals combine, and what an interval costs.
struct additive_objective {
  static constexpr double start = 0;
  static constexpr bool by_memory = false;
  static constexpr double combine(double a, double b) { return a + b; }
};
struct bottleneck_objective {
  static constexpr double start = -std::numeric_limits<double>::infinity();
  static constexpr bool by_memory = false;
  static constexpr double combine(double a, double b) { return a > b ? a : b; }
};
/// Bytes by which the fullest device exceeds its limit; negative: the smallest head-room.
struct headroom_objective {
  static constexpr double start = -std::numeric_limits<double>::infinity();
  static constexpr bool by_memory = true;
  static constexpr double combine(double a, double b) { return a > b ? a : b; }
};

/// One device's part of an interval plan: atoms [begin, end).
struct interval_part {
  seat_index seat = none;
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

/// Cells above which the tables of an exact interval plan are not built (64 MiB).
inline constexpr std::size_t max_interval_cells = std::size_t{1} << 23;
inline constexpr std::size_t max_interval_types = 16;

/// Exact optimum over interval placements: consecutive atoms on distinct executing seats, each used at most once.
/// Dynamic program over (set of seats used, last seat, atoms covered); exchangeable seats are one type, so that a set
/// is known by how many of each type it has. With T types and S sets: O(S T n (T + log n)) time, S T (n + 1) cells per
/// table; exponential only in the number of different devices. Sources: subset dynamic programs for pipelines as in
/// Tarnawski et al., "Efficient Algorithms for Device Placement of DNN Graph Operators" (2020).
///
/// Ties are broken by filters: value <= v* (1 + 1e-12); fewest seats; largest smallest head-room; lexicographically
/// smallest seats in chain order; then smallest last atoms.
template <class Objective>
class interval_planner {
 public:
  /// Seats that execute, grouped; 0 sets: too many to be exact.
  struct shape {
    std::size_t types = 0;
    std::size_t sets = 0;
    constexpr bool exact() const { return sets > 0; }
  };

  static constexpr shape shape_of(const problem_view& p) {
    shape out;
    out.sets = 1;
    for (seat_index s = 0; s < p.seats.size(); ++s) {
      if (!p.seats[s].executes()) continue;
      std::size_t copies = 1;
      bool first = true;
      for (seat_index o = 0; o < p.seats.size(); ++o)
        if (o != s && p.seats[o].executes() && exchangeable(p, s, o)) {
          first = first && s < o;
          ++copies;
        }
      if (!first) continue;
      if (++out.types > max_interval_types) return {};
      out.sets *= copies + 1;
      if (out.sets * out.types * (p.loads.size() + 1) * tables > max_interval_cells) return {};
    }
    return out;
  }
  static constexpr std::size_t cells(const problem_view& p) {
    const auto s = shape_of(p);
    if (!s.exact()) return 0;
    const auto row = p.loads.size() + 1;
    return interval_loads::cells(p) + tables * s.sets * s.types * row + (3 * s.types + 6) * row + 2 * p.seats.size();
  }

  constexpr interval_planner(const problem_view& p, std::span<std::uint64_t> scratch)
      : p_(p), loads_(p, scratch), n_(static_cast<std::uint32_t>(p.loads.size())), row_(p.loads.size() + 1) {
    scratch = scratch.subspan(interval_loads::cells(p));
    const auto take = [&](std::size_t count) {
      const auto part = scratch.first(count);
      scratch = scratch.subspan(count);
      return part;
    };
    type_of_ = take(p.seats.size());
    used_ = take(p.seats.size());
    make_types();
    const auto table = sets_ * types_ * row_;
    forward_ = detail::real_table(take(table));
    backward_ = detail::real_table(take(table));
    entry_ = detail::real_table(take(table));
    room_ = take(table);
    time_ = detail::real_table(take(types_ * row_));
    low_ = take(types_ * row_);
    high_ = take(types_ * row_);
    out_bytes_ = detail::real_table(take(row_));
    arrive_ = detail::real_table(take(row_));
    arrive_room_ = take(row_);
    queue_ = take(row_);
    step_ = detail::real_table(take(row_));
    next_step_ = detail::real_table(take(row_));
    weigh();
  }

  /// The optimum in seconds (bytes for `headroom_objective`), or `forever`. Fills the forward tables.
  constexpr double solve() {
    set_windows(0);
    run_forward();
    double best = forever;
    for (std::size_t set = 1; set < sets_; ++set)
      for (std::size_t t = 0; t < types_; ++t)
        if (const double v = forward_.get(at(set, t, n_)); v < best) best = v;
    return best;
  }

  /// One optimal plan by the tie rules, after `solve`. Returns the number of parts written (at most one per seat).
  constexpr std::size_t choose(double best, std::span<interval_part> parts) {
    const double limit = best + (best < 0 ? -best : best) * 1e-12;
    const std::size_t fewest = fewest_seats(limit);
    run_backward(fewest);
    const bytes room = largest_room(limit, fewest);
    set_windows(room);
    run_backward(fewest);
    return walk(limit, fewest, parts);
  }

  /// Fewest seats of any plan whose value is at most `limit`, after `solve`.
  constexpr std::size_t fewest_seats(double limit) const {
    std::size_t fewest = p_.seats.size() + 1;
    for (std::size_t set = 1; set < sets_; ++set)
      for (std::size_t t = 0; t < types_; ++t)
        if (forward_.get(at(set, t, n_)) <= limit && size_of(set) < fewest) fewest = size_of(set);
    return fewest;
  }

 private:
  static constexpr std::size_t tables = 4;

  struct type {
    seat_index first = 0;   ///< its lowest seat
    seat_index second = 0;  ///< another one, for links between two of them
    std::size_t copies = 0;
    std::size_t stride = 0;
  };

  constexpr std::size_t at(std::size_t set, std::size_t t, std::size_t i) const {
    return (set * types_ + t) * row_ + i;
  }
  constexpr std::size_t copies_in(std::size_t set, std::size_t t) const {
    return set / type_[t].stride % (type_[t].copies + 1);
  }
  constexpr std::size_t size_of(std::size_t set) const {
    std::size_t n = 0;
    for (std::size_t t = 0; t < types_; ++t) n += copies_in(set, t);
    return n;
  }

  constexpr void make_types() {
    for (seat_index s = 0; s < p_.seats.size(); ++s) {
      type_of_[s] = types_;
      if (!p_.seats[s].executes()) continue;
      std::size_t t = 0;
      while (t < types_ && !exchangeable(p_, type_[t].first, s)) ++t;
      if (t == types_) type_[types_++] = {s, s, 0, 0};
      if (type_[t].copies == 1) type_[t].second = s;
      ++type_[t].copies;
      type_of_[s] = t;
    }
    for (std::size_t t = 0; t < types_; ++t) {
      type_[t].stride = sets_;
      sets_ *= type_[t].copies + 1;
    }
  }

  /// Prefix sums of the objective's times per type, and bytes sent after each atom as the objective counts them.
  constexpr void weigh() {
    for (std::size_t t = 0; t < types_; ++t) {
      double sum = 0;
      for (std::uint32_t i = 0; i <= n_; ++i) {
        time_.set(t * row_ + i, sum);
        if (i == n_ || Objective::by_memory) continue;
        // An atom that this type cannot run is kept out by the windows; its time would make sums of others infinite.
        if (const double own = objective_seconds(p_, i, type_[t].first); own < forever) sum += own;
      }
    }
    for (std::uint32_t i = 0; i < n_; ++i) {
      double sum = 0;
      if (!Objective::by_memory)
        for (const auto ph : all_phases) sum += weight_of(p_.workload, ph) * p_.atoms[i].in(ph).out;
      out_bytes_.set(i, sum);
    }
    messages_ = weight_of(p_.workload, phase::prefill) + weight_of(p_.workload, phase::decode);
  }

  /// `low[t][i]`: the first begin from which [begin, i) may lie on type t when `reserve` bytes stay free;
  /// `high[t][j]`: the last end for begin j.
  constexpr void set_windows(bytes reserve) {
    for (std::size_t t = 0; t < types_; ++t) {
      const bytes limit = p_.seats[type_[t].first].limit;
      const bytes cap = reserve > limit ? 0 : limit - reserve;
      std::uint32_t low = 0;
      for (std::uint32_t i = 0; i <= n_; ++i) {
        if (i > 0 && !allowed(i - 1, t)) low = i;
        while (low < i && (reserve > limit || loads_.load(low, i) > cap)) ++low;
        low_[t * row_ + i] = low;
      }
      std::uint32_t high = n_;
      for (std::uint32_t j = n_ + 1; j-- > 0;) {
        while (high > j && low_[t * row_ + high] > j) --high;
        high_[t * row_ + j] = high;
      }
    }
  }
  constexpr bool allowed(std::uint32_t i, std::size_t t) const {
    if (!Objective::by_memory && objective_seconds(p_, i, type_[t].first) == forever) return false;
    return p_.open(i) || (type_of_[p_.fixed[i].execution] == t && !p_.fixed[i].streamed());
  }

  constexpr double cost(std::size_t t, std::uint32_t begin, std::uint32_t end) const {
    if constexpr (Objective::by_memory)
      return static_cast<double>(loads_.load(begin, end)) - static_cast<double>(p_.seats[type_[t].first].limit);
    return time_.get(t * row_ + end) - time_.get(t * row_ + begin);
  }
  /// Handing over from one type to another: fixed + bytes x per_byte, as the objective counts it.
  struct handover {
    double fixed = Objective::start;
    double per_byte = 0;
    constexpr bool usable() const { return fixed != forever; }
  };
  constexpr handover handover_of(std::size_t e, std::size_t t) const {
    if constexpr (Objective::by_memory) return {};
    const auto link = e == t ? p_.link(type_[t].first, type_[t].second) : p_.link(type_[e].first, type_[t].first);
    if (!link.usable()) return {forever, 0};
    return {messages_ * link.latency, 1 / link.bandwidth};
  }
  /// After atom i - 1.
  constexpr double price(const handover& h, std::uint32_t i) const {
    return h.fixed + (h.per_byte > 0 ? out_bytes_.get(i - 1) * h.per_byte : 0);
  }

  /// `arrive[j]`: best value of handing over to type t at atom j, having used `before`.
  constexpr void fill_arrivals(std::size_t before, std::size_t t) {
    arrive_.fill(forever);
    if (before == 0) {
      arrive_.set(0, Objective::start);
      return;
    }
    for (std::size_t e = 0; e < types_; ++e) {
      if (copies_in(before, e) == 0) continue;
      const auto h = handover_of(e, t);
      if (!h.usable()) continue;
      for (std::uint32_t j = 1; j < n_; ++j) {
        const double v = forward_.get(at(before, e, j));
        if (v == forever) continue;
        const double total = Objective::combine(v, price(h, j));
        if (total < arrive_.get(j)) arrive_.set(j, total);
      }
    }
  }

  constexpr void run_forward() {
    forward_.fill(forever);
    for (std::size_t set = 1; set < sets_; ++set) {
      if (size_of(set) > n_) continue;
      for (std::size_t t = 0; t < types_; ++t) {
        if (copies_in(set, t) == 0) continue;
        fill_arrivals(set - type_[t].stride, t);
        if constexpr (Objective::start == 0)
          slide_forward(set, t);
        else
          cross_forward(set, t);
      }
    }
  }
  /// Sums: cost(j, i) = time[i] - time[j], so the minimum over a sliding window of arrive[j] - time[j] is enough.
  constexpr void slide_forward(std::size_t set, std::size_t t) {
    std::size_t head = 0, tail = 0;
    const auto key = [&](std::uint64_t j) { return arrive_.get(j) - time_.get(t * row_ + j); };
    for (std::uint32_t i = 1; i <= n_; ++i) {
      if (const std::uint64_t j = i - 1; arrive_.get(j) != forever) {
        while (tail > head && key(queue_[tail - 1]) >= key(j)) --tail;
        queue_[tail++] = j;
      }
      while (head < tail && queue_[head] < low_[t * row_ + i]) ++head;
      if (head < tail) forward_.set(at(set, t, i), key(queue_[head]) + time_.get(t * row_ + i));
    }
  }
  /// Maxima: going back from i the interval only gets dearer, so an earlier begin pays only if its arrival is lower.
  /// The queue keeps such begins: along it arrivals rise and costs fall, and the best is where they cross.
  constexpr void cross_forward(std::size_t set, std::size_t t) {
    std::size_t head = 0, tail = 0;
    const auto arrival = [&](std::uint64_t j) { return arrive_.get(j); };
    for (std::uint32_t i = 1; i <= n_; ++i) {
      if (const std::uint64_t j = i - 1; arrival(j) != forever) {
        while (tail > head && arrival(queue_[tail - 1]) >= arrival(j)) --tail;
        queue_[tail++] = j;
      }
      while (head < tail && queue_[head] < low_[t * row_ + i]) ++head;
      const auto own = [&](std::uint64_t j) { return cost(t, static_cast<std::uint32_t>(j), i); };
      forward_.set(at(set, t, i), crossing(head, tail, arrival, own));
    }
  }
  /// The least max(outer, own) over queue_[head, tail), along which `outer` rises and `own` falls. O(log n).
  template <class Outer, class Own>
  constexpr double crossing(std::size_t head, std::size_t tail, const Outer& outer, const Own& own) const {
    std::size_t low = head, high = tail;
    while (low < high) {
      const std::size_t middle = low + (high - low) / 2;
      if (outer(queue_[middle]) >= own(queue_[middle]))
        high = middle;
      else
        low = middle + 1;
    }
    double best = low < tail ? outer(queue_[low]) : forever;
    if (low > head)
      if (const double v = own(queue_[low - 1]); v < best) best = v;
    return best;
  }

  /// `backward[U][t][i]`: best value of what follows when the set U is used, t last, i atoms covered, and the plan ends
  /// with exactly `seats` seats. `entry[U][t][j]`: the same including t's own interval that begins at j.
  constexpr void run_backward(std::size_t seats) {
    backward_.fill(forever);
    entry_.fill(forever);
    for (std::size_t set = sets_; set-- > 1;) {
      const auto size = size_of(set);
      if (size > seats) continue;
      for (std::size_t t = 0; t < types_; ++t) {
        if (copies_in(set, t) == 0) continue;
        if (size == seats)
          backward_.set(at(set, t, n_), Objective::start);
        else
          fill_departures(set, t);
        fill_entries(set, t);
      }
    }
  }
  constexpr void fill_departures(std::size_t set, std::size_t t) {
    for (std::size_t next = 0; next < types_; ++next) {
      if (copies_in(set, next) == type_[next].copies) continue;
      const auto after = set + type_[next].stride;
      const auto h = handover_of(t, next);
      if (!h.usable()) continue;
      for (std::uint32_t i = 1; i < n_; ++i) {
        const double v = entry_.get(at(after, next, i));
        if (v == forever) continue;
        const double total = Objective::combine(price(h, i), v);
        if (total < backward_.get(at(set, t, i))) backward_.set(at(set, t, i), total);
      }
    }
  }
  constexpr void fill_entries(std::size_t set, std::size_t t) {
    if constexpr (Objective::start == 0)
      slide_back(set, t);
    else
      cross_back(set, t);
  }
  constexpr void slide_back(std::size_t set, std::size_t t) {
    std::size_t head = 0, tail = 0;
    const auto key = [&](std::uint64_t i) { return backward_.get(at(set, t, i)) + time_.get(t * row_ + i); };
    for (std::uint32_t j = n_; j-- > 0;) {
      if (const std::uint64_t i = j + 1; backward_.get(at(set, t, i)) != forever) {
        while (tail > head && key(queue_[tail - 1]) >= key(i)) --tail;
        queue_[tail++] = i;
      }
      while (head < tail && queue_[head] > high_[t * row_ + j]) ++head;
      if (head < tail) entry_.set(at(set, t, j), key(queue_[head]) - time_.get(t * row_ + j));
    }
  }
  constexpr void cross_back(std::size_t set, std::size_t t) {
    std::size_t head = 0, tail = 0;
    const auto rest = [&](std::uint64_t i) { return backward_.get(at(set, t, i)); };
    for (std::uint32_t j = n_; j-- > 0;) {
      if (const std::uint64_t i = j + 1; rest(i) != forever) {
        while (tail > head && rest(queue_[tail - 1]) >= rest(i)) --tail;
        queue_[tail++] = i;
      }
      while (head < tail && queue_[head] > high_[t * row_ + j]) ++head;
      const auto own = [&](std::uint64_t i) { return cost(t, j, static_cast<std::uint32_t>(i)); };
      entry_.set(at(set, t, j), crossing(head, tail, rest, own));
    }
  }

  /// The largest smallest head-room among plans of value <= `limit` with `seats` seats.
  constexpr bytes largest_room(double limit, std::size_t seats) {
    constexpr bytes unlimited = max_bytes;
    for (auto& r : room_) r = 0;  // 0: not reached, else head-room + 1
    bytes best = 0;
    for (std::size_t set = 1; set < sets_; ++set) {
      const auto size = size_of(set);
      if (size > seats) continue;
      for (std::size_t t = 0; t < types_; ++t) {
        if (copies_in(set, t) == 0) continue;
        const auto before = set - type_[t].stride;
        fill_arrivals(before, t);
        fill_arrival_rooms(before, set, t, limit, unlimited);
        for (std::uint32_t i = 1; i <= n_; ++i) {
          const double rest = backward_.get(at(set, t, i));
          if (!(Objective::combine(forward_.get(at(set, t, i)), rest) <= limit)) continue;
          room_[at(set, t, i)] = room_behind(t, i, rest, limit);
        }
        if (size == seats && room_[at(set, t, n_)] > best) best = room_[at(set, t, n_)];
      }
    }
    return best == 0 ? 0 : best - 1;
  }
  constexpr void fill_arrival_rooms(std::size_t before, std::size_t set, std::size_t t, double limit, bytes unlimited) {
    for (auto& r : arrive_room_) r = 0;
    if (before == 0) {
      arrive_room_[0] = unlimited;
      return;
    }
    for (std::size_t e = 0; e < types_; ++e) {
      if (copies_in(before, e) == 0) continue;
      const auto h = handover_of(e, t);
      if (!h.usable()) continue;
      for (std::uint32_t j = 1; j < n_; ++j) {
        const auto room = room_[at(before, e, j)];
        if (room <= arrive_room_[j]) continue;
        const double until = Objective::combine(forward_.get(at(before, e, j)), price(h, j));
        if (Objective::combine(until, entry_.get(at(set, t, j))) <= limit) arrive_room_[j] = room;
      }
    }
  }
  constexpr bytes room_behind(std::size_t t, std::uint32_t i, double rest, double limit) const {
    bytes best = 0;
    for (std::uint32_t j = i; j-- > low_[t * row_ + i];) {
      const bytes own = p_.seats[type_[t].first].limit - loads_.load(j, i) + 1;
      if (own <= best) break;  // longer intervals leave less
      const bytes room = own < arrive_room_[j] ? own : arrive_room_[j];
      if (room <= best) continue;
      if (Objective::combine(Objective::combine(arrive_.get(j), cost(t, j, i)), rest) <= limit) best = room;
    }
    return best;
  }

  /// Chooses seats in chain order, each the lowest that still leads to the optimum, then the last atoms.
  constexpr std::size_t walk(double limit, std::size_t seats, std::span<interval_part> parts) {
    for (auto& u : used_) u = 0;
    std::size_t set = 0, last = types_;
    step_.fill(forever);
    step_.set(0, Objective::start);
    for (std::size_t count = 0; count < seats; ++count) {
      // By position in the topology, which need not be the order of seats.
      seat_index chosen = none;
      for (auto s = seat_after(none); s != none && chosen == none; s = seat_after(s))
        if (used_[s] == 0 && extend(set, last, type_of_[s], limit)) chosen = s;
      if (chosen == none) return 0;
      used_[chosen] = 1;
      last = type_of_[chosen];
      set += type_[last].stride;
      for (std::size_t i = 0; i < row_; ++i) step_.set(i, next_step_.get(i));
      parts[count].seat = chosen;
    }
    place_cuts(limit, parts.first(seats));
    return seats;
  }
  /// The executing seat whose device comes next in the topology.
  constexpr seat_index seat_after(seat_index s) const {
    seat_index next = none;
    for (seat_index o = 0; o < p_.seats.size(); ++o) {
      if (!p_.seats[o].executes() || (s != none && p_.seats[o].device <= p_.seats[s].device)) continue;
      if (next == none || p_.seats[o].device < p_.seats[next].device) next = o;
    }
    return next;
  }
  /// `next_step[i]`: best value of the seats so far plus one of type t that ends at i. False if none leads to the end.
  constexpr bool extend(std::size_t set, std::size_t last, std::size_t t, double limit) {
    const auto with = set + type_[t].stride;
    next_step_.fill(forever);
    bool leads = false;
    const auto h = last == types_ ? handover{} : handover_of(last, t);
    if (!h.usable()) return false;
    for (std::uint32_t j = 0; j < n_; ++j) {
      if (step_.get(j) == forever) continue;
      const double from = last == types_ ? step_.get(j) : Objective::combine(step_.get(j), price(h, j));
      if (!(Objective::combine(from, entry_.get(at(with, t, j))) <= limit)) continue;
      for (std::uint32_t i = j + 1; i <= high_[t * row_ + j]; ++i) {
        const double until = Objective::combine(from, cost(t, j, i));
        if (until >= next_step_.get(i)) continue;
        if (!(Objective::combine(until, backward_.get(at(with, t, i))) <= limit)) continue;
        next_step_.set(i, until);
        leads = true;
      }
    }
    return leads;
  }
  /// With the seats fixed: from the back, the best completions; from the front, the smallest cuts that reach them.
  constexpr void place_cuts(double limit, std::span<interval_part> parts) {
    const auto m = parts.size();
    // Row k of `backward_` now holds the best value from the end of part k on.
    for (std::size_t k = 0; k < m; ++k)
      for (std::size_t i = 0; i < row_; ++i) backward_.set(k * row_ + i, forever);
    backward_.set((m - 1) * row_ + n_, Objective::start);
    for (std::size_t k = m - 1; k > 0; --k) {
      const auto t = type_of_[parts[k].seat], e = type_of_[parts[k - 1].seat];
      const auto h = handover_of(e, t);
      for (std::uint32_t j = 1; j < n_; ++j) {
        double best = forever;
        for (std::uint32_t i = j + 1; i <= high_[t * row_ + j]; ++i) {
          const double total = Objective::combine(cost(t, j, i), backward_.get(k * row_ + i));
          if (total < best) best = total;
        }
        if (best != forever) backward_.set((k - 1) * row_ + j, Objective::combine(price(h, j), best));
      }
    }
    double so_far = Objective::start;
    std::uint32_t begin = 0;
    for (std::size_t k = 0; k < m; ++k) {
      const auto t = type_of_[parts[k].seat];
      if (k > 0) so_far = Objective::combine(so_far, price(handover_of(type_of_[parts[k - 1].seat], t), begin));
      std::uint32_t end = begin + 1;
      while (end < high_[t * row_ + begin] && !(Objective::combine(Objective::combine(so_far, cost(t, begin, end)),
                                                                   backward_.get(k * row_ + end)) <= limit))
        ++end;
      so_far = Objective::combine(so_far, cost(t, begin, end));
      parts[k].begin = begin;
      parts[k].end = end;
      begin = end;
    }
  }

  problem_view p_;
  interval_loads loads_;
  std::uint32_t n_;
  std::size_t row_;
  std::array<type, max_interval_types> type_{};
  std::size_t types_ = 0;
  std::size_t sets_ = 1;
  double messages_ = 0;
  std::span<std::uint64_t> type_of_, used_, low_, high_, room_, arrive_room_, queue_;
  detail::real_table forward_, backward_, entry_, time_, out_bytes_, arrive_, step_, next_step_;
};

}  // namespace berth
