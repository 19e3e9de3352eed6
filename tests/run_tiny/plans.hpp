// SPDX-License-Identifier: Apache-2.0
// Plans of every kind for one model, so that one checkpoint can be run in all the ways that a plan can ask for.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

// Include this file last: what follows an import may not be included.
import berth;
import tiny;

namespace tiny_test {

enum class plan_kind : std::uint8_t {
  one_gpu,         ///< all on one GPU
  two_gpus,        ///< first half, second half
  in_turn,         ///< atoms of two GPUs alternate: every activation hops
  on_cpu,          ///< all computed by the CPU
  cpu_computes,    ///< every other atom computed by the CPU
  cpu_streams,     ///< all blocks live on the CPU and are streamed to a GPU, more of them than slots
  disk_streams,    ///< the same from the disk
  all_streams,     ///< every atom from the disk to the CPU, which computes
  prompt_on_gpu,   ///< computed by the CPU, but the prompt by a GPU: weights and states move
  mixed,           ///< all of these in one plan
  balanced,        ///< the strategy of that name
  automatic,       ///< the strategy `Auto` on a machine with room
  automatic_tight  ///< and with half the room, cut into small pieces
};
inline constexpr std::array all_kinds{
    plan_kind::one_gpu,         plan_kind::two_gpus,    plan_kind::in_turn,      plan_kind::on_cpu,
    plan_kind::cpu_computes,    plan_kind::cpu_streams, plan_kind::disk_streams, plan_kind::all_streams,
    plan_kind::prompt_on_gpu,   plan_kind::mixed,       plan_kind::balanced,     plan_kind::automatic,
    plan_kind::automatic_tight,
};
std::string_view name_of(plan_kind k);

/// A plan of the kind for two GPUs, a CPU and a disk. Errors: those of planning.
berth::result<berth::plan> plan_of(plan_kind k, const tiny::opened& m, const berth::precision& how,
                                   const berth::workload& w);

}  // namespace tiny_test
