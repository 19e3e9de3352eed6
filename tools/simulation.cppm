// SPDX-License-Identifier: Apache-2.0
// A plan carried out on the simulated machine.
module;

#include <cstdint>
#include <optional>
#include <string>

export module berth.tool:simulation;

import berth;
import :commands;

export namespace tool {

struct simulation_setting {
  berth::memory_kind host_memory = berth::memory_kind::pinned;
  std::uint64_t rounds = 0;  ///< decode rounds at most; 0: as many as tokens are generated, within reason
  std::string faults;        ///< as `parse_faults` reads it; empty: none
  std::uint64_t seed = 1;
};

/// What the command's arguments ask for.
simulation_setting setting_of(const simulate_arguments& a);

/// One run: what happened, and what it was worth if it came to its end.
struct simulated_run {
  explicit simulated_run(std::size_t records) : trace(records) {}

  berth::trace trace;
  berth::run_marks marks;
  std::optional<berth::error> error;  ///< what ended the run
  berth::report report;               ///< of a run that ended well
  std::string injected;               ///< the faults that happened, as a schedule that makes them happen again
  std::uint64_t leaks = 0;            ///< buffers that were never freed: a fault of berth
};

/// Simulates load, prompt and decode rounds of a plan. Errors of the question (a plan without times, a bad schedule);
/// an error of the run is part of the run.
berth::result<simulated_run> simulate(const berth::plan& p, const berth::compiled_plan& programs,
                                      const simulation_setting& s);

/// The programs of a plan as simulations need them: pipelined rounds for plans made for throughput.
berth::result<berth::compiled_plan> programs_of(const berth::plan& p, const simulation_setting& s);

}  // namespace tool
