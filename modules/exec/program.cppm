// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <string_view>
#include <vector>

export module berth.exec:program;

import berth.base;
import berth.model;
import berth.topology;
import :handles;
import :requests;

export namespace berth {

/// The parts of a run: weights arrive once; the prompt once; a decode round for every token.
enum class program_phase : std::uint8_t { load, prefill, decode };
inline constexpr std::size_t program_phase_count = 3;

constexpr std::string_view name_of(program_phase p) {
  constexpr std::array<std::string_view, program_phase_count> names{"load", "prefill", "decode"};
  const auto i = static_cast<std::size_t>(p);
  return i < names.size() ? names[i] : "unknown";
}

enum class stream_role : std::uint8_t {
  compute,   ///< launches of a device, in chain order
  copy_in,   ///< weights streamed into a device's staging slots
  copy_out,  ///< state that a prompt leaves elsewhere than decode reads it
  message,   ///< activations from a device to `peer`
  load,      ///< weights that stay on a device
};
constexpr std::string_view name_of(stream_role r) {
  constexpr std::array<std::string_view, 5> names{"compute", "copy in", "copy out", "message", "load"};
  const auto i = static_cast<std::size_t>(r);
  return i < names.size() ? names[i] : "unknown";
}

struct program_stream {
  device_index device = no_index;
  stream_role role = stream_role::compute;
  device_index peer = no_index;  ///< of a message stream: where its messages go
  friend constexpr bool operator==(const program_stream&, const program_stream&) = default;
};

enum class buffer_role : std::uint8_t {
  arena,     ///< everything that the plan counts on a device, in one piece
  messages,  ///< activations on their way that the plan does not count (chains without workspace, passes in flight)
};
constexpr std::string_view name_of(buffer_role r) { return r == buffer_role::arena ? "arena" : "messages"; }

struct program_buffer {
  device_index device = no_index;
  buffer_role role = buffer_role::arena;
  bytes size = 0;
  memory_kind kind = memory_kind::plain;
  friend constexpr bool operator==(const program_buffer&, const program_buffer&) = default;
};

/// Staging slots of a device, used in turn across rounds: the j-th copy of a round goes to slot (head + j) mod `slots`,
/// and the head moves on by `copies` per round. Slot k lies at `offset + k * slot_size` of `buffer`; event
/// `copied + k` says that its weights have arrived, `freed + k` that their reader is done.
struct staging_ring {
  device_index device = no_index;
  std::uint32_t slots = 0;
  std::uint32_t buffer = no_handle;
  bytes offset = 0;
  bytes slot_size = 0;
  std::uint32_t copied = no_handle;
  std::uint32_t freed = no_handle;
  friend constexpr bool operator==(const staging_ring&, const staging_ring&) = default;
};

/// What all phases of a plan share: streams, memory, rings and events, by number.
struct program_frame {
  explicit program_frame(std::pmr::memory_resource* memory) : streams(memory), buffers(memory), rings(memory) {}

  std::pmr::vector<program_stream> streams;
  std::pmr::vector<program_buffer> buffers;
  std::pmr::vector<staging_ring> rings;
  std::uint32_t events = 0;

  /// Bytes on a device that the plan does not count.
  bytes uncounted(device_index d) const {
    bytes sum = 0;
    for (const auto& b : buffers)
      if (b.device == d && b.role == buffer_role::messages) sum += b.size;
    return sum;
  }

  friend bool operator==(const program_frame&, const program_frame&) = default;
};

/// A place in the memory of a program. With a ring it is relative to the slot of step `step`.
struct program_range {
  std::uint32_t buffer = no_handle;
  bytes offset = 0;
  bytes size = 0;
  std::uint32_t ring = no_handle;
  std::uint32_t step = 0;
  friend constexpr bool operator==(const program_range&, const program_range&) = default;
};

enum class op_kind : std::uint8_t { allocate, free, copy, read, launch, record, wait };
constexpr std::string_view name_of(op_kind k) {
  constexpr std::array<std::string_view, 7> names{"allocate", "free", "copy", "read", "launch", "record", "wait"};
  const auto i = static_cast<std::size_t>(k);
  return i < names.size() ? names[i] : "unknown";
}

/// One operation. Which members count depends on the kind:
/// allocate `buffer`; free `stream`, `buffer`; copy `stream, from, to, transfer`; read `stream, stored, to`;
/// launch `stream, atom, memory` (what its callable sees), `flops, touched, compute`; record, wait `stream, event`.
struct operation {
  op_kind kind = op_kind::launch;
  std::uint32_t stream = no_handle;
  std::uint32_t buffer = no_handle;
  std::uint32_t atom = no_index;  ///< the atom that it is for, where there is one
  program_range from, to;
  storage_range stored;
  transfer_kind transfer = transfer_kind::copy;
  /// Number of the event. With `event_ring` it is that ring's first `copied` or `freed` event, and the slot of step
  /// `event_step` is added.
  std::uint32_t event = no_handle;
  std::uint32_t event_ring = no_handle;
  std::uint32_t event_step = 0;
  double flops = 0;
  double touched = 0;
  dtype compute = dtype::bf16;
  work_memory<program_range> memory{};

  friend constexpr bool operator==(const operation&, const operation&) = default;
};

/// One phase of a plan as operations in the order of submission. A decode program is one round of a cycle: run again
/// and again, with the heads of the rings carried over. Self-contained value; compared member by member.
struct program {
  explicit program(std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : frame(memory), operations(memory), copies(memory) {}

  program_phase phase = program_phase::load;
  program_frame frame;
  std::pmr::vector<operation> operations;
  std::pmr::vector<std::uint32_t> copies;  ///< per ring: copies in one round of this phase
  std::uint32_t last_stream = no_handle;   ///< whose end is the end of the phase (of the round); none for load

  friend bool operator==(const program&, const program&) = default;
};

}  // namespace berth
