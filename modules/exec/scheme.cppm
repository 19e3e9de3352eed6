// SPDX-License-Identifier: Apache-2.0
// Not exported: what `compile` decides once for all phases of a plan, before it writes operations.
module;

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <vector>

export module berth.exec:scheme;

import berth.base;
import berth.model;
import berth.topology;
import berth.plan;
import :handles;
import :program;
import :layout;
import :compile;

namespace berth::detail {

inline constexpr std::uint32_t most_staging_slots = 65536;
inline constexpr std::uint32_t token_event = 0;

constexpr std::size_t number_of(phase ph) { return static_cast<std::size_t>(ph); }

/// Whether the activation after atom i leaves its device.
inline bool hops(const plan& p, std::size_t i, phase ph) {
  return i + 1 < p.atoms.size() && p.placements[i].runs(ph) != p.placements[i + 1].runs(ph);
}
inline bool hops(const plan& p, std::size_t i) { return hops(p, i, phase::prefill) || hops(p, i, phase::decode); }
/// Bytes of that activation. Precondition: finite, below 2^62.
inline bytes message_size(const plan& p, std::size_t i, phase ph) {
  const double out = p.atoms[i].in(ph).out;
  return out > 0 ? static_cast<bytes>(std::ceil(out)) : 0;
}
/// Bytes of state that the prompt leaves on another device than decode reads it from.
inline bytes moved_state(const plan& p, std::size_t i) {
  const auto& w = p.workload;
  const auto& at = p.placements[i];
  if (w.context == 0 || at.runs(phase::prefill) == at.execution) return 0;
  if (w.prompt >= w.context) return p.atoms[i].state;
  const double share = static_cast<double>(w.prompt) / static_cast<double>(w.context);
  return static_cast<bytes>(std::llround(share * static_cast<double>(p.atoms[i].state)));
}

/// Start of a region in a buffer.
struct region {
  std::uint32_t buffer = no_handle;
  bytes offset = 0;
};
/// Where the activation after an atom waits on its device and on the next one.
struct boundary {
  region out, in;
};

struct device_scheme {
  bool runs = false;
  std::uint32_t arena = no_handle, messages = no_handle, ring = no_handle;
  std::uint32_t compute = no_handle, copy_in = no_handle, copy_out = no_handle, load = no_handle;
  bool streams_in = false, moves_state = false, loads = false, streams_out = false;
  bytes largest_message = 0, largest_state = 0;
  bool has_messages = false;
  bytes extra = 0;  ///< size of its buffer for messages
  region message, state;
};

/// Events of an atom; `no_handle` where there is nothing to wait for.
struct atom_events {
  std::uint32_t done = no_handle;      ///< its activation is written
  std::uint32_t arrived = no_handle;   ///< and has arrived on the next device
  std::uint32_t consumed = no_handle;  ///< and was read there
  std::uint32_t left = no_handle;      ///< the prompt's state is written
  std::uint32_t moved = no_handle;     ///< and has arrived where decode runs
};

struct scheme {
  explicit scheme(std::pmr::memory_resource* memory)
      : layout(memory), frame(memory), devices(memory), message(memory), events(memory), boundaries(memory) {}

  arena_layout layout;
  program_frame frame;
  std::pmr::vector<device_scheme> devices;                         ///< by device
  std::pmr::vector<std::uint32_t> message;                         ///< message streams by from * devices + to
  std::pmr::vector<atom_events> events;                            ///< by atom
  std::pmr::vector<std::array<boundary, phase_count>> boundaries;  ///< by atom and phase

  std::uint32_t message_stream(device_index from, device_index to) const {
    return message[std::size_t{from} * devices.size() + to];
  }
};

/// Decides on buffers, regions, streams and events. Precondition: `check` finds nothing. Errors: `invalid_plan`,
/// `capacity`. O(atoms + devices^2).
result<scheme> make_scheme(const plan& p, const compile_options& options, std::pmr::memory_resource* memory);

}  // namespace berth::detail
