// SPDX-License-Identifier: Apache-2.0
// How detected GPUs are connected, before it becomes a layout. Internal.
module;

#include <cstddef>
#include <string>
#include <vector>

export module berth.cuda:wiring;

import berth.base;
import berth.topology;
import :nvml_table;

namespace berth::cuda::detail {

/// One GPU as CUDA and NVML describe it.
struct found_gpu {
  int ordinal = 0;
  std::string name;    ///< as the driver prints it
  std::string bus_id;  ///< "0000:65:00.0"
  gpu_spec spec{};
  bytes memory = 0, free = 0;
  unsigned pcie_generation = 0, pcie_lanes = 0;  ///< 0: not known
  int numa_node = -1;
  unsigned switch_links = 0;  ///< NVLinks into a switch
  bool peers = true;          ///< CUDA lets it access another one of them
};

/// All of them; matrices are row by row.
struct found_gpus {
  std::vector<found_gpu> gpus;
  std::vector<pci_level> levels;
  std::vector<unsigned> nvlinks;
  std::size_t at(std::size_t a, std::size_t b) const { return a * gpus.size() + b; }
};

/// Segments and routes by the same rules as `nvidia-smi topo -m` is read with (docs/topology.md). `bridge`: rate of a
/// root complex per direction, 0 for none.
machine_layout wire(const found_gpus& found, const host_spec& host);

}  // namespace berth::cuda::detail
