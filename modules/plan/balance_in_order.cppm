// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <span>

export module berth.plan:balance_in_order;

import berth.model;
import berth.topology;
import :problem;
import :balance;

export namespace berth {

/// As `balancer`, for seats that must appear in their order along the chain (neighbours in a ring, say); seats may be
/// left out. Dynamic programs over (number of parts, last seat, atoms covered) in exact integers, one per tie rule:
/// smallest largest load / limit; fewest seats; largest smallest limit - load; smallest seats; smallest last atoms.
/// O(k^2 n^2) for the ratio, O(k^3 n^2) for the ties.
class ordered_balancer {
 public:
  static constexpr std::size_t cells(const problem_view& p, std::size_t seats) {
    const auto states = seats * (p.loads.size() + 1);
    return interval_loads::cells(p) + 2 * states + seats * states;
  }

  constexpr ordered_balancer(const problem_view& p, std::span<const seat> seats, std::span<std::uint64_t> scratch)
      : seats_(seats), loads_(p, scratch), n_(loads_.size()), k_(seats.size()) {
    scratch = scratch.subspan(interval_loads::cells(p));
    const auto states = k_ * (n_ + 1);
    load_ = scratch.first(states);
    limit_ = scratch.subspan(states, states);
    room_ = scratch.subspan(2 * states, k_ * states);
  }

  /// The smallest largest ratio. `bounded`: no load above its limit; then `found` may be false.
  constexpr load_ratio best_ratio(bool bounded, bool& found) {
    found = false;
    load_ratio best;
    for (std::size_t s = 0; s < k_; ++s)
      for (std::uint32_t i = 1; i <= n_; ++i) {
        const auto r = ratio_ending(s, i, bounded);
        load_[at(s, i)] = r.load;
        limit_[at(s, i)] = r.limit;
        if (i == n_ && r.limit != 0 && (!found || r < best)) {
          best = r;
          found = true;
        }
      }
    return best;
  }

  /// Writes the plan that the tie rules choose for a ratio from `best_ratio`; returns its number of parts.
  constexpr std::uint32_t choose(load_ratio best, std::span<balancer::part> parts) {
    std::uint32_t count = 0;
    bytes room = 0;
    fill_rooms(best);
    for (std::uint32_t c = 1; c <= k_ && count == 0; ++c)
      for (std::size_t s = 0; s < k_; ++s)
        if (const auto r = room_[state(c, s, 0)]; r > room) {
          room = r;
          count = c;
        }
    if (count == 0) return 0;
    // Seats: the smallest that can still reach the end, over all ways to have come here.
    start_reaching();
    for (std::uint32_t done = 0, s = 0; done < count; ++done, ++s) {
      while (!leads(count - done, s, room)) ++s;
      parts[done].seat = s;
      extend_reach(s, best, room);
    }
    // Last atoms: `room_[done][0][i]` becomes whether the parts from `done` on can cover [i, n).
    for (std::uint32_t done = count; done-- > 0;)
      for (std::uint32_t j = 0; j < n_; ++j)
        room_[state(done + 1, 0, j)] = completes(done, count, j, best, room, parts);
    std::uint32_t begin = 0;
    for (std::uint32_t done = 0; done < count; ++done) {
      auto end = done + 1 == count ? n_ : begin + 1;
      while (end < n_ && room_[state(done + 2, 0, end)] == 0) ++end;
      parts[done].begin = begin;
      parts[done].end = end;
      begin = end;
    }
    return count;
  }

 private:
  constexpr std::size_t at(std::size_t s, std::uint32_t i) const { return s * (n_ + 1) + i; }
  constexpr std::size_t state(std::uint32_t c, std::size_t s, std::uint32_t i) const {
    return (std::size_t{c} - 1) * k_ * (n_ + 1) + at(s, i);
  }

  /// Best ratio of plans for atoms [0, i) whose last part is on seat s; limit 0: none.
  constexpr load_ratio ratio_ending(std::size_t s, std::uint32_t i, bool bounded) const {
    load_ratio best{0, 0};
    for (std::uint32_t j = 0; j < i; ++j) {
      const load_ratio own{loads_.load(j, i), seats_[s].limit};
      if (own.limit == 0 || (bounded && own.load > own.limit)) continue;
      for (std::size_t e = 0; e < (j == 0 ? 1 : s); ++e) {
        load_ratio r = own;
        if (j > 0) {
          const load_ratio before{load_[at(e, j)], limit_[at(e, j)]};
          if (before.limit == 0) continue;
          if (r < before) r = before;
        }
        if (best.limit == 0 || r < best) best = r;
      }
    }
    return best;
  }

  /// Head-room + 1 of atoms [begin, end) on seat s, or 0 if the ratio exceeds `best`.
  constexpr bytes room_of(std::size_t s, std::uint32_t begin, std::uint32_t end, load_ratio best) const {
    const load_ratio own{loads_.load(begin, end), seats_[s].limit};
    if (own.limit == 0 || best < own) return 0;
    // Above the limit there is no head-room, but a way in which less is missing is better: an offset keeps the order.
    return own.limit + offset - own.load;
  }
  static constexpr bytes offset = bytes{1} << 62;

  /// `room[c][s][j]`: largest smallest head-room of plans for atoms [j, n) in c parts, the first on seat s; 0: none.
  constexpr void fill_rooms(load_ratio best) {
    for (std::uint32_t c = 1; c <= k_; ++c)
      for (std::size_t s = 0; s < k_; ++s)
        for (std::uint32_t j = 0; j <= n_; ++j) room_[state(c, s, j)] = j == n_ ? 0 : room_from(c, s, j, best);
  }
  constexpr bytes room_from(std::uint32_t c, std::size_t s, std::uint32_t j, load_ratio best) const {
    bytes most = 0;
    if (c == 1) return room_of(s, j, n_, best);
    for (std::uint32_t i = j + 1; i < n_; ++i) {
      const bytes own = room_of(s, j, i, best);
      if (own == 0) break;  // longer parts are fuller
      for (std::size_t next = s + 1; next < k_; ++next) {
        const bytes rest = room_[state(c - 1, next, i)];
        const bytes both = own < rest ? own : rest;
        if (both > most) most = both;
      }
    }
    return most;
  }

  /// True if the chosen seats from `done` on can cover [begin, n); those after it are in `room_` already.
  constexpr bool completes(std::uint32_t done, std::uint32_t count, std::uint32_t begin, load_ratio best, bytes room,
                           std::span<const balancer::part> parts) const {
    if (done + 1 == count) return room_of(parts[done].seat, begin, n_, best) >= room;
    for (auto end = begin + 1; end < n_ && room_of(parts[done].seat, begin, end, best) >= room; ++end)
      if (room_[state(done + 2, 0, end)] != 0) return true;
    return false;
  }

  /// With seats fixed, what the first parts can cover exactly is known by a bit per number of atoms.
  constexpr bool reached(std::uint32_t i) const { return load_[i] != 0; }
  constexpr void start_reaching() {
    for (std::uint32_t i = 0; i <= n_; ++i) load_[i] = i == 0 ? 1 : 0;
  }
  /// One more part, on seat s.
  constexpr void extend_reach(std::size_t s, load_ratio best, bytes room) {
    for (std::uint32_t i = 0; i <= n_; ++i) limit_[i] = 0;
    for (std::uint32_t j = 0; j < n_; ++j) {
      if (!reached(j)) continue;
      for (auto i = j + 1; i <= n_ && room_of(s, j, i, best) >= room; ++i) limit_[i] = 1;
    }
    for (std::uint32_t i = 0; i <= n_; ++i) load_[i] = limit_[i];
  }
  /// True if seat s can come next, with `c` parts to go.
  constexpr bool leads(std::uint32_t c, std::size_t s, bytes room) const {
    for (std::uint32_t j = 0; j < n_; ++j)
      if (reached(j) && room_[state(c, s, j)] >= room) return true;
    return false;
  }

  std::span<const seat> seats_;
  interval_loads loads_;
  std::uint32_t n_;
  std::size_t k_;
  std::span<std::uint64_t> load_, limit_, room_;
};

}  // namespace berth
