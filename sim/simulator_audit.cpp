// SPDX-License-Identifier: Apache-2.0
// The invariants of the simulator, checked at every event when somebody asks for it.
module;

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <span>
#include <vector>

module berth.sim;

import berth.base;
import berth.topology;
import berth.exec;

namespace berth::sim {
namespace {

constexpr double tolerance = 1e-9;

}  // namespace

void simulator::breach(const char* what, std::uint64_t number) {
  if (!broken_) broken_ = fail(errc::invalid_program, "simulator", text<160>(what).append(" ").append(number)).why;
}

/// The instant is over and rates are new.
void simulator::audit_now() {
  for (std::size_t s = 0; s < flows_.segments(); ++s) {
    const auto segment = static_cast<segment_index>(s);
    if (flows_.used(segment) > flows_.capacity(segment) * (1 + tolerance)) breach("above capacity: segment", s);
  }
  for (std::size_t d = 0; d < devices_.size(); ++d)
    if (devices_[d].used > devices_[d].memory || devices_[d].highest > devices_[d].memory)
      breach("more memory in use than there is: device", d);
}

/// Bytes that flowed, by integrating rates, against bytes that the finished flows carried. Rates change within a
/// picosecond before an event, so each event may be off by what a segment carries in one.
void simulator::audit_interval(picoseconds from, picoseconds to) {
  if (to < from) breach("time ran backwards, by picoseconds:", static_cast<std::uint64_t>(from - to));
  for (std::size_t s = 0; s < flows_.segments(); ++s) {
    const auto segment = static_cast<segment_index>(s);
    const double rate = flows_.used(segment);
    flowed_[s] += rate / picoseconds_per_second * static_cast<double>(to - from);
    rounded_[s] += 2 * flows_.capacity(segment) / picoseconds_per_second;
    if (flows_.active() > 0) continue;
    if (std::abs(flowed_[s] - carried_[s]) > tolerance * carried_[s] + rounded_[s])
      breach("bytes lost or won on segment", s);
  }
}

}  // namespace berth::sim
