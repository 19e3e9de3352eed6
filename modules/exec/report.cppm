// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <string_view>
#include <vector>

export module berth.exec:report;

import berth.base;
import berth.topology;
import berth.plan;
import :run_marks;
import :trace;

export namespace berth {

/// Share of a window during which an engine works, 0 to 1.
struct engine_use {
  double decode = 0;   ///< in the steady rounds
  double overall = 0;  ///< from the start of the load to the end of the run

  friend constexpr bool operator==(const engine_use&, const engine_use&) = default;
};

/// What a run made of one device that the plan may use.
struct device_report {
  device_index device = no_index;
  engine_use compute;
  engine_use copy_in;   ///< weights and states that arrive; messages use no copy engine
  engine_use copy_out;  ///< of GPUs only: a CPU gives through the engines of the others
  bytes peak = 0;       ///< most that was allocated at one time
  bytes planned = 0;    ///< what the plan counts
  bytes budget = 0;     ///< what it may use: budget minus reserve
  bytes state = 0;      ///< KV cache and recurrent state of the plan
};

/// What crossed one segment: copies, messages and reads on all hops of their routes, and what a CPU touches for its own
/// atoms on its memory segment.
struct segment_report {
  segment_index segment = no_index;
  bytes total = 0;      ///< in the whole run
  bytes per_round = 0;  ///< in one steady round, to the nearest byte
  double use = 0;       ///< share of its capacity used in the steady rounds, 0 to 1
};

enum class bottleneck_kind : std::uint8_t {
  none,             ///< nothing happens in decode
  compute,          ///< of one device
  compute_in_turn,  ///< devices wait for one another: no single one is busy most of the time, together they are
  copy_in,
  copy_out,
  segment,
  messages,
};
constexpr std::string_view name_of(bottleneck_kind k) {
  switch (k) {
    case bottleneck_kind::none:
      return "none";
    case bottleneck_kind::compute:
      return "compute";
    case bottleneck_kind::compute_in_turn:
      return "compute_in_turn";
    case bottleneck_kind::copy_in:
      return "copy_in";
    case bottleneck_kind::copy_out:
      return "copy_out";
    case bottleneck_kind::segment:
      return "segment";
    case bottleneck_kind::messages:
      return "messages";
  }
  return "unknown";
}

/// What limits decode: the engine or segment with the largest share in the steady rounds. Ties: the first of compute,
/// copies in, copies out, segments, messages; then the smaller index.
struct bottleneck {
  bottleneck_kind kind = bottleneck_kind::none;
  device_index device = no_index;    ///< of compute and copies
  segment_index segment = no_index;  ///< of a segment; of copies: the most used one on their way
  double share = 0;
  text<128> words;  ///< "copies into 0 over pcie 0 in"
};

/// What a run was worth. The steady rounds, which all decode shares and bytes speak of, are whole cycles in the last
/// half of the simulated rounds (with one round: that one).
struct report {
  explicit report(std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : devices(memory), segments(memory) {}

  picoseconds load_time = 0;    ///< until all weights that stay are in place
  picoseconds first_token = 0;  ///< time to first token: the prompt, without the load
  picoseconds first_round = 0;  ///< the first decode round
  /// The decode period is cycle_time / cycle_rounds per round. `periodic`: the last half of the round ends repeats with
  /// exactly this cycle, the shortest that does; else it is the mean over the last half.
  picoseconds cycle_time = 0;
  std::uint32_t cycle_rounds = 0;
  bool periodic = false;
  std::uint32_t rounds = 0;         ///< decode rounds in the run
  std::uint32_t steady_rounds = 0;  ///< of these, at the end
  picoseconds steady_from = 0;
  picoseconds steady_until = 0;
  picoseconds end = 0;  ///< of the last activity or round
  /// Prompt and `workload.generate` rounds, without the load. `extrapolated`: rounds that were not run count with the
  /// period.
  picoseconds total = 0;
  bool extrapolated = false;
  double tokens_per_second = 0;  ///< batch / period; 0 without a period
  /// Per steady round: time during which weights are copied or read and no device computes.
  picoseconds exposed_copy = 0;
  double computing = 0;  ///< share of the steady rounds in which some device computes
  double messages = 0;   ///< share of the steady rounds in which a message is under way
  bool pipelined = false;

  std::pmr::vector<device_report> devices;    ///< as the plan's `uses`
  std::pmr::vector<segment_report> segments;  ///< all of the topology
  berth::bottleneck bottleneck;

  bool priced = false;   ///< `predicted` is known
  plan_times predicted;  ///< what the plan said, s
  std::size_t faults = 0;
  std::size_t lost = 0;  ///< activities that the trace had no room for: figures from activities are then too small

  /// Seconds per decode round; 0 without rounds.
  double period() const { return cycle_rounds == 0 ? 0 : seconds_from(cycle_time) / static_cast<double>(cycle_rounds); }
  /// The prediction that the period is compared with, in seconds.
  double predicted_period() const { return pipelined ? predicted.period : predicted.decode; }
};

/// Measures a run. Precondition: the trace is of this plan's topology. O((devices + hops) x records x log records);
/// allocates from `memory`.
report make_report(const plan& p, const trace& t, const run_marks& marks,
                   std::pmr::memory_resource* memory = std::pmr::get_default_resource());

}  // namespace berth
