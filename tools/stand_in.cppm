// SPDX-License-Identifier: Apache-2.0
// Work in the place of a model's kernels: it moves the same memory, and computes nothing.
module;

#include <atomic>
#include <cstdint>

export module berth.tool:stand_in;

import berth;
import berth.cuda;

export namespace tool {

/// Work that reads an atom's weights and writes its activation, which is what limits decoding: on the CPU a sum of
/// every byte, whose result goes into `seen`, so that no compiler leaves it out; on a GPU a product with one vector,
/// which leaves out what is not a whole row of 8 KiB.
struct stand_in {
  std::atomic<std::uint64_t> seen = 0;
  const berth::cuda::kernel_table* kernels = nullptr;  ///< for launches on GPUs

  berth::work_source source() { return {this, &stand_in::get}; }

 private:
  static berth::work get(void* context, berth::program_phase, std::uint32_t) { return {context, &stand_in::run}; }
  static void run(void* context, const berth::work_call& call);
  void on_cpu(const berth::work_call& call);
  void on_gpu(const berth::work_call& call) const;
};

}  // namespace tool
