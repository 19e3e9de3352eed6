// SPDX-License-Identifier: Apache-2.0
// Which machine a plan is for.
module;

#include <string>
#include <vector>

export module berth.tool:machine;

import berth;

export namespace tool {

/// A topology and what had to be assumed about it.
struct machine_choice {
  berth::topology topology;
  std::vector<std::string> notes;
};

/// T as given to --topology or `berth topology`: "auto", "preset:NAME", a file, or "-". `gpu` names the GPU model of
/// machines whose file does not.
berth::result<machine_choice> choose_machine(const std::string& spec, const std::string& gpu);

/// The machine that the keys of --max-memory define: GPUs by number with the rates of a default card, the CPU and the
/// disk where they are named. Every device has exactly the memory that is written.
berth::result<machine_choice> machine_of_budgets(const std::vector<berth::device_bytes>& budgets);

}  // namespace tool
