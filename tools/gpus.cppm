// SPDX-License-Identifier: Apache-2.0
// The GPUs of this computer, as the CUDA runtime shows them.
module;

export module berth.tool:gpus;

import berth;
import :machine;

export namespace tool {

/// A host with its GPUs. Where CUDA shows none: the host as it is, and a note that says why.
berth::result<machine_choice> with_gpus(berth::topology host);

/// Whether CUDA has this GPU, by number and model. Error: `unavailable` with what is missing, or what there is instead.
berth::result<berth::done> find_gpu(const berth::device& gpu);

}  // namespace tool
