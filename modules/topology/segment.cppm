// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

export module berth.topology:segment;

import berth.base;
import :ids;

export namespace berth {

enum class segment_kind : std::uint8_t {
  pcie,         ///< one direction of a device's or a switch's uplink
  nvlink,       ///< one direction of a GPU's NVLink port, or of a bonded pair
  xgmi,         ///< one direction of an AMD GPU-to-GPU link
  host_bridge,  ///< one direction of a CPU's root complex
  socket_link,  ///< one direction between two CPU sockets
  dram,         ///< host memory, both directions together
  disk,         ///< storage, both directions together
  c2c,          ///< one direction of a chip-to-chip link between CPU and GPU
  fabric,       ///< anything else
};

constexpr std::string_view name_of(segment_kind k) {
  constexpr std::array<std::string_view, 9> names{"pcie", "nvlink", "xgmi", "host_bridge", "socket_link",
                                                  "dram", "disk",   "c2c",  "fabric"};
  const auto i = static_cast<std::size_t>(k);
  return i < names.size() ? names[i] : "unknown";
}
constexpr std::optional<segment_kind> segment_kind_from(std::string_view s) {
  for (std::uint8_t i = 0; i <= static_cast<std::uint8_t>(segment_kind::fabric); ++i)
    if (name_of(static_cast<segment_kind>(i)) == s) return static_cast<segment_kind>(i);
  return std::nullopt;
}

/// A resource with a capacity that all copies over it share. One direction of a full-duplex link is one segment.
struct segment {
  text<48> name;
  segment_kind kind = segment_kind::pcie;
  double capacity = 0;  ///< bytes/s, positive

  friend constexpr bool operator==(const segment&, const segment&) = default;
};

/// Software cost of handing the activation from one device to the next in a plain layer split. Measured: 0.1 to
/// 1.1 ms; this default stands until a machine is calibrated.
inline constexpr double default_hop_cost = 2e-4;

/// How bytes get from one device to another. Directed; a pair without a route cannot exchange anything.
struct route {
  device_index from = 0;
  device_index to = 0;
  double latency = default_hop_cost;  ///< s per message between atoms, software hop cost included
  double setup = 0;                   ///< s per bare asynchronous copy (streamed weights), without the hop cost
  double bandwidth = 0;               ///< bytes/s that one copy reaches at most, positive
  std::uint32_t hops_begin = 0;       ///< its segments are hops[hops_begin, hops_begin + hop_count)
  std::uint32_t hop_count = 0;

  friend constexpr bool operator==(const route&, const route&) = default;
};

}  // namespace berth
