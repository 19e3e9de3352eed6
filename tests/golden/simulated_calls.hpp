// SPDX-License-Identifier: Apache-2.0
// The calls of one host thread, as `berth.engine/1` and `berth.machine/1` list them, made on a simulator.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

// Include this file last: what follows an import may not be included.
import berth.formats;

namespace golden {

struct simulated_device {
  std::string id;
  std::uint64_t high_water = 0, final = 0;
  std::array<std::int64_t, 3> busy{};  ///< compute, h2d, d2h
};

struct simulated_outcome {
  std::string problem;  ///< why there is no outcome; empty: there is one
  std::vector<std::pair<std::int64_t, std::int64_t>> times;
  std::vector<simulated_device> devices;
  std::vector<std::size_t> failed;
  std::vector<double> carried;  ///< per segment
  std::int64_t makespan = 0;
  std::size_t copies = 0;
  std::uint64_t events = 0;
};

/// Audits the simulator on the way; a broken invariant is a problem.
simulated_outcome simulate_calls(const berth::json::value& instance);

/// The outcome as the members of `expect`: times, high_water, final, failed, makespan_ps.
berth::json::object members_of(const simulated_outcome& o);
/// What `berth.machine/1` adds: busy_ps, segment_bytes.
berth::json::object amounts_of(const simulated_outcome& o);

}  // namespace golden
