// SPDX-License-Identifier: Apache-2.0
module;

#include <vector>

module berth.topology;

namespace berth {

topology materialize(const topology_view& t) {
  topology out;
  out.name = t.name;
  out.devices.assign(t.devices.begin(), t.devices.end());
  out.segments.assign(t.segments.begin(), t.segments.end());
  out.routes.assign(t.routes.begin(), t.routes.end());
  out.hops.assign(t.hops.begin(), t.hops.end());
  return out;
}

}  // namespace berth
