// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <string>
#include <utility>
#include <vector>

module berth.tool;

import berth;
import berth.sim;

namespace tool {
namespace {

/// Operations that one simulation submits at most, beyond its first rounds.
constexpr std::uint64_t most_operations = 2'000'000;
constexpr std::uint64_t least_rounds = 8, most_rounds = 1024;

bool pipelined(const berth::plan& p) { return p.workload.objective == berth::objective::throughput; }

std::uint64_t rounds_of(const berth::plan& p, const berth::compiled_plan& programs, const simulation_setting& s) {
  const auto wanted = s.rounds > 0 ? s.rounds : p.workload.generate;
  const auto size = std::max<std::uint64_t>(programs.decode.operations.size(), 1);
  const auto affordable = std::clamp(most_operations / size, least_rounds, most_rounds);
  return std::min(wanted, affordable);
}

/// Room for what the programs can have under way: a few rounds, as many as slots let copies run ahead or devices can
/// fill.
berth::sim::machine_options room_for(const berth::plan& p, const berth::compiled_plan& programs) {
  const auto& frame = programs.load.frame;
  const auto longest = std::max(
      {programs.load.operations.size(), programs.prefill.operations.size(), programs.decode.operations.size()});
  const auto ahead = std::max<std::size_t>(p.staging_slots, p.devices.size()) + 4;
  const auto streams = frame.streams.size() + frame.buffers.size() + 8;
  berth::sim::machine_options o;
  o.bounds.streams = static_cast<std::uint32_t>(streams);
  o.bounds.events = static_cast<std::uint32_t>(frame.events + 4 * (streams + ahead) + 64);
  o.bounds.items = static_cast<std::uint32_t>(longest * ahead + 1024);
  o.buffers = static_cast<std::uint32_t>(frame.buffers.size() + 8);
  o.places = static_cast<std::uint32_t>(2 * p.atoms.size() * (p.staging_slots + 2) + 1024);
  o.bounds.flows.hops = 16;
  return o;
}

/// The plan's machine with room for what the plan does not count, so that a full device can still be simulated.
berth::topology room_beside(const berth::plan& p, const berth::compiled_plan& programs) {
  auto out = berth::materialize(p.topology());
  for (std::size_t d = 0; d < out.devices.size(); ++d) {
    const auto beside = programs.load.frame.uncounted(static_cast<berth::device_index>(d));
    const auto rounded = berth::round_up(beside, out.devices[d].granularity);
    out.devices[d].memory += rounded;
    out.devices[d].free += rounded;
  }
  return out;
}

}  // namespace

simulation_setting setting_of(const simulate_arguments& a) {
  simulation_setting s;
  s.host_memory = a.host_memory == "pageable" ? berth::memory_kind::plain : berth::memory_kind::pinned;
  s.rounds = a.rounds;
  s.faults = a.faults;
  s.seed = a.seed;
  return s;
}

berth::result<berth::compiled_plan> programs_of(const berth::plan& p, const simulation_setting& s) {
  return berth::compile_all(p, {s.host_memory, pipelined(p)});
}

berth::result<simulated_run> simulate(const berth::plan& p, const berth::compiled_plan& programs,
                                      const simulation_setting& s) {
  auto schedule = berth::parse_faults(s.faults, s.seed);
  if (!schedule) return schedule.propagate();
  berth::execution_options options;
  options.rounds = rounds_of(p, programs, s);
  options.verify_reads = !s.faults.empty();
  simulated_run run(programs.load.operations.size() + programs.prefill.operations.size() +
                    programs.decode.operations.size() * options.rounds + 4096);
  const auto topology = room_beside(p, programs);
  berth::sim::machine machine(topology, room_for(p, programs));
  berth::counted counting(machine);
  berth::faulty failing(counting, *schedule);
  if (auto ok = failing.supported(); !ok) return ok.propagate();
  berth::traced traced(failing, run.trace);
  {
    berth::execution execution(traced, programs, options);
    if (auto ok = execution.run(); !ok) run.error = ok.error();
  }
  run.injected = berth::print(failing.injected());
  run.leaks = counting.live();
  run.marks = berth::marks_of(programs, run.trace, pipelined(p));
  if (!run.error) run.report = berth::make_report(p, run.trace, run.marks);
  return run;
}

}  // namespace tool
