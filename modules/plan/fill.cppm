// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <span>

export module berth.plan:fill;

import berth.model;
import berth.topology;
import :problem;
import :cost;
import :packing;

export namespace berth {

/// Cells that the fills need as scratch.
constexpr std::size_t fill_cells(const problem_view& p) {
  return packer::cells(p.loads.size(), p.seats.size()) + room_ledger::cells(p.seats.size()) + 2 * p.loads.size();
}

/// Contiguous fill of the first `bins` seats in order, each as far as it goes. False if atoms are left over.
constexpr bool fill_in_order(const problem_view& p, std::uint32_t bins, room_ledger& room, std::span<placement> out) {
  for (auto& o : out) o = {};
  room.reset();
  seat_index s = 0;
  for (std::uint32_t i = 0; i < p.loads.size(); ++i) {
    for (; s < bins; ++s) {
      const bytes price = room.price(out, i, s);
      if (price > room.room(s)) continue;
      room.take(i, s, price);
      out[i] = {s, s};
      break;
    }
    if (s == bins) return false;
  }
  return true;
}

/// First fit in chain order: each atom goes to the first of the `bins` seats that has room, which back-fills holes.
/// Atoms with a home already are skipped; atoms that fit nowhere stay without one. With `at_least` only atoms of that
/// load or more are placed.
constexpr void first_fit(const problem_view& p, std::uint32_t bins, room_ledger& room, bytes at_least,
                         std::span<placement> out) {
  for (std::uint32_t i = 0; i < p.loads.size(); ++i) {
    if (out[i].home != none || p.loads[i] < at_least) continue;
    for (seat_index s = 0; s < bins; ++s) {
      const bytes price = room.price(out, i, s);
      if (price > room.room(s)) continue;
      room.take(i, s, price);
      out[i] = {s, s};
      break;
    }
  }
}

constexpr bool all_placed(std::span<const placement> out) {
  for (const auto& o : out)
    if (o.home == none) return false;
  return true;
}

/// Keeps everything on the first `bins` seats if that can be done: in order, then first fit, then by exact search.
constexpr bool keep_on(const problem_view& p, std::uint32_t bins, std::span<placement> out,
                       std::span<std::uint64_t> scratch) {
  if (bins == 0) return p.loads.empty();
  room_ledger room(p, scratch);
  if (fill_in_order(p, bins, room, out)) return true;
  room.reset();
  for (auto& o : out) o = {};
  first_fit(p, bins, room, 0, out);
  if (all_placed(out)) return true;
  return packer(p, bins, scratch.subspan(room_ledger::cells(p.seats.size()))).pack(out);
}

/// Fills the executing seats and puts the rest on the stores behind them (the CPU when GPUs execute, then the disk),
/// streamed to the first executing seat that has room for them. Room for the staging slots is kept on that seat only
/// because something streams, and only for the largest atom that does: every possible size of it is tried, and the plan
/// that keeps most bytes resident wins (ties: smaller slots). State and workspace of what is streamed are kept on that
/// seat as well. When no slot fits, the CPU computes what is left over on it; if it cannot hold that, what is left over
/// is streamed to the CPU from the disk.
class offloader {
 public:
  constexpr offloader(const problem_view& p, std::span<std::uint64_t> scratch)
      : p_(p),
        gpus_(gpu_count(p)),
        executors_(gpus_ > 0 ? gpus_ : (find_seat(p, device_kind::cpu) == none ? 0 : 1)),
        room_(p, scratch),
        best_(scratch.subspan(room_ledger::cells(p.seats.size()), 2 * p.loads.size())) {}

  constexpr bool solve(std::span<placement> out) {
    if (executors_ == 0) return false;
    for (seat_index target = 0; target < executors_; ++target)
      if (stream_to(target, executors_, out)) return true;
    if (compute_on_cpu(out)) return true;
    const auto cpu = find_seat(p_, device_kind::cpu);
    return cpu != none && gpus_ > 0 && stream_to(cpu, cpu + 1, out);
  }

 private:
  static constexpr bytes no_size = ~bytes{0};

  /// The smallest load above `size` (or the smallest of all).
  constexpr bytes next_size(bytes size, bool first) const {
    bytes next = no_size;
    for (const auto load : p_.loads)
      if ((first || load > size) && load < next) next = load;
    return next;
  }

  /// Fills the first `bins` seats, the rest is streamed to `target`, one of them.
  constexpr bool stream_to(seat_index target, std::uint32_t bins, std::span<placement> out) {
    bool found = false;
    bytes best_resident = 0;
    for (bytes size = next_size(0, true); size != no_size; size = next_size(size, false)) {
      bytes resident = 0;
      if (!stream_up_to(size, target, bins, out, resident) || (found && resident <= best_resident)) continue;
      found = true;
      best_resident = resident;
      save(out);
    }
    if (found) restore(out);
    return found;
  }

  constexpr void reset(std::span<placement> out, seat_index target, bytes reserve) {
    for (auto& o : out) o = {};
    room_.reset();
    room_.keep_back(target, reserve);
  }

  /// Grows what is kept back for the streamed atoms' state and workspace until it suffices: it only ever grows, since
  /// less room never leaves fewer atoms over.
  constexpr bool stream_up_to(bytes size, seat_index target, std::uint32_t bins, std::span<placement> out,
                              bytes& resident) {
    const bytes limit = p_.seats[target].limit;
    if (p_.staging_slots == 0 || size > limit / p_.staging_slots) return false;
    const bytes slots = size * p_.staging_slots;
    for (bytes running = 0; running <= limit - slots;) {
      reset(out, target, slots + running);
      first_fit(p_, bins, room_, size + 1, out);
      for (std::size_t i = 0; i < out.size(); ++i)
        if (out[i].home == none && p_.loads[i] > size) return false;
      first_fit(p_, bins, room_, 0, out);
      const bytes needed = running_of_rest(out);
      if (needed <= running) {
        resident = 0;
        for (std::size_t i = 0; i < out.size(); ++i)
          if (out[i].home != none) resident += p_.loads[i];
        return store_rest(bins, target, out);
      }
      running = needed;
    }
    return false;
  }
  /// State and workspace that the atoms without a home need where they run.
  constexpr bytes running_of_rest(std::span<const placement> out) const {
    bytes states = 0, workspace = 0;
    for (std::uint32_t i = 0; i < out.size(); ++i) {
      if (out[i].home != none) continue;
      states += p_.state(i);
      if (p_.workspace(i) > workspace) workspace = p_.workspace(i);
    }
    return states + workspace;
  }

  /// Homes for what is left: the seats from `first` on, in order, from which `runs_on` can be reached; executed there.
  constexpr bool store_rest(std::uint32_t first, seat_index runs_on, std::span<placement> out) {
    for (std::uint32_t i = 0; i < p_.loads.size(); ++i) {
      if (out[i].home != none) continue;
      for (seat_index s = first; s < p_.seats.size(); ++s) {
        const bytes added = added_weights(p_, out, i, s);
        if (added > room_.room(s) || !(copy_seconds(p_, 1, s, runs_on) < forever)) continue;
        room_.take_weights(s, added);
        out[i] = {s, runs_on};
        break;
      }
      if (out[i].home == none) return false;
    }
    return true;
  }

  constexpr bool compute_on_cpu(std::span<placement> out) {
    const auto cpu = find_seat(p_, device_kind::cpu);
    if (cpu == none || gpus_ == 0) return false;
    reset(out, 0, 0);
    first_fit(p_, gpus_, room_, 0, out);
    for (std::uint32_t i = 0; i < p_.loads.size(); ++i) {
      if (out[i].home != none) continue;
      const bytes price = room_.price(out, i, cpu);
      if (price > room_.room(cpu)) return false;
      room_.take(i, cpu, price);
      out[i] = {cpu, cpu};
    }
    return true;
  }

  constexpr void save(std::span<const placement> out) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      best_[2 * i] = out[i].home;
      best_[2 * i + 1] = out[i].execution;
    }
  }
  constexpr void restore(std::span<placement> out) const {
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = {static_cast<seat_index>(best_[2 * i]), static_cast<seat_index>(best_[2 * i + 1])};
  }

  problem_view p_;
  std::uint32_t gpus_, executors_;
  room_ledger room_;
  std::span<std::uint64_t> best_;
};

}  // namespace berth
