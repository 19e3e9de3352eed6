// SPDX-License-Identifier: Apache-2.0
// Exports nothing: the ring of host memory through which the weights of one device pass.
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

export module berth.runtime:slots;

import berth.base;
import berth.topology;
import berth.exec;
import :read_plan;

namespace berth::detail {

/// A slot begins with room for one number per part: the first row that could not be quantized, or all ones.
inline constexpr bytes control_bytes = direct_step;
/// What a slot takes beyond the bytes of its read: the numbers, and a unit of direct reading before and behind.
inline constexpr bytes slot_overhead = control_bytes + 2 * direct_step;
inline constexpr bytes least_slot = 48 * KiB;
inline constexpr bytes least_zeros = 64 * KiB;
inline constexpr bytes scratch_step = 256;
inline constexpr bytes most_compared = 16 * MiB;
/// Microseconds for which a reader is waited for while copies are under way, and otherwise.
inline constexpr std::int64_t short_wait = 50, long_wait = 20'000;
static_assert(most_parts * sizeof(std::uint32_t) <= control_bytes);

constexpr bytes slot_size_for(bytes largest) { return control_bytes + round_up(largest + direct_step, direct_step); }
/// Where the first byte of a read lies behind the numbers: as far behind a unit of direct reading as in the file.
constexpr bytes first_byte_of(const read_step& step) { return step.columns > 0 ? 0 : step.offset % direct_step; }

/// A transform with the engine that carries it out; what a launch is given.
struct transform_job {
  transform_engine engine{};
  transform what{};

  static void run(void* context, const work_call& call) {
    const auto& job = *static_cast<const transform_job*>(context);
    job.engine.run(job.engine.context, job.what, call);
  }
};

enum class slot_state : std::uint8_t { free, reading, read, sent };

struct slot_state_of_lane {
  slot_state state = slot_state::free;
  std::uint32_t step = 0;
  bytes offset = 0;  ///< in the staging buffer
  std::byte* memory = nullptr;
  event_id copied{}, finished{};
  std::array<transform_job, most_parts> jobs{};

  std::byte* data() const { return memory + control_bytes; }
};

struct taken_buffer {
  buffer_id buffer{};
  device_index device = no_index;
};

/// One home while it is filled.
struct lane_state {
  std::uint32_t next = 0, end = 0;  ///< reads that were not submitted yet
  stream_id stream{};               ///< copies
  stream_id transforms{};           ///< of a GPU: behind the copies, beside the next ones
  std::byte* home = nullptr;
  taken_buffer staging{}, own_scratch{};
  bytes slot_size = 0;
  std::vector<slot_state_of_lane> slots{};
  std::uint32_t fill = 0, send = 0, free = 0;  ///< slots in turn: next to be read into, sent, taken back
  buffer_range scratch{};                      ///< two halves, used in turn
  bytes scratch_size = 0;                      ///< of one
  std::uint32_t half = 0;
  std::array<event_id, 2> scratch_free{};

  bool any_sent() const { return !slots.empty() && slots[free].state == slot_state::sent; }
};

}  // namespace berth::detail
