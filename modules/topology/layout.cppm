// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

export module berth.topology:layout;

import berth.base;
import :ids;
import :segment;
import :owners;
import :gpu_specs;
import :boxes;

export namespace berth {

/// Rate of one copy between GPUs of two sockets, and what the socket link carries in all, bytes/s per direction:
/// priors for a CPU that is not named (NCCL's figure for AMD; three such links).
inline constexpr double default_socket_copy_rate = 16e9;
inline constexpr double socket_link_copies = 3;

/// The wiring of a machine as an importer understands it, from which `build` makes segments and routes.
struct machine_layout {
  static constexpr std::size_t no_link = static_cast<std::size_t>(-1);

  /// A full-duplex link that several GPUs may share: a GPU's own uplink, a switch's, a host bridge.
  struct link {
    std::string name;
    segment_kind kind = segment_kind::pcie;
    double rate = 0;  ///< bytes/s per direction
  };
  struct gpu {
    device_id id;
    gpu_spec spec{};
    int numa_node = -1;
    std::vector<std::size_t> uplinks;  ///< indices into `links`, from the GPU upwards, without the host bridge
    std::size_t bridge = no_link;      ///< index into `links`; `no_link` where nothing is shared above
    std::size_t socket = 0;            ///< any number; equal ones are the same socket
    double port_rate = 0;              ///< of all its peer links together, bytes/s per direction; 0: no port
    segment_kind port_kind = segment_kind::nvlink;
  };
  /// A direct link (NVLink or xGMI) from one GPU to another; the reverse direction is a peer of its own.
  struct peer {
    std::size_t from = 0, to = 0;  ///< indices into `gpus`
    segment_kind kind = segment_kind::nvlink;
    double rate = 0;             ///< bytes/s, all links of the pair together
    bool through_ports = false;  ///< crosses the ports of both GPUs as well
    double setup = peer_setup;   ///< s per bare copy
  };

  std::string name;
  std::vector<link> links;
  std::vector<gpu> gpus;
  std::vector<peer> peers;
  host_spec host{};
  double socket_copy_rate = default_socket_copy_rate;
  double bridge_divisor = 1;  ///< peer copies through a host bridge reach rate / this (Intel: 6/5)
};

/// The host that a machine with these GPUs usually has.
const host_spec& usual_host(const std::vector<gpu_spec>& gpus);

/// Segments for every link, socket pair, DRAM and disk; routes between all GPUs, to and from the CPU, and from the
/// disk. Two GPUs talk over, in this order: their direct link; their switch ports; PCIe, peer to peer where their model
/// allows it, else staged in DRAM. Error: `invalid_topology`. Cubic in the GPUs of a tree, at most 64.
result<topology> build(const machine_layout& layout);

}  // namespace berth
