// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

export module berth.plan:manual;

import berth.model;
import berth.topology;
import :problem;
import :strategy;

export namespace berth {

/// One line of a device map: everything at or below `prefix` ("" is the whole model) goes to `device`.
struct map_entry {
  std::string_view prefix;
  device_id device;
};

/// The entry that decides for `name`: the nearest ancestor, "" last; null if none does.
constexpr const map_entry* nearest_entry(std::span<const map_entry> map, std::string_view name) {
  const map_entry* best = nullptr;
  for (const auto& e : map)
    if (is_dotted_prefix(e.prefix, name) && (best == nullptr || e.prefix.size() > best->prefix.size())) best = &e;
  return best;
}

namespace detail {

/// Homes by map; atoms without an entry stay without one. GPU homes execute themselves; who executes what lies on the
/// CPU or the disk is left open for `settle`. Fails on a device that is no seat.
constexpr result<done> apply_map(const problem_view& p, std::span<const map_entry> map, std::span<placement> out) {
  for (std::size_t i = 0; i < p.atoms.size(); ++i) {
    out[i] = {};
    const auto* e = nearest_entry(map, p.atoms[i].name);
    if (e == nullptr) continue;
    const auto s = find_seat(p, e->device);
    if (s == none)
      return fail(errc::unknown_device, e->device.view(),
                  text<256>("the map sends \"")
                      .append(e->prefix)
                      .append("\" to a device that is not there or has no memory budget"));
    out[i] = {s, p.seats[s].kind == device_kind::gpu ? s : none};
  }
  return done{};
}

/// The device that runs what is streamed: the first GPU that holds something, else the first GPU, else the CPU.
constexpr seat_index streaming_target(const problem_view& p, std::span<const placement> out) {
  const auto gpus = gpu_count(p);
  seat_index best = none;
  for (const auto& o : out)
    if (o.home < gpus && (best == none || o.home < best)) best = o.home;
  if (best != none) return best;
  const auto cpu = find_seat(p, device_kind::cpu);
  return cpu != none || gpus == 0 ? cpu : 0;
}

/// Every seat within its limit, staging included; else the first seat that is not.
constexpr result<done> within_limits(const problem_view& p, std::string_view name, std::span<const placement> out) {
  for (seat_index s = 0; s < p.seats.size(); ++s) {
    const bytes staging = staging_load(p, out, s), needed = seat_load(p, out, s);
    if (needed <= p.seats[s].limit) continue;
    return fail(errc::does_not_fit, p.seats[s].id.view(),
                text<320>("strategy ")
                    .append(name)
                    .append(": the map puts ")
                    .append(needed - staging)
                    .append(" bytes here")
                    .append(staging > 0 ? " and streamed parts need slots, together " : ", ")
                    .append(staging > 0 ? text<24>().append(needed).append(", ").view() : std::string_view())
                    .append(needed - p.seats[s].limit)
                    .append(" more than the budget; move some parts or raise it"),
                needed, p.seats[s].limit);
  }
  return done{};
}

/// Decides who executes what `apply_map` left open: parts on the CPU or the disk are streamed to the GPU in use (or
/// run on the CPU when there is none); if the staging slots do not fit there, the CPU computes its own parts.
constexpr result<done> settle(const problem_view& p, std::string_view name, std::span<placement> out,
                              std::span<std::uint64_t> open) {
  const auto target = streaming_target(p, out);
  std::size_t count = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (out[i].execution != none) continue;
    if (target == none || p.seats[target].kind == device_kind::disk)
      return fail(errc::unsupported, p.seats[out[i].home].id.view(),
                  "a disk cannot execute and no other device is allowed; give a GPU or the CPU a budget");
    out[i].execution = target;
    open[count++] = i;
  }
  auto fits = within_limits(p, name, out);
  const auto cpu = find_seat(p, device_kind::cpu);
  if (fits || cpu == none) return fits;
  for (std::size_t i = 0; i < count; ++i)
    if (out[open[i]].home == cpu) out[open[i]].execution = cpu;
  if (within_limits(p, name, out)) return done{};
  return fits;
}

}  // namespace detail

/// The caller's map: prefix keys at dot boundaries, nearest ancestor wins, "" is the root. An atom that no key covers
/// is an error (`uncovered`) that lists the first ones; `uncovered_atoms` gives all. O(atoms x entries).
struct Manual {
  std::span<const map_entry> map;

  constexpr std::string_view name() const { return "manual"; }
  constexpr std::size_t scratch_cells(const problem_view& p) const { return p.loads.size(); }
  constexpr result<done> solve(const problem_view& p, std::span<placement> out,
                               std::span<std::uint64_t> scratch) const {
    if (auto applied = detail::apply_map(p, map, out); !applied) return applied;
    text<416> missing;
    std::uint64_t count = 0;
    for (std::size_t i = 0; i < out.size(); ++i)
      if (out[i].home == none && ++count <= 6) missing.append(count > 1 ? ", " : "").append(p.atoms[i].name);
    if (count > 0) {
      if (count > 6) missing.append(" and ").append(count - 6).append(" more");
      return fail(errc::uncovered, "device map",
                  text<416>("no device for ")
                      .append(missing)
                      .append("; add keys, a \"\" key, or complete the map (--complete)"));
    }
    return detail::settle(p, name(), out, scratch);
  }
};

static_assert(Strategy<Manual>);

/// Keys that no atom lies at or below: probably misspelt. Writes their positions to `out`, returns how many there are.
constexpr std::size_t unknown_entries(std::span<const map_entry> map, model_view m, std::span<std::uint32_t> out) {
  std::size_t count = 0;
  for (std::size_t e = 0; e < map.size(); ++e) {
    bool known = false;
    for (const auto& a : m.atoms) known = known || is_dotted_prefix(map[e].prefix, a.name);
    if (known) continue;
    if (count < out.size()) out[count] = static_cast<std::uint32_t>(e);
    ++count;
  }
  return count;
}

}  // namespace berth
