// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

export module berth.plan:problem;

import berth.model;
import berth.topology;

export namespace berth {

/// Position of a seat in `problem_view::seats`.
using seat_index = std::uint32_t;

/// A device as strategies see it: what it may hold and how fast it works. Seats are GPUs in topology order, then the
/// CPU, then the disk.
struct seat {
  device_index device = 0;  ///< position in the topology
  device_id id;
  device_kind kind = device_kind::gpu;
  accelerator_api api = accelerator_api::none;
  /// Bytes that berth may use: budget minus reserve, rounded down to the device's arena granularity.
  bytes limit = 0;
  std::array<double, rate_class_count> flops{};  ///< FLOP/s reached by arithmetic class; 0: unknown or none
  double bandwidth = 0;                          ///< memory rate reached, bytes/s
  double overhead = 0;                           ///< s per atom

  constexpr bool executes() const { return kind != device_kind::disk; }
};

/// Where an atom's weights live and where it runs. Equal: resident. Home on the CPU or disk and execution elsewhere:
/// streamed into a staging slot before each use. Its state lives where it runs in decode.
struct placement {
  seat_index home = none;
  seat_index execution = none;
  /// Runs the prompt, if another seat than `execution` does (a CPU's atom that is streamed for the prompt only).
  seat_index prompt = none;

  constexpr seat_index runs(phase p) const { return p == phase::prefill && prompt != none ? prompt : execution; }
  constexpr bool streamed(phase p) const { return home != runs(p); }
  constexpr bool streamed() const { return streamed(phase::decode) || streamed(phase::prefill); }
  friend constexpr bool operator==(const placement&, const placement&) = default;
};

/// What one directed pair of devices costs. A pair with bandwidth 0 cannot exchange anything.
struct link_cost {
  double latency = 0;    ///< s per message between atoms, software hop included
  double setup = 0;      ///< s per bare asynchronous copy
  double bandwidth = 0;  ///< bytes/s of one copy alone

  constexpr bool usable() const { return bandwidth > 0; }
};

/// One planning problem, as views: `loads[i]` are the bytes that atom i's weights take (tensor padding included where
/// the machine pads), `ties` its shared storages. Strategies read this and nothing else.
struct problem_view {
  std::span<const atom> atoms;
  std::span<const bytes> loads;
  std::span<const storage_use> ties;
  std::span<const seat> seats;
  /// Slots that a device needs for weights streamed to it, each as large as the largest streamed atom. 0: nothing may
  /// be streamed.
  std::uint32_t staging_slots = 2;
  std::span<const bytes> states{};      ///< per atom, where it runs; empty: none
  std::span<const bytes> workspaces{};  ///< per atom, the largest of a device counts; empty: none
  /// By device position: `links[from * machine.devices.size() + to]`; empty: links are not known and not priced.
  std::span<const link_cost> links{};
  topology_view machine{};
  berth::workload workload{};
  /// Per atom, the placement that the caller has decided already (home `none`: open); empty: all open. `Pin` gives
  /// them to strategies that can improve a whole placement around them.
  std::span<const placement> fixed{};

  constexpr bytes state(std::size_t i) const { return states.empty() ? 0 : states[i]; }
  constexpr bytes workspace(std::size_t i) const { return workspaces.empty() ? 0 : workspaces[i]; }
  /// Bytes that stay on a device while atom i is resident there.
  constexpr bytes resident(std::size_t i) const { return loads[i] + state(i); }
  constexpr link_cost link(seat_index from, seat_index to) const {
    if (links.empty()) return {0, 0, 1e300};
    return links[std::size_t{seats[from].device} * machine.devices.size() + seats[to].device];
  }
  constexpr bool open(std::size_t i) const { return fixed.empty() || fixed[i].home == none; }
};

/// Number of leading seats that are GPUs.
constexpr std::uint32_t gpu_count(const problem_view& p) {
  std::uint32_t n = 0;
  while (n < p.seats.size() && p.seats[n].kind == device_kind::gpu) ++n;
  return n;
}
/// Seat of a kind, or `none`.
constexpr seat_index find_seat(const problem_view& p, device_kind kind) {
  for (std::size_t i = 0; i < p.seats.size(); ++i)
    if (p.seats[i].kind == kind) return static_cast<seat_index>(i);
  return none;
}
constexpr seat_index find_seat(const problem_view& p, const device_id& id) {
  for (std::size_t i = 0; i < p.seats.size(); ++i)
    if (p.seats[i].id == id) return static_cast<seat_index>(i);
  return none;
}

/// Needs of intervals of consecutive atoms, resident on one device, in O(1 + uses of shared storages): weights, each
/// shared storage once, + state + the largest workspace. From prefix sums and a table of maxima over powers of two.
/// Monotone: growing an interval at either end never makes it lighter.
class interval_loads {
 public:
  static constexpr std::size_t cells(const problem_view& p) {
    const auto n = p.loads.size();
    return n + 1 + (p.workspaces.empty() ? 0 : n * levels(n));
  }

  constexpr interval_loads(const problem_view& p, std::span<std::uint64_t> scratch)
      : prefix_(scratch.data()),
        peak_(p.workspaces.empty() ? nullptr : scratch.data() + p.loads.size() + 1),
        ties_(p.ties.data()),
        tie_count_(p.ties.size()),
        n_(static_cast<std::uint32_t>(p.loads.size())) {
    bytes sum = 0;
    for (std::uint32_t i = 0; i < n_; ++i) {
      prefix_[i] = sum;
      sum += p.resident(i);
    }
    prefix_[n_] = sum;
    if (peak_ == nullptr) return;
    for (std::uint32_t i = 0; i < n_; ++i) peak_[i] = p.workspaces[i];
    for (std::size_t level = 1; level < levels(n_); ++level) {
      const auto* below = peak_ + (level - 1) * n_;
      auto* here = peak_ + level * n_;
      const std::size_t half = std::size_t{1} << (level - 1);
      for (std::size_t i = 0; i < n_; ++i) {
        here[i] = below[i];
        if (i + half < n_ && below[i + half] > here[i]) here[i] = below[i + half];
      }
    }
  }

  constexpr std::uint32_t size() const { return n_; }

  /// Bytes of atoms [begin, end) on one device.
  constexpr bytes load(std::uint32_t begin, std::uint32_t end) const {
    if (begin >= end) return 0;
    bytes sum = prefix_[end] - prefix_[begin] + peak(begin, end);
    for (std::size_t i = 1; i < tie_count_; ++i)
      if (ties_[i].storage == ties_[i - 1].storage && ties_[i - 1].atom >= begin && ties_[i].atom < end)
        sum -= ties_[i].size;
    return sum;
  }
  /// Largest end such that [begin, end) fits `cap`.
  constexpr std::uint32_t reach(std::uint32_t begin, bytes cap) const {
    std::uint32_t low = begin, high = n_;
    while (low < high) {
      const std::uint32_t middle = low + (high - low + 1) / 2;
      if (load(begin, middle) <= cap)
        low = middle;
      else
        high = middle - 1;
    }
    return low;
  }
  /// Smallest begin such that [begin, end) fits `cap`.
  constexpr std::uint32_t reach_back(std::uint32_t end, bytes cap) const {
    std::uint32_t low = 0, high = end;
    while (low < high) {
      const std::uint32_t middle = low + (high - low) / 2;
      if (load(middle, end) <= cap)
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }

 private:
  static constexpr std::size_t levels(std::size_t n) { return static_cast<std::size_t>(std::bit_width(n)); }
  constexpr bytes peak(std::uint32_t begin, std::uint32_t end) const {
    if (peak_ == nullptr) return 0;
    const auto level = static_cast<std::size_t>(std::bit_width(end - begin)) - 1;
    const auto* row = peak_ + level * n_;
    const bytes a = row[begin], b = row[end - (std::uint32_t{1} << level)];
    return a > b ? a : b;
  }

  std::uint64_t* prefix_;
  std::uint64_t* peak_;
  const storage_use* ties_;
  std::size_t tie_count_;
  std::uint32_t n_;
};

/// Weight bytes that atom `i` adds to seat `s` when `out` says where the others' weights live: shared storages that the
/// seat holds already are not counted again. O(uses of shared storages).
constexpr bytes added_weights(const problem_view& p, std::span<const placement> out, std::uint32_t i, seat_index s) {
  bytes added = p.loads[i];
  for (std::size_t u = 0; u < p.ties.size(); ++u) {
    if (p.ties[u].atom != i) continue;
    std::size_t first = u;
    while (first > 0 && p.ties[first - 1].storage == p.ties[u].storage) --first;
    for (std::size_t v = first; v < p.ties.size() && p.ties[v].storage == p.ties[u].storage; ++v)
      if (v != u && out[p.ties[v].atom].home == s) {
        added -= p.ties[u].size;
        break;
      }
  }
  return added;
}

/// Weight bytes of everything whose home is seat `s`, each shared storage once.
constexpr bytes home_load(const problem_view& p, std::span<const placement> out, seat_index s) {
  bytes sum = 0;
  for (std::size_t i = 0; i < p.loads.size(); ++i)
    if (out[i].home == s) sum += p.loads[i];
  for (std::size_t u = 0; u < p.ties.size(); ++u) {
    if (out[p.ties[u].atom].home != s) continue;
    for (std::size_t v = u; v > 0 && p.ties[v - 1].storage == p.ties[u].storage; --v)
      if (out[p.ties[v - 1].atom].home == s) {
        sum -= p.ties[u].size;
        break;
      }
  }
  return sum;
}

/// State bytes of everything that runs on seat `s` in decode.
constexpr bytes state_load(const problem_view& p, std::span<const placement> out, seat_index s) {
  bytes sum = 0;
  for (std::size_t i = 0; i < p.states.size(); ++i)
    if (out[i].execution == s) sum += p.states[i];
  return sum;
}

/// The largest workspace of what runs on seat `s` in any phase.
constexpr bytes workspace_load(const problem_view& p, std::span<const placement> out, seat_index s) {
  bytes largest = 0;
  for (std::size_t i = 0; i < p.workspaces.size(); ++i)
    if ((out[i].execution == s || out[i].prompt == s) && p.workspaces[i] > largest) largest = p.workspaces[i];
  return largest;
}

/// Staging bytes that seat `s` needs: slots x the largest atom streamed to it in any phase.
constexpr bytes staging_load(const problem_view& p, std::span<const placement> out, seat_index s) {
  bytes largest = 0;
  for (std::size_t i = 0; i < p.loads.size(); ++i) {
    const bool here = (out[i].execution == s && out[i].home != s) || (out[i].prompt == s && out[i].home != s);
    if (here && p.loads[i] > largest) largest = p.loads[i];
  }
  return largest * p.staging_slots;
}

/// Everything that seat `s` holds.
constexpr bytes seat_load(const problem_view& p, std::span<const placement> out, seat_index s) {
  return home_load(p, out, s) + state_load(p, out, s) + workspace_load(p, out, s) + staging_load(p, out, s);
}

/// Room left on each seat while atoms are placed one after the other.
class room_ledger {
 public:
  static constexpr std::size_t cells(std::size_t seats) { return 2 * seats; }

  constexpr room_ledger(const problem_view& p, std::span<std::uint64_t> scratch)
      : p_(p), room_(scratch.first(p.seats.size())), peak_(scratch.subspan(p.seats.size(), p.seats.size())) {
    reset();
  }

  constexpr void reset() {
    for (std::size_t s = 0; s < room_.size(); ++s) {
      room_[s] = p_.seats[s].limit;
      peak_[s] = 0;
    }
  }
  constexpr bytes room(seat_index s) const { return room_[s]; }
  constexpr bytes peak(seat_index s) const { return peak_[s]; }
  constexpr void keep_back(seat_index s, bytes amount) { room_[s] -= amount; }

  /// What atom `i` would take of seat `s`, resident there.
  constexpr bytes price(std::span<const placement> out, std::uint32_t i, seat_index s) const {
    return added_weights(p_, out, i, s) + running_price(i, s);
  }
  /// What running atom `i` on seat `s` takes there: its state and what its workspace exceeds the others' by.
  constexpr bytes running_price(std::uint32_t i, seat_index s) const {
    const bytes w = p_.workspace(i);
    return p_.state(i) + (w > peak_[s] ? w - peak_[s] : 0);
  }
  constexpr void take(std::uint32_t i, seat_index s, bytes price) {
    room_[s] -= price;
    if (p_.workspace(i) > peak_[s]) peak_[s] = p_.workspace(i);
  }
  constexpr void take_weights(seat_index s, bytes price) { room_[s] -= price; }
  /// Takes `take` back; `peak` is what `peak(s)` was before it.
  constexpr void give_back(seat_index s, bytes price, bytes peak) {
    room_[s] += price;
    peak_[s] = peak;
  }

 private:
  problem_view p_;
  std::span<std::uint64_t> room_, peak_;
};

}  // namespace berth
