// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

export module berth.topology:gpu_specs;

import berth.base;
import :ids;
import :device;

export namespace berth {

/// How a GPU reaches the host.
enum class host_link : std::uint8_t { pcie, c2c, unified };
/// How two GPUs of this model exchange data in the machines they are usually sold in. `staged`: the driver blocks
/// peer access, so every copy goes through host memory. `pcie`: peer copies over PCIe. `port`: NVLink through a
/// switch, each GPU limited by its own port. `mesh`: one xGMI link per pair.
enum class peer_link : std::uint8_t { staged, pcie, port, mesh };

/// What is known about a GPU model before anything is measured on one.
struct gpu_spec {
  std::string_view name;        ///< "RTX 4090"
  std::string_view short_name;  ///< as in preset names: "4090"
  std::string_view product;     ///< as the driver prints it
  accelerator_api api;
  std::uint16_t pci_device;  ///< PCI device id, 0: not known
  std::uint16_t arch;        ///< CUDA compute capability x 10, or the number of AMD's gfx (90a as 910)
  std::uint32_t memory_mib;  ///< as the driver reports it; smaller than the box says
  double bandwidth_gb;       ///< memory, GB/s
  double half_tflops, f32_tflops, fp8_tflops, int8_tops;  ///< dense; 0: no such units
  double compute_efficiency;
  double bandwidth_efficiency;
  host_link host;
  std::uint8_t pcie_generation;  ///< x16; 0 where `host` is not PCIe
  peer_link peer;
  std::uint8_t peer_links;  ///< NVLinks or xGMI links of the GPU
};

// Memory sizes, rates and links: docs/topology.md names the sources and marks the figures that none confirms. Compute
// efficiency is the best matrix product measured on the model (0.75 where none is known); memory efficiency 0.8 on
// HBM, 0.85 on GDDR.
inline constexpr auto gpu_specs = [] {
  using enum host_link;
  constexpr auto cuda = accelerator_api::cuda, hip = accelerator_api::hip;
  constexpr auto staged = peer_link::staged, p2p = peer_link::pcie, port = peer_link::port, mesh = peer_link::mesh;
  return std::array{
      gpu_spec{"V100 SXM2 16GB", "v100-16g", "Tesla V100-SXM2-16GB", cuda, 0x1db1, 70, 16160, 900, 125, 15.7, 0, 62,
               0.75, 0.8, pcie, 3, port, 6},
      gpu_spec{"V100 SXM2 32GB", "v100-32g", "Tesla V100-SXM2-32GB", cuda, 0x1db5, 70, 32510, 900, 125, 15.7, 0, 62,
               0.75, 0.8, pcie, 3, port, 6},
      gpu_spec{"V100 PCIe 16GB", "v100-pcie", "Tesla V100-PCIE-16GB", cuda, 0x1db4, 70, 16160, 900, 112, 14, 0, 56,
               0.75, 0.8, pcie, 3, p2p, 0},
      gpu_spec{"T4", "t4", "Tesla T4", cuda, 0x1eb8, 75, 15360, 320, 65, 8.1, 0, 130, 0.6, 0.85, pcie, 3, p2p, 0},
      gpu_spec{"A100 SXM 40GB", "a100-40g", "NVIDIA A100-SXM4-40GB", cuda, 0x20b0, 80, 40960, 1555, 312, 19.5, 0, 624,
               0.87, 0.8, pcie, 4, port, 12},
      gpu_spec{"A100 SXM 80GB", "a100-80g", "NVIDIA A100-SXM4-80GB", cuda, 0x20b2, 80, 81920, 2039, 312, 19.5, 0, 624,
               0.87, 0.8, pcie, 4, port, 12},
      gpu_spec{"A100 PCIe 80GB", "a100-pcie", "NVIDIA A100 80GB PCIe", cuda, 0x20b5, 80, 81920, 1935, 312, 19.5, 0, 624,
               0.81, 0.8, pcie, 4, p2p, 12},
      gpu_spec{"A30", "a30", "NVIDIA A30", cuda, 0x20b7, 80, 24576, 933, 165, 10.3, 0, 330, 0.75, 0.8, pcie, 4, p2p, 4},
      gpu_spec{"A10G", "a10g", "NVIDIA A10G", cuda, 0x2237, 86, 23028, 600, 70, 31.2, 0, 140, 0.75, 0.85, pcie, 4, p2p,
               0},
      gpu_spec{"A40", "a40", "NVIDIA A40", cuda, 0x2235, 86, 46068, 696, 150, 37.4, 0, 299, 0.75, 0.8, pcie, 4, p2p, 4},
      gpu_spec{"RTX A6000", "a6000", "NVIDIA RTX A6000", cuda, 0x2230, 86, 49140, 768, 155, 38.7, 0, 310, 0.75, 0.85,
               pcie, 4, p2p, 4},
      gpu_spec{"RTX 3060", "3060", "NVIDIA GeForce RTX 3060", cuda, 0x2503, 86, 12288, 360, 25, 12.7, 0, 102, 0.75,
               0.85, pcie, 4, staged, 0},
      gpu_spec{"RTX 3090", "3090", "NVIDIA GeForce RTX 3090", cuda, 0x2204, 86, 24576, 936, 71, 35.6, 0, 284, 0.85,
               0.87, pcie, 4, staged, 4},
      gpu_spec{"L4", "l4", "NVIDIA L4", cuda, 0x27b8, 89, 23034, 300, 121, 30.3, 242, 242, 0.6, 0.85, pcie, 4, p2p, 0},
      gpu_spec{"L40S", "l40s", "NVIDIA L40S", cuda, 0x26b9, 89, 46068, 864, 362, 91.6, 733, 733, 0.75, 0.85, pcie, 4,
               p2p, 0},
      gpu_spec{"RTX 6000 Ada", "6000ada", "NVIDIA RTX 6000 Ada Generation", cuda, 0x26b1, 89, 49140, 960, 364, 91.1,
               729, 729, 0.75, 0.9, pcie, 4, p2p, 0},
      gpu_spec{"RTX 4060 Ti 16GB", "4060ti-16g", "NVIDIA GeForce RTX 4060 Ti", cuda, 0x2805, 89, 16380, 288, 44, 22.1,
               88, 177, 0.85, 0.88, pcie, 4, staged, 0},
      gpu_spec{"RTX 4070 Laptop", "4070-laptop", "NVIDIA GeForce RTX 4070 Laptop GPU", cuda, 0x2820, 89, 8188, 256, 40,
               20, 80, 160, 0.75, 0.88, pcie, 4, staged, 0},
      gpu_spec{"RTX 4080", "4080", "NVIDIA GeForce RTX 4080", cuda, 0x2704, 89, 16376, 717, 97, 48.7, 195, 390, 0.85,
               0.88, pcie, 4, staged, 0},
      gpu_spec{"RTX 4090", "4090", "NVIDIA GeForce RTX 4090", cuda, 0x2684, 89, 24564, 1008, 165, 82.6, 330, 660, 0.85,
               0.9, pcie, 4, staged, 0},
      gpu_spec{"H100 SXM", "h100", "NVIDIA H100 80GB HBM3", cuda, 0x2330, 90, 81559, 3350, 989, 67, 1979, 1979, 0.8,
               0.8, pcie, 5, port, 18},
      gpu_spec{"H100 PCIe", "h100-pcie", "NVIDIA H100 PCIe", cuda, 0x2331, 90, 81559, 2000, 756, 51, 1513, 1513, 0.75,
               0.8, pcie, 5, p2p, 12},
      gpu_spec{"GH200 96GB", "gh200", "NVIDIA GH200 480GB", cuda, 0x2342, 90, 97871, 4000, 989, 67, 1979, 1979, 0.84,
               0.8, c2c, 0, port, 18},
      gpu_spec{"H200 SXM", "h200", "NVIDIA H200", cuda, 0x2335, 90, 143771, 4800, 989, 67, 1979, 1979, 0.8, 0.8, pcie,
               5, port, 18},
      gpu_spec{"B200 SXM", "b200", "NVIDIA B200", cuda, 0x2901, 100, 183359, 7700, 2250, 80, 4500, 4500, 0.78, 0.8,
               pcie, 5, port, 18},
      gpu_spec{"B300 SXM", "b300", "NVIDIA B300 SXM6 AC", cuda, 0, 103, 275040, 7750, 2250, 80, 4500, 153.5, 0.75, 0.8,
               pcie, 6, port, 18},
      gpu_spec{"GB200", "gb200", "NVIDIA GB200", cuda, 0x2941, 100, 189471, 8000, 2500, 80, 5000, 5000, 0.73, 0.8, c2c,
               0, port, 18},
      gpu_spec{"GB300", "gb300", "NVIDIA GB300", cuda, 0, 103, 284208, 8000, 2500, 80, 5000, 165, 0.73, 0.8, c2c, 0,
               port, 18},
      gpu_spec{"RTX 5080", "5080", "NVIDIA GeForce RTX 5080", cuda, 0, 120, 16303, 960, 112, 56.3, 225, 450, 0.85, 0.88,
               pcie, 5, staged, 0},
      gpu_spec{"RTX 5090", "5090", "NVIDIA GeForce RTX 5090", cuda, 0x2b85, 120, 32607, 1792, 210, 104.8, 419, 838,
               0.85, 0.88, pcie, 5, staged, 0},
      gpu_spec{"RTX PRO 6000 Blackwell", "pro6000", "NVIDIA RTX PRO 6000 Blackwell Server Edition", cuda, 0, 120, 97887,
               1792, 467.8, 117, 935.6, 935.6, 0.75, 0.88, pcie, 5, p2p, 0},
      gpu_spec{"Jetson AGX Orin 64GB", "orin-64g", "Orin", cuda, 0, 87, 62841, 204.8, 43, 5.3, 0, 85, 0.7, 0.8, unified,
               0, staged, 0},
      gpu_spec{"MI60", "mi60", "AMD Instinct MI60", hip, 0x66a1, 906, 32752, 1024, 29.5, 14.7, 0, 59, 0.6, 0.7, pcie, 4,
               mesh, 2},
      gpu_spec{"MI100", "mi100", "AMD Instinct MI100", hip, 0x738c, 908, 32752, 1228, 184.6, 23.1, 0, 184.6, 0.5, 0.7,
               pcie, 4, mesh, 3},
      gpu_spec{"MI210", "mi210", "AMD Instinct MI210", hip, 0x740f, 910, 65520, 1638, 181, 22.6, 0, 181, 0.5, 0.7, pcie,
               4, mesh, 3},
      gpu_spec{"MI250X", "mi250x", "AMD Instinct MI250X", hip, 0x7408, 910, 65520, 1638, 191.5, 23.9, 0, 191.5, 0.5,
               0.7, pcie, 4, mesh, 8},
      gpu_spec{"MI300A", "mi300a", "AMD Instinct MI300A", hip, 0x74a0, 940, 131056, 5300, 980, 122.6, 1961, 1961, 0.51,
               0.8, unified, 0, mesh, 3},
      gpu_spec{"MI300X", "mi300x", "AMD Instinct MI300X", hip, 0x74a1, 942, 196592, 5300, 1307, 163.4, 2615, 2615, 0.51,
               0.8, pcie, 5, mesh, 7},
  };
}();

/// The GPU that stands in where a file does not name its model; the reader says so in a note.
inline constexpr std::string_view default_gpu = "RTX 4090";

/// Launch cost per atom: about ten kernels of 3 us.
inline constexpr double default_gpu_overhead = 3e-5;
/// Driver context and libraries' workspaces per process.
inline constexpr bytes default_gpu_context = 512 * MiB;

}  // namespace berth

namespace berth::detail {

constexpr char folded(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
constexpr bool skipped(char c) { return c == ' ' || c == '-' || c == '_'; }

/// Equal without regard to case, spaces, '-' and '_'.
constexpr bool same_name(std::string_view a, std::string_view b) {
  std::size_t i = 0, k = 0;
  for (;;) {
    while (i < a.size() && skipped(a[i])) ++i;
    while (k < b.size() && skipped(b[k])) ++k;
    if (i == a.size() || k == b.size()) return i == a.size() && k == b.size();
    if (folded(a[i++]) != folded(b[k++])) return false;
  }
}

}  // namespace berth::detail

export namespace berth {

/// A GPU model by name, short name or the driver's product name; case, spaces and dashes do not matter.
/// Null if unknown. Linear in the table.
constexpr const gpu_spec* find_gpu(std::string_view name) {
  for (const auto& g : gpu_specs)
    if (detail::same_name(g.name, name) || detail::same_name(g.short_name, name) || detail::same_name(g.product, name))
      return &g;
  return nullptr;
}

/// NVLink payload per link and direction, bytes/s, by compute capability x 10 (NCCL's figures).
constexpr double nvlink_rate(unsigned arch) {
  if (arch >= 100) return 40.1e9;
  if (arch >= 90) return 20.6e9;
  if (arch >= 86) return 12e9;
  return arch >= 70 ? 20e9 : 18e9;
}
/// xGMI payload per link and direction, bytes/s, by gfx number (RCCL's figures).
constexpr double xgmi_rate(unsigned arch) {
  if (arch >= 940) return 48e9;
  return arch >= 910 ? 36e9 : 24e9;
}
/// PCIe payload per direction, bytes/s: NCCL's speed per lane (in 100 Mb/s: 15, 30, 60 ... by generation) x lanes / 80.
constexpr double pcie_rate(unsigned generation, unsigned lanes) {
  if (generation == 0) return 0;
  const double per_lane = static_cast<double>(15u << (generation > 6 ? 5u : generation - 1));
  return per_lane * lanes / 80 * 1e9;
}
/// NVLink-C2C between a Grace CPU and its GPU, per direction: 450 GB/s nominal, 359 to 377 measured.
inline constexpr double c2c_rate = 370e9;

/// A device of a model with its prior rates. `memory - context` is taken as free.
constexpr device device_of(const gpu_spec& g, device_id id) {
  device d;
  d.id = id;
  d.kind = device_kind::gpu;
  d.api = g.api;
  d.model = g.name;
  d.memory = g.memory_mib * MiB;
  d.context = default_gpu_context;
  d.free = d.memory - d.context;
  d.granularity = 2 * MiB;
  d.peak_flops = {g.f32_tflops * 1e12, g.half_tflops * 1e12, g.fp8_tflops * 1e12, g.int8_tops * 1e12};
  d.compute_efficiency = g.compute_efficiency;
  d.peak_bandwidth = g.bandwidth_gb * 1e9;
  d.bandwidth_efficiency = g.bandwidth_efficiency;
  d.overhead = default_gpu_overhead;
  return d;
}

}  // namespace berth
