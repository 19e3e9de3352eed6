// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

module berth.cuda;

import berth.base;
import berth.topology;

namespace berth::cuda {
namespace {

void put_device(device& d, const gpu_figures& m) {
  d.peak_bandwidth = std::max({m.memory.value, m.gemv_bf16.value, m.gemv_int8.value});
  d.bandwidth_efficiency = 1;
  d.overhead = kernels_per_atom * m.launch.value;
  if (m.products_bf16.repetitions == 0) return;
  for (auto& f : d.peak_flops) f *= d.compute_efficiency;
  d.compute_efficiency = 1;
  d.peak_flops[static_cast<std::size_t>(rate_class::half)] = m.products_bf16.value;
}

/// Whether every route over a segment begins or ends at the device: nobody shares it.
bool belongs_to(const topology_view& t, segment_index s, device_index d) {
  for (const auto& r : t.routes)
    for (const auto hop : t.hops_of(r))
      if (hop == s && r.from != d && r.to != d) return false;
  return true;
}

void put_route(topology& t, device_index from, device_index to, device_index owner, double rate, double setup,
               double hop) {
  for (auto& r : t.routes) {
    if (r.from != from || r.to != to) continue;
    r.bandwidth = rate;
    r.latency = hop;
    if (setup > 0) r.setup = setup;
    for (std::uint32_t i = 0; i < r.hop_count; ++i) {
      const auto s = t.hops[r.hops_begin + i];
      auto& segment = t.segments[s];
      const bool link = segment.kind == segment_kind::pcie || segment.kind == segment_kind::c2c;
      const bool own = owner != no_index && link && belongs_to(t.view(), s, owner);
      segment.capacity = own ? rate : std::max(segment.capacity, rate);
    }
  }
}

}  // namespace

result<topology> calibrated(const topology& t, const measured_gpus& m) {
  auto out = t;
  const auto index_of = [&](const device_id& id) -> result<device_index> {
    if (const auto at = t.view().find(id)) return *at;
    return fail(errc::unknown_device, id, "was measured, but the topology has no such device");
  };
  const auto cpu = t.view().first(device_kind::cpu);
  for (const auto& g : m.gpus) {
    const auto at = index_of(g.device);
    if (!at) return at.propagate();
    put_device(out.devices[*at], g);
    if (!cpu) continue;
    put_route(out, *cpu, *at, *at, g.to_device.value, g.setup.value, g.hop.value);
    put_route(out, *at, *cpu, *at, g.from_device.value, g.setup.value, g.hop.value);
  }
  for (const auto& p : m.peers) {
    const auto from = index_of(p.from), to = index_of(p.to);
    if (!from) return from.propagate();
    if (!to) return to.propagate();
    put_route(out, *from, *to, no_index, p.rate.value, 0, p.hop.value);
  }
  if (auto ok = validate(out); !ok) return ok.propagate();
  return out;
}

}  // namespace berth::cuda
