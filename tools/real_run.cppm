// SPDX-License-Identifier: Apache-2.0
// A plan carried out on real memory.
module;

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

export module berth.tool:real_run;

import berth;
import berth.runtime;

export namespace tool {

enum class real_machine { host, cuda };

struct real_setting {
  real_machine machine = real_machine::host;
  int readers = 4;
  bool verify = false;
  std::uint64_t rounds = 0;  ///< of decode, with stand-in work; 0: load only
  std::string offload_folder;
};

/// What was taken on one device, and its streams' time at work.
struct stream_use {
  berth::program_stream stream;
  double predicted = 0;  ///< s, of the simulated run
  double measured = 0;
};

/// What happened, and what it was worth.
struct real_run {
  explicit real_run(std::size_t records) : trace(records) {}

  berth::trace trace;
  berth::run_marks marks;
  berth::load_report load;
  berth::report report;               ///< of the rounds, if there were any
  std::optional<berth::error> error;  ///< what ended the run
  std::vector<berth::bytes> peaks;    ///< most memory taken at a time, by device of the plan
  std::vector<double> busy;           ///< s, by stream of the program's frame
  berth::bytes resident_before = 0;   ///< of the process
  std::vector<std::string> warnings;
};

/// Which machine a plan can be carried out on: what was asked for ("auto", "host", "cuda"), or the better one that is
/// there. Errors: `unavailable` for CUDA that is not; `does_not_fit` for a rehearsal that this computer's memory does
/// not hold, with the bytes.
berth::result<real_machine> choose_real_machine(const std::string& wish, const berth::plan& p,
                                                const berth::compiled_plan& programs);

/// Loads, verifies and runs. An error of the run is part of the run; those of making the machine are not.
berth::result<real_run> carry_out(const berth::plan& p, const berth::compiled_plan& programs,
                                  const berth::weight_images& images, const real_setting& s);

/// Seconds that each stream of the frame was at work in a trace; `handles` are those of its streams.
std::vector<double> busy_times(const berth::program_frame& frame, const berth::trace& t,
                               const std::vector<berth::stream_id>& handles);

}  // namespace tool
