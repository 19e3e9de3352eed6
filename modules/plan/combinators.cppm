// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

export module berth.plan:combinators;

import berth.model;
import berth.topology;
import :problem;
import :cells;
import :strategy;
import :strategies;
import :manual;

export namespace berth {

/// The first strategy that succeeds; if none does, the error of the last one.
template <Strategy First, Strategy... Rest>
struct Prefer {
  First first{};
  Prefer<Rest...> rest{};

  constexpr std::string_view name() const { return "prefer"; }
  constexpr std::size_t scratch_cells(const problem_view& p) const {
    return std::max(first.scratch_cells(p), rest.scratch_cells(p));
  }
  constexpr result<done> solve(const problem_view& p, std::span<placement> out,
                               std::span<std::uint64_t> scratch) const {
    if (auto r = first.solve(p, out, scratch)) return r;
    return rest.solve(p, out, scratch);
  }
};
template <Strategy Only>
struct Prefer<Only> {
  Only first{};
  constexpr std::string_view name() const { return first.name(); }
  constexpr std::size_t scratch_cells(const problem_view& p) const { return first.scratch_cells(p); }
  constexpr result<done> solve(const problem_view& p, std::span<placement> out,
                               std::span<std::uint64_t> scratch) const {
    return first.solve(p, out, scratch);
  }
};

/// Fixed parts plus a strategy for the rest: atoms that `pins` covers are placed by it, `inner` places the others in
/// what room is left. A storage that a pinned and an unpinned atom share is charged to both, even on one device.
template <Strategy S>
struct Pin {
  std::span<const map_entry> pins;
  S inner{};

  constexpr std::string_view name() const { return inner.name(); }

  /// Pinned parts take different amounts of devices that were alike, which some strategies need more scratch for.
  constexpr std::size_t scratch_cells(const problem_view& p) const {
    const std::size_t k = p.seats.size() < max_seats ? p.seats.size() : max_seats;
    seat seats[max_seats]{};
    for (std::size_t s = 0; s < k; ++s) {
      seats[s] = p.seats[s];
      seats[s].limit -= s < seats[s].limit ? s : 0;
    }
    problem_view differing = p;
    differing.seats = {seats, k};
    return reduced_cells(p) + std::max(inner.scratch_cells(p), inner.scratch_cells(differing));
  }

  constexpr result<done> solve(const problem_view& p, std::span<placement> out,
                               std::span<std::uint64_t> scratch) const {
    if (auto applied = detail::apply_map(p, pins, out); !applied) return applied;
    const std::size_t n = p.loads.size(), k = p.seats.size();
    // Small fixed bounds keep this free of allocation and usable at compile time.
    if (k > max_seats) return fail(errc::capacity, name(), "pins work with at most 64 devices");
    seat seats[max_seats]{};
    seat_index full_seat[max_seats]{};
    std::size_t seats_left = 0;
    for (std::size_t s = 0; s < k; ++s) {
      const bytes pinned = seat_load(p, out, static_cast<seat_index>(s));
      if (pinned > p.seats[s].limit)
        return fail(errc::does_not_fit, p.seats[s].id.view(),
                    "the pinned parts alone are larger than this device's budget", pinned, p.seats[s].limit);
      if (pinned == p.seats[s].limit) continue;
      full_seat[seats_left] = static_cast<seat_index>(s);
      seats[seats_left] = p.seats[s];
      seats[seats_left++].limit = p.seats[s].limit - pinned;
    }
    auto index = scratch.first(n);
    std::size_t free_atoms = 0;
    for (std::size_t i = 0; i < n; ++i)
      if (out[i].home == none) index[free_atoms++] = i;
    if (free_atoms > 0)
      if (auto r = solve_rest(p, {seats, seats_left}, full_seat, index.first(free_atoms), out, scratch.subspan(n)); !r)
        return r;
    if (auto settled = detail::settle(p, name(), out, index); !settled) return settled;
    if constexpr (requires { inner.improve(p, out, scratch); }) improve_around(p, out, scratch);
    return done{};
  }

 private:
  static constexpr std::size_t max_seats = 64;
  static constexpr std::size_t max_uses = 256;
  static constexpr std::size_t reduced_cells(const problem_view& p) {
    const auto n = p.loads.size();
    return 4 * n + cells_for<atom>(n) + cells_for<placement>(n);
  }

  /// A strategy that can improve placements sees the whole problem once more, with the pinned atoms held.
  void improve_around(const problem_view& p, std::span<placement> out, std::span<std::uint64_t> scratch) const {
    cell_cutter cut(scratch);
    const auto held = cut.take<placement>(out.size());
    for (std::size_t i = 0; i < out.size(); ++i)
      if (nearest_entry(pins, p.atoms[i].name) != nullptr) held[i] = out[i];
    problem_view whole = p;
    whole.fixed = held;
    inner.improve(whole, out, cut.rest());
  }

  /// The inner strategy sees only the free atoms, without ties to pinned ones, and writes into the tail of `out`,
  /// whose own placements are moved aside first (they are all known from `pins`).
  constexpr result<done> solve_rest(const problem_view& p, std::span<const seat> seats, const seat_index* full_seat,
                                    std::span<const std::uint64_t> index, std::span<placement> out,
                                    std::span<std::uint64_t> scratch) const {
    const std::size_t n = p.loads.size(), open = index.size();
    problem_view rest = p;
    rest.atoms = {};
    rest.loads = gather(p.loads, index, scratch.first(open));
    rest.states = gather(p.states, index, scratch.subspan(n, open));
    rest.workspaces = gather(p.workspaces, index, scratch.subspan(2 * n, open));
    // Costs too, so that the rest is placed by time; at compile time strategies go by memory alone.
    if (!std::is_constant_evaluated()) {
      const auto atoms = cell_cutter(scratch.subspan(3 * n)).take<atom>(open);
      for (std::size_t i = 0; i < open; ++i) atoms[i] = p.atoms[index[i]];
      rest.atoms = atoms;
    }
    storage_use ties[max_uses]{};
    rest.ties = {ties, free_ties(p, index, ties)};
    rest.seats = seats;
    auto free_out = out.first(index.size());
    if (auto r = inner.solve(rest, free_out, scratch.subspan(3 * n + cells_for<atom>(n))); !r) return r;
    // Spread the answers from the front to their atoms, from the back so that none is overwritten before it is read.
    for (std::size_t f = index.size(); f > 0; --f) {
      auto o = free_out[f - 1];
      o.home = full_seat[o.home];
      o.execution = full_seat[o.execution];
      out[index[f - 1]] = o;
    }
    for (std::size_t i = 0; i < out.size(); ++i)
      if (const auto* e = nearest_entry(pins, p.atoms[i].name)) {
        const auto s = find_seat(p, e->device);
        out[i] = {s, p.seats[s].kind == device_kind::gpu ? s : none};
      }
    return done{};
  }

  static constexpr std::span<const bytes> gather(std::span<const bytes> all, std::span<const std::uint64_t> index,
                                                 std::span<std::uint64_t> out) {
    if (all.empty()) return {};
    for (std::size_t i = 0; i < index.size(); ++i) out[i] = all[index[i]];
    return out;
  }

  /// Uses of shared storages by free atoms, renumbered to their positions among them. Beyond `max_uses` the rest is
  /// left out, which only charges some copies twice.
  static constexpr std::size_t free_ties(const problem_view& p, std::span<const std::uint64_t> index,
                                         storage_use* out) {
    std::size_t count = 0;
    for (const auto& use : p.ties) {
      if (count == max_uses) break;
      std::size_t low = 0, high = index.size();
      while (low < high) {
        const auto middle = low + (high - low) / 2;
        if (index[middle] < use.atom)
          low = middle + 1;
        else
          high = middle;
      }
      if (low < index.size() && index[low] == use.atom)
        out[count++] = {use.storage, static_cast<std::uint32_t>(low), use.size};
    }
    return count;
  }
};

/// A map that may leave parts open, completed by a strategy: what `--complete` does.
template <class Map, Strategy S>
  requires std::same_as<Map, Manual>
struct Complete {
  Manual map;
  S rest{};

  constexpr std::string_view name() const { return "manual"; }
  constexpr std::size_t scratch_cells(const problem_view& p) const { return Pin<S>{map.map, rest}.scratch_cells(p); }
  constexpr result<done> solve(const problem_view& p, std::span<placement> out,
                               std::span<std::uint64_t> scratch) const {
    return Pin<S>{map.map, rest}.solve(p, out, scratch);
  }
};

static_assert(Strategy<Prefer<Balanced, Sequential>> && Strategy<Pin<Balanced>> &&
              Strategy<Complete<Manual, Balanced>>);

}  // namespace berth
