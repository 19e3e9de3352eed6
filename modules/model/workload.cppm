// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>

export module berth.model:workload;

import berth.base;

export namespace berth {

enum class objective : std::uint8_t { latency, throughput, memory };

/// What the model is asked to do. A plan always says which workload it assumed.
/// `context` 0 means: count weights and buffers only, nothing that grows with the context.
struct workload {
  std::uint64_t context = 0;  ///< tokens of state kept per sequence
  std::uint64_t batch = 1;    ///< sequences in flight
  std::uint64_t prompt = 512;
  std::uint64_t generate = 128;
  berth::objective objective = objective::memory;

  friend constexpr bool operator==(const workload&, const workload&) = default;
};

}  // namespace berth
