// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

module berth.topology;

namespace berth {

void topology::sort_routes() {
  std::sort(routes.begin(), routes.end(), detail::route_before);
  std::vector<segment_index> ordered;
  ordered.reserve(hops.size());
  for (auto& r : routes) {
    const auto over = std::span(hops).subspan(r.hops_begin, r.hop_count);
    r.hops_begin = static_cast<std::uint32_t>(ordered.size());
    ordered.insert(ordered.end(), over.begin(), over.end());
  }
  hops = std::move(ordered);
}

topology materialize(const topology_view& t) {
  topology out;
  out.name = t.name;
  out.devices.assign(t.devices.begin(), t.devices.end());
  out.segments.assign(t.segments.begin(), t.segments.end());
  out.routes.assign(t.routes.begin(), t.routes.end());
  out.hops.assign(t.hops.begin(), t.hops.end());
  out.sort_routes();
  return out;
}

}  // namespace berth
