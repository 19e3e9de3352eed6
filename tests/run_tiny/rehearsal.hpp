// SPDX-License-Identifier: Apache-2.0
// Carries plans out on a machine of host memory and keeps what came of it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

// Include this file last: what follows an import may not be included.
import berth;
import tiny;

namespace tiny_test {

/// How a plan is carried out.
struct manner {
  int threads = 0;
  bool materialised = true;  ///< else the load program reads everything through the machine's storage
  std::string offload_folder{};
  const tiny::gpu_forward* gpu = nullptr;  ///< carries out what runs on GPUs, at once, instead of the CPU's functions
};
struct outcome {
  std::vector<std::int32_t> tokens;
  std::vector<float> logits;  ///< of every pass
};

/// What weights pass through on their way, per device.
inline constexpr berth::bytes staging = berth::MiB;
/// The plan's machine with room for what the plan does not count: activations in flight, and `staging`.
berth::topology room_beside(const tiny::prepared& run);

/// Errors: those of the run, and `leaked` in words if memory is left on a device afterwards.
berth::result<outcome> rehearse(const tiny::opened& m, berth::plan p, const berth::precision& how,
                                std::span<const std::int32_t> prompt, const manner& way);

}  // namespace tiny_test
