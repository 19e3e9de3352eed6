// SPDX-License-Identifier: Apache-2.0
// NVML without NVML, behind its table. Include after the standard headers.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

import berth;
import berth.cuda;

namespace fake_cuda {

/// What NVML shows: GPUs in its own order, hidden ones included. One at a time.
class nvml {
 public:
  struct link {
    berth::cuda::nvlink_end end = berth::cuda::nvlink_end::gpu;
    std::string bus_id;  ///< of a GPU
  };
  struct gpu {
    std::string uuid, bus_id;
    unsigned generation = 4, lanes = 16;
    unsigned numa_node = 0;
    std::vector<link> links;
  };

  nvml(std::vector<gpu> gpus, std::map<std::pair<std::size_t, std::size_t>, berth::cuda::pci_level> levels);
  nvml(const nvml&) = delete;
  nvml& operator=(const nvml&) = delete;
  ~nvml();

  const berth::cuda::nvml_table& table() const;
  bool supported = true;  ///< else every question fails, as on GPUs that NVML does not support
  int open = 0;           ///< init less shutdown

 private:
  friend struct nvml_calls;
  std::vector<gpu> gpus_;
  std::map<std::pair<std::size_t, std::size_t>, berth::cuda::pci_level> levels_;
};

}  // namespace fake_cuda
