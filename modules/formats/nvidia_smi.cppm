// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

export module berth.formats:nvidia_smi;

import berth.topology;
import :topology_document;

export namespace berth {

/// How two devices of an `nvidia-smi topo -m` matrix are connected, nearest first.
struct smi_link {
  enum class level : std::uint8_t { self, nvlink, pix, pxb, phb, node, sys };
  level kind = level::self;
  unsigned nvlinks = 0;  ///< bonded NVLinks, for `nvlink`
  friend bool operator==(const smi_link&, const smi_link&) = default;
};

/// The matrix as printed, without interpretation.
struct smi_matrix {
  struct gpu {
    int number = 0;                ///< of "GPU<number>"
    std::vector<smi_link> to_gpu;  ///< by position in `gpus`
    std::vector<smi_link> to_nic;  ///< by position in `nics`
    std::string cpus;              ///< CPU affinity as a list, "" if not known
    int numa_node = -1;
    int memory_numa_node = -1;  ///< "GPU NUMA ID": the GPU's memory is this NUMA node, not host memory
  };
  std::vector<gpu> gpus;
  std::vector<std::string> nics;
  bool legend_without_nvlink = false;  ///< a legend that has no NV# line: `topo -mp`, which hides NVLink
  std::vector<std::string> notes;
};

/// Reads the text of `nvidia-smi topo -m` or `-mp`: tabs or spaces, colours, NICs, absent or empty affinity columns,
/// columns that ran together. Errors: `malformed` with row and column; a matrix that is not symmetric is refused.
result<smi_matrix> parse_nvidia_smi(std::string_view text, std::string_view what);

/// The same as a topology: link classes become shared segments with prior rates (docs/topology.md).
result<topology_document> read_nvidia_smi(std::string_view text, std::string_view what,
                                          const topology_options& options = {});

}  // namespace berth
