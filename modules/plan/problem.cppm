// SPDX-License-Identifier: Apache-2.0
module;

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

/// A device as strategies see it: what it may hold. Seats are GPUs in topology order, then the CPU, then the disk.
struct seat {
  device_index device = 0;  ///< position in the topology
  device_id id;
  device_kind kind = device_kind::gpu;
  accelerator_api api = accelerator_api::none;
  /// Bytes that berth may use: budget minus reserve, rounded down to the device's arena granularity.
  bytes limit = 0;
};

/// Where an atom's weights live and where it runs. Equal: resident. Home on the CPU or disk and execution elsewhere:
/// streamed into a staging slot before each use.
struct placement {
  seat_index home = none;
  seat_index execution = none;

  constexpr bool streamed() const { return home != execution; }
  friend constexpr bool operator==(const placement&, const placement&) = default;
};

/// One planning problem, as views: `loads[i]` are the bytes that atom i takes (tensor padding included where the
/// machine pads), `ties` its shared storages. Strategies read this and nothing else.
struct problem_view {
  std::span<const atom> atoms;
  std::span<const bytes> loads;
  std::span<const storage_use> ties;
  std::span<const seat> seats;
  /// Slots that a device needs for weights streamed to it, each as large as the largest streamed atom.
  std::uint32_t staging_slots = 2;
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

/// Loads of intervals of consecutive atoms in O(1 + uses of shared storages), from prefix sums.
/// Monotone: growing an interval at either end never makes it lighter. Needs `cells(n)` cells of scratch.
class interval_loads {
 public:
  static constexpr std::size_t cells(std::size_t atoms) { return atoms + 1; }

  constexpr interval_loads(const problem_view& p, std::span<std::uint64_t> scratch)
      : prefix_(scratch.data()),
        ties_(p.ties.data()),
        tie_count_(p.ties.size()),
        n_(static_cast<std::uint32_t>(p.loads.size())) {
    bytes sum = 0;
    for (std::uint32_t i = 0; i < n_; ++i) {
      prefix_[i] = sum;
      sum += p.loads[i];
    }
    prefix_[n_] = sum;
  }

  constexpr std::uint32_t size() const { return n_; }

  /// Bytes of atoms [begin, end) on one device, each shared storage once.
  constexpr bytes load(std::uint32_t begin, std::uint32_t end) const {
    bytes sum = prefix_[end] - prefix_[begin];
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
  std::uint64_t* prefix_;
  const storage_use* ties_;
  std::size_t tie_count_;
  std::uint32_t n_;
};

/// Bytes that atom `i` adds to seat `s` when `out` says where the others' weights live: shared storages that the seat
/// holds already are not counted again. O(uses of shared storages).
constexpr bytes added_bytes(const problem_view& p, std::span<const placement> out, std::uint32_t i, seat_index s) {
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

/// Bytes of everything whose home is seat `s`, each shared storage once.
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

/// Staging bytes that seat `s` needs: slots x the largest atom streamed to it.
constexpr bytes staging_load(const problem_view& p, std::span<const placement> out, seat_index s) {
  bytes largest = 0;
  for (std::size_t i = 0; i < p.loads.size(); ++i)
    if (out[i].execution == s && out[i].streamed() && p.loads[i] > largest) largest = p.loads[i];
  return largest * p.staging_slots;
}

}  // namespace berth
