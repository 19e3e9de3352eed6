// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

export module berth.plan:budgets;

import berth.model;
import berth.topology;
import :problem;

export namespace berth {

/// Bytes for a device, by id.
struct device_bytes {
  device_id id;
  bytes amount = 0;
};

/// What the caller asks of a placement, beside the strategy.
struct place_options {
  berth::workload workload{};
  /// Budget per device. Empty: every GPU and the CPU of the topology with the memory that is free there, no disk.
  /// Not empty: devices that are not listed are not used, and no device gets more than the topology says is free.
  std::span<const device_bytes> max_memory{};
  /// Kept back per device, beside what the plan charges.
  std::span<const device_bytes> reserve{};
  /// The disk may hold weights although `max_memory` does not name it.
  bool use_disk = false;
  std::uint32_t staging_slots = 2;  ///< 0: nothing may be streamed
  bool certify = true;              ///< compute the bound behind the certificate
};

namespace detail {

constexpr const device_bytes* entry_of(std::span<const device_bytes> list, const device_id& id) {
  for (const auto& e : list)
    if (e.id == id) return &e;
  return nullptr;
}

constexpr result<done> check_ids(topology_view t, std::span<const device_bytes> list, std::string_view option) {
  for (std::size_t i = 0; i < list.size(); ++i) {
    bool known = false;
    for (const auto& d : t.devices) known = known || d.id == list[i].id;
    if (!known)
      return fail(errc::unknown_device, list[i].id.view(),
                  text<128>(option).append(" names a device that the topology does not have"));
    for (std::size_t j = 0; j < i; ++j)
      if (list[j].id == list[i].id)
        return fail(errc::invalid_argument, list[i].id.view(), text<128>(option).append(" names this device twice"));
  }
  return done{};
}

/// A device reads its memory no faster than the segment carries that others read it over.
constexpr seat seat_of(topology_view t, std::size_t position, bytes limit) {
  const auto& d = t.devices[position];
  seat s{static_cast<device_index>(position), d.id, d.kind, d.api, limit};
  for (std::size_t c = 0; c < rate_class_count; ++c) s.flops[c] = d.flops(static_cast<rate_class>(c));
  s.bandwidth = d.bandwidth();
  if (d.executes() && d.memory_segment != no_index && t.segments[d.memory_segment].capacity < s.bandwidth)
    s.bandwidth = t.segments[d.memory_segment].capacity;
  s.overhead = d.overhead;
  return s;
}

}  // namespace detail

/// Number of seats that `make_seats` may write.
constexpr std::size_t max_seats(topology_view t) { return t.devices.size(); }

/// The devices that may be used, with their limits: GPUs in topology order, then the CPU, then the disk. Devices
/// without any room are left out. Returns how many were written to `out` (size >= `max_seats`).
constexpr result<std::size_t> make_seats(topology_view t, const place_options& options, std::span<seat> out) {
  if (auto ok = detail::check_ids(t, options.max_memory, "max_memory"); !ok) return ok.propagate();
  if (auto ok = detail::check_ids(t, options.reserve, "reserve"); !ok) return ok.propagate();
  std::size_t n = 0;
  for (const auto kind : {device_kind::gpu, device_kind::cpu, device_kind::disk})
    for (std::size_t i = 0; i < t.devices.size(); ++i) {
      const auto& d = t.devices[i];
      if (d.kind != kind) continue;
      const auto* cap = detail::entry_of(options.max_memory, d.id);
      const bool allowed =
          kind == device_kind::disk ? cap != nullptr || options.use_disk : cap != nullptr || options.max_memory.empty();
      if (!allowed) continue;
      bytes limit = d.free;
      if (cap != nullptr && cap->amount < limit) limit = cap->amount;
      const auto* kept = detail::entry_of(options.reserve, d.id);
      const bytes reserve = kept == nullptr ? 0 : kept->amount;
      limit = reserve >= limit ? 0 : limit - reserve;
      if (d.granularity > 1) limit -= limit % d.granularity;
      if (limit == 0) continue;
      out[n++] = detail::seat_of(t, i, limit);
    }
  return n;
}

/// The cost of every directed pair of the topology's devices, as `problem_view::links` wants it: `out` has one entry
/// per pair. Pairs without a route stay unusable.
constexpr void make_links(topology_view t, std::span<link_cost> out) {
  for (auto& l : out) l = {};
  for (const auto& r : t.routes)
    out[std::size_t{r.from} * t.devices.size() + r.to] = {r.latency, r.setup, t.bandwidth_of(r)};
}

/// True if any seat's device rounds arenas: then tensors and states are charged with their alignment padding.
constexpr bool pads_tensors(topology_view t, std::span<const seat> seats) {
  for (const auto& s : seats)
    if (t.devices[s.device].granularity > 1) return true;
  return false;
}

}  // namespace berth
