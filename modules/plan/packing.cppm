// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <span>

export module berth.plan:packing;

import berth.model;
import berth.topology;
import :problem;

export namespace berth {

/// Search steps after which `pack` gives up: exact below, honest above.
inline constexpr std::uint64_t max_packing_steps = 200'000;

/// Puts every atom on one of the first `bins` seats, contiguous or not, or finds that it cannot be done. Depth-first
/// over the atoms by falling size; equal atoms go to rising seats, seats with equal room are tried once, and a branch
/// ends when the loads left exceed the room left. Exact within `max_packing_steps`; beyond them the answer is "no".
class packer {
 public:
  static constexpr std::size_t cells(std::size_t atoms, std::size_t bins) {
    return 4 * atoms + room_ledger::cells(bins);
  }

  constexpr packer(const problem_view& p, std::uint32_t bins, std::span<std::uint64_t> scratch)
      : p_(p),
        bins_(bins),
        n_(p.loads.size()),
        order_(scratch.first(n_)),
        choice_(scratch.subspan(n_, n_)),
        paid_(scratch.subspan(2 * n_, n_)),
        peak_before_(scratch.subspan(3 * n_, n_)),
        room_(p, scratch.subspan(4 * n_)) {}

  constexpr bool pack(std::span<placement> out) {
    sort_by_load();
    bytes left = 0, room = 0;
    for (std::size_t i = 0; i < n_; ++i) {
      left += p_.resident(i);
      out[i] = {};
      choice_[i] = 0;
    }
    for (std::size_t u = 1; u < p_.ties.size(); ++u)
      if (p_.ties[u].storage == p_.ties[u - 1].storage) left -= p_.ties[u].size;
    for (std::uint32_t b = 0; b < bins_; ++b) room += p_.seats[b].limit;
    if (left > room) return false;

    std::size_t depth = 0;
    for (std::uint64_t step = 0; step < max_packing_steps; ++step) {
      if (depth == n_) return true;
      const auto atom = static_cast<std::uint32_t>(order_[depth]);
      const auto bin = next_bin(out, depth);
      if (bin < bins_) {
        paid_[depth] = room_.price(out, atom, bin);
        peak_before_[depth] = room_.peak(bin);
        room_.take(atom, bin, paid_[depth]);
        out[atom] = {bin, bin};
        choice_[depth] = bin + 1;
        if (++depth < n_) choice_[depth] = first_bin(out, depth);
        continue;
      }
      choice_[depth] = 0;
      if (depth == 0) return false;
      --depth;
      const auto back = static_cast<std::uint32_t>(order_[depth]);
      room_.give_back(out[back].home, paid_[depth], peak_before_[depth]);
      out[back] = {};
    }
    return false;
  }

 private:
  constexpr void sort_by_load() {
    for (std::size_t i = 0; i < n_; ++i) order_[i] = i;
    // Heap sort: in place, no recursion, O(n log n), usable in constant expressions. Ties by position.
    const auto before = [this](std::uint64_t a, std::uint64_t b) {
      return p_.resident(a) != p_.resident(b) ? p_.resident(a) > p_.resident(b) : a < b;
    };
    const auto sink = [&](std::size_t at, std::size_t end) {
      for (std::size_t child = 2 * at + 1; child < end; child = 2 * at + 1) {
        if (child + 1 < end && before(order_[child], order_[child + 1])) ++child;
        if (!before(order_[at], order_[child])) return;
        swap(order_[at], order_[child]);
        at = child;
      }
    };
    for (std::size_t i = n_ / 2; i > 0; --i) sink(i - 1, n_);
    for (std::size_t end = n_; end > 1; --end) {
      swap(order_[0], order_[end - 1]);
      sink(0, end - 1);
    }
  }
  static constexpr void swap(std::uint64_t& a, std::uint64_t& b) {
    const auto c = a;
    a = b;
    b = c;
  }

  constexpr bool has_ties(std::uint64_t atom) const {
    for (const auto& u : p_.ties)
      if (u.atom == atom) return true;
    return false;
  }
  /// Equal untied atoms are interchangeable: the later one starts at the earlier one's seat.
  constexpr std::uint64_t first_bin(std::span<const placement> out, std::size_t depth) const {
    const auto now = order_[depth], before = order_[depth - 1];
    const bool same = p_.loads[now] == p_.loads[before] && p_.state(now) == p_.state(before) &&
                      p_.workspace(now) == p_.workspace(before) && !has_ties(now) && !has_ties(before);
    return same ? out[before].home : 0;
  }
  constexpr seat_index next_bin(std::span<const placement> out, std::size_t depth) const {
    const auto atom = static_cast<std::uint32_t>(order_[depth]);
    const bool tied = has_ties(atom);
    for (auto b = static_cast<seat_index>(choice_[depth]); b < bins_; ++b) {
      if (room_.price(out, atom, b) > room_.room(b)) continue;
      bool tried = false;
      for (seat_index c = 0; c < b && !tied && !tried; ++c)
        tried = room_.room(c) == room_.room(b) && room_.peak(c) == room_.peak(b) && p_.ties.empty();
      if (!tried) return b;
    }
    return bins_;
  }

  problem_view p_;
  std::uint32_t bins_;
  std::size_t n_;
  std::span<std::uint64_t> order_, choice_, paid_, peak_before_;
  room_ledger room_;
};

}  // namespace berth
