// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory_resource>
#include <span>
#include <vector>

export module berth.sim:flows;

import berth.base;
import berth.topology;

export namespace berth::sim {

/// A point in time finer than a picosecond: flows end at rational times, and give up their bandwidth there.
struct instant {
  picoseconds whole = 0;
  double part = 0;  ///< ps, in [0, 1)

  friend constexpr bool operator<(const instant& a, const instant& b) {
    return a.whole != b.whole ? a.whole < b.whole : a.part < b.part;
  }
};

/// No flow has a rate limit of its own beyond this.
inline constexpr double no_cap = std::numeric_limits<double>::infinity();

/// What `flow_network` is bounded by; everything is allocated once.
struct flow_bounds {
  std::uint32_t flows = 1024;  ///< active at a time
  std::uint32_t hops = 16;     ///< segments of one route
};

/// Fluid flows over shared segments. At every instant the rates are the max-min fair allocation: all rates rise
/// together; when a segment saturates, or a flow reaches its own cap, the flows concerned stop rising. Rates change
/// only when a flow joins or ends, and only in the connected component that it touches. Doubles in a fixed order of
/// operations; times are integrated from the exact ends, so that the error stays below a thousandth of a picosecond at
/// the sizes that models have. Allocates nothing after construction. Cost of a change: O(levels x flows x hops) of the
/// component.
class flow_network {
 public:
  using flow = std::uint32_t;

  /// `capacities` in bytes/s.
  flow_network(std::span<const double> capacities, flow_bounds bounds, std::pmr::memory_resource* memory);

  /// Adds a flow of `size` > 0 bytes at `now`. Rates are stale until `settle`. Errors: `capacity` when too many flows
  /// are active or the route is longer than the bound, `invalid_argument` for an empty route.
  result<flow> join(double size, std::span<const segment_index> route, double cap, picoseconds now);
  /// Computes the rates of what has changed. Call before asking for the next end.
  void settle(picoseconds now);
  /// When the next flow ends, rounded up; `never` without flows.
  picoseconds next_end() const;
  /// Removes the flow that ends first if it ends by `t`; the others rise from its exact end on. False: none. Call until
  /// then, join what begins at `t`, settle.
  bool finish_one(picoseconds t, flow& ended);

  /// Changes a capacity at `now`; active flows go on with what is left of it.
  void set_capacity(segment_index s, double capacity, picoseconds now);
  double capacity(segment_index s) const { return segments_[s].capacity; }

  std::size_t active() const { return heap_.size(); }
  double rate(flow f) const { return flows_[f].rate; }
  /// Sum of the rates over a segment. O(its flows).
  double used(segment_index s) const;
  std::size_t segments() const { return segments_.size(); }

 private:
  struct member {
    std::uint32_t segment = 0;
    std::uint32_t next = 0, previous = 0;  ///< in the segment's list of members, `none` at its ends
  };
  struct state {
    picoseconds begun = 0;
    instant since;  ///< when `left` was right
    double left = 0;
    double rate = 0;
    double cap = no_cap;
    instant end;
    std::uint32_t hops = 0;
    std::uint32_t place = 0;  ///< in the heap
    std::uint32_t seen = 0;   ///< stamp of the last component that it was in
    bool fixed = false;       ///< its new rate is known
    double next_rate = 0;
  };
  struct link {
    double capacity = 0;
    double free = 0;  ///< while rates are computed: what is left
    std::uint32_t first = 0;
    std::uint32_t count = 0;
    std::uint32_t rising = 0;  ///< while rates are computed: flows that are not fixed
    std::uint32_t seen = 0;
    bool changed = false;
    bool full = false;
  };

  static picoseconds rounded_up(const state& x);
  std::uint32_t member_index(flow f, std::uint32_t hop) const { return f * bounds_.hops + hop; }
  void leave(flow f);
  void touch(segment_index s);
  void settle_at(instant now);
  void collect(segment_index start);
  void fill(instant now);
  double lowest_level() const;
  void fix_at(double level);
  void set_rate(flow f, double rate, instant now);
  void rise(std::uint32_t place);
  void sink(std::uint32_t place);
  void place_in_heap(std::uint32_t place, flow f);
  void remove_from_heap(std::uint32_t place);

  flow_bounds bounds_;
  std::pmr::vector<state> flows_;
  std::pmr::vector<member> members_;
  std::pmr::vector<link> segments_;
  std::pmr::vector<flow> unused_;
  std::pmr::vector<flow> heap_;  ///< by end, then by number
  std::pmr::vector<segment_index> changed_;
  std::pmr::vector<flow> component_;
  std::pmr::vector<segment_index> component_segments_;
  instant last_end_;  ///< of the flow that ended last; what it left is not shared out yet if anything is `changed_`
  std::uint32_t stamp_ = 0;
};

}  // namespace berth::sim
