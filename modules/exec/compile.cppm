// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <memory_resource>

export module berth.exec:compile;

import berth.base;
import berth.plan;
import :handles;
import :program;

export namespace berth {

struct compile_options {
  /// Memory of the CPU that weights are streamed from: pinned, or pageable (what accelerate does).
  memory_kind host_memory = memory_kind::pinned;
  /// Rounds are independent sequences that fill the devices one behind the other (throughput), not the tokens of one
  /// sequence. Each boundary between devices then has activations of its own, outside the plan's count.
  bool pipelined = false;
};

/// Writes a phase of a plan out as operations on streams. Pure: the same plan gives the same program; the frames of all
/// phases of a plan (and of the same options) are equal. Errors: `invalid_plan` for a plan that `check` refuses, that
/// has no times, whose activations or states have no route, or that shares more bytes than its atoms have; `capacity`
/// above 65536 staging slots. O(atoms + devices^2), plus the check.
result<program> compile(const plan& p, program_phase phase, const compile_options& options = {},
                        std::pmr::memory_resource* memory = std::pmr::get_default_resource());

}  // namespace berth
