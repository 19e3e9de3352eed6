// SPDX-License-Identifier: Apache-2.0
module;

#include <string>
#include <vector>

export module berth.cuda:detect;

import berth.base;
import berth.topology;
import :runtime_table;
import :nvml_table;

export namespace berth::cuda {

/// What was found, and what a user should know about the figures, in sentences.
struct detected {
  topology machine;
  std::vector<std::string> notes;
};

/// The GPUs that CUDA shows (in its order, so under CUDA_VISIBLE_DEVICES too; ids are CUDA's numbers), put into a host:
/// a topology with a CPU and perhaps a disk, as `host::detect_host` returns. Memory is what is free now; asking for it
/// makes a context on every GPU, whose cost is then part of what is not free. Rates are those of the model where the
/// table has it, else from clocks and bus width. Wiring is NVML's, else a guess with a note. `nvml` may be null.
/// Errors: those of the calls; `invalid_topology`.
result<detected> detect(const runtime_table& cuda, const nvml_table* nvml, const topology_view& host);

}  // namespace berth::cuda
