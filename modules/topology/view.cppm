// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

export module berth.topology:view;

import berth.base;
import :ids;
import :device;
import :segment;

export namespace berth {

/// A topology seen through spans: what crosses boundaries. Valid as long as its owner is.
/// Routes are sorted by (from, to), each pair at most once; `validate` checks that and everything else.
struct topology_view {
  std::string_view name;
  std::span<const device> devices;
  std::span<const segment> segments;
  std::span<const berth::route> routes;
  std::span<const segment_index> hops;

  /// Position of a device. Linear in the number of devices.
  constexpr std::optional<device_index> find(const device_id& id) const {
    for (std::size_t i = 0; i < devices.size(); ++i)
      if (devices[i].id == id) return static_cast<device_index>(i);
    return std::nullopt;
  }
  /// The first device of a kind, or nothing.
  constexpr std::optional<device_index> first(device_kind kind) const {
    for (std::size_t i = 0; i < devices.size(); ++i)
      if (devices[i].kind == kind) return static_cast<device_index>(i);
    return std::nullopt;
  }
  constexpr std::size_t count(device_kind kind) const {
    std::size_t n = 0;
    for (const auto& d : devices) n += d.kind == kind ? 1 : 0;
    return n;
  }
  /// The route from one device to another, or null: the pair cannot exchange anything. Logarithmic.
  constexpr const berth::route* route(device_index from, device_index to) const {
    const berth::route* lo = routes.data();
    std::size_t n = routes.size();
    while (n > 0) {
      const auto half = n / 2;
      const auto& r = lo[half];
      if (r.from < from || (r.from == from && r.to < to)) {
        lo += half + 1;
        n -= half + 1;
      } else {
        n = half;
      }
    }
    const bool found = lo != routes.data() + routes.size() && lo->from == from && lo->to == to;
    return found ? lo : nullptr;
  }
  /// The segments that a route crosses. Precondition: the route belongs to this topology and it is valid.
  constexpr std::span<const segment_index> hops_of(const berth::route& r) const {
    return hops.subspan(r.hops_begin, r.hop_count);
  }
  /// Rate of a single copy over a route with nothing else going on: its own cap or its narrowest segment, bytes/s.
  constexpr double bandwidth_of(const berth::route& r) const {
    double rate = r.bandwidth;
    for (const auto s : hops_of(r))
      if (segments[s].capacity < rate) rate = segments[s].capacity;
    return rate;
  }
};

/// Checks every rule that the other modules rely on: devices with unique, non-empty ids, at most one CPU and one
/// disk under the ids "cpu" and "disk"; sizes within 63 bits, free <= memory; rates finite and not negative,
/// efficiencies in (0, 1]; shared pools counted once; segments named uniquely;
/// capacities and bandwidths positive and finite; routes
/// sorted, unique, between two devices, over at least one segment, none twice. Error: `invalid_topology`.
constexpr result<done> validate(const topology_view& t);

}  // namespace berth

namespace berth::detail {

// The non-exported parts of `validate`; constexpr, so they must live in the interface.
constexpr bool finite_from(double v, double low) { return v >= low && v <= std::numeric_limits<double>::max(); }

constexpr failure bad(std::string_view subject, std::string_view why) {
  return fail(errc::invalid_topology, subject, why);
}

constexpr result<done> check_identity(const topology_view& t, std::size_t i) {
  const auto& d = t.devices[i];
  if (d.id.empty()) return bad(text<64>("device ").append(i), "has an empty id");
  for (std::size_t k = 0; k < i; ++k)
    if (t.devices[k].id == d.id) return bad(d.id, "two devices have this id");
  if ((d.id == "cpu") != (d.kind == device_kind::cpu)) return bad(d.id, "the id \"cpu\" and the kind cpu go together");
  if ((d.id == "disk") != (d.kind == device_kind::disk))
    return bad(d.id, "the id \"disk\" and the kind disk go together");
  return done{};
}

constexpr result<done> check_memory(const topology_view& t, const device& d) {
  if (d.memory > max_bytes) return bad(d.id, "memory is larger than 8 EiB");
  if (d.free > d.memory)
    return fail(errc::invalid_topology, d.id, "more memory is free than there is", d.free, d.memory);
  if (d.context > max_bytes) return bad(d.id, "context is larger than 8 EiB");
  if (d.granularity == 0 || d.granularity > TiB) return bad(d.id, "granularity must be from 1 B to 1 TiB");
  if (d.shares_memory_of == no_index) return done{};
  if (d.shares_memory_of >= t.devices.size()) return bad(d.id, "shares the memory of a device that does not exist");
  const auto& owner = t.devices[d.shares_memory_of];
  if (owner.id == d.id || owner.shares_memory_of != no_index)
    return bad(d.id, "shares the memory of a device that has none of its own");
  if (d.memory != 0) return bad(d.id, "a device that shares memory must have memory 0, or the pool counts twice");
  return done{};
}

constexpr result<done> check_rates(const topology_view& t, const device& d) {
  for (const double f : d.peak_flops) {
    if (!finite_from(f, 0)) return bad(d.id, "a compute rate is negative or not finite");
    if (f != 0 && !d.executes()) return bad(d.id, "a disk has a compute rate, but disks do not execute");
  }
  if (!finite_from(d.peak_bandwidth, 0)) return bad(d.id, "the memory rate is negative or not finite");
  if (!finite_from(d.overhead, 0)) return bad(d.id, "the overhead is negative or not finite");
  for (const double e : {d.compute_efficiency, d.bandwidth_efficiency})
    if (!(e > 0 && e <= 1)) return bad(d.id, "an efficiency is not in (0, 1]");
  if (d.memory_segment != no_index && d.memory_segment >= t.segments.size())
    return bad(d.id, "its memory segment does not exist");
  if (d.numa_node < -1 || d.cores < 0) return bad(d.id, "numa_node or cores is negative");
  return done{};
}

constexpr result<done> check_segment(const topology_view& t, std::size_t i) {
  const auto& s = t.segments[i];
  if (s.name.empty()) return bad(text<64>("segment ").append(i), "has no name");
  for (std::size_t k = 0; k < i; ++k)
    if (t.segments[k].name == s.name) return bad(s.name, "two segments have this name");
  if (!finite_from(s.capacity, std::numeric_limits<double>::min()))
    return bad(s.name, "the capacity of this segment must be positive and finite");
  return done{};
}

constexpr text<64> route_name(const topology_view& t, const route& r) {
  text<64> name("route ");
  if (r.from >= t.devices.size() || r.to >= t.devices.size()) return name.append(r.from).append(" -> ").append(r.to);
  return name.append(t.devices[r.from].id).append(" -> ").append(t.devices[r.to].id);
}

constexpr result<done> check_route(const topology_view& t, std::size_t i) {
  const auto& r = t.routes[i];
  const auto name = route_name(t, r);
  if (r.from >= t.devices.size() || r.to >= t.devices.size()) return bad(name, "names a device that does not exist");
  if (r.from == r.to) return bad(name, "leads from a device to itself");
  if (i > 0) {
    const auto& p = t.routes[i - 1];
    if (p.from == r.from && p.to == r.to) return bad(name, "occurs twice");
    if (p.from > r.from || (p.from == r.from && p.to > r.to)) return bad(name, "routes are not sorted by (from, to)");
  }
  if (!finite_from(r.latency, 0) || !finite_from(r.setup, 0))
    return bad(name, "latency or setup is negative or not finite");
  if (!finite_from(r.bandwidth, std::numeric_limits<double>::min()))
    return bad(name, "the bandwidth must be positive and finite");
  if (r.hop_count == 0) return bad(name, "crosses no segment");
  if (r.hops_begin > t.hops.size() || r.hop_count > t.hops.size() - r.hops_begin)
    return bad(name, "its hops lie outside the list of hops");
  if (r.hop_count > t.segments.size()) return bad(name, "crosses a segment twice");
  const auto* hop = t.hops.data() + r.hops_begin;
  for (std::uint32_t k = 0; k < r.hop_count; ++k) {
    if (hop[k] >= t.segments.size()) return bad(name, "crosses a segment that does not exist");
    for (std::uint32_t m = 0; m < k; ++m)
      if (hop[m] == hop[k]) return bad(name, "crosses a segment twice");
  }
  return done{};
}

}  // namespace berth::detail

export namespace berth {

constexpr result<done> validate(const topology_view& t) {
  if (t.devices.empty()) return detail::bad("topology", "there is no device");
  for (std::size_t i = 0; i < t.devices.size(); ++i) {
    if (auto r = detail::check_identity(t, i); !r) return r;
    if (auto r = detail::check_memory(t, t.devices[i]); !r) return r;
    if (auto r = detail::check_rates(t, t.devices[i]); !r) return r;
  }
  for (std::size_t i = 0; i < t.segments.size(); ++i)
    if (auto r = detail::check_segment(t, i); !r) return r;
  for (std::size_t i = 0; i < t.routes.size(); ++i)
    if (auto r = detail::check_route(t, i); !r) return r;
  return done{};
}

}  // namespace berth
