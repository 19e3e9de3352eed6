// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <optional>

export module berth.cuda:nvml_table;

export namespace berth::cuda {

/// How near two GPUs are on PCIe, nearest first, with NVML's values.
enum class pci_level : int { internal = 0, single = 10, multiple = 20, host_bridge = 30, node = 40, system = 50 };
/// What is at the other end of an NVLink, with NVML's values.
enum class nvlink_end : int { gpu = 0, npu = 1, nvswitch = 2, unknown = 255 };

/// `nvmlPciInfo_t`.
struct nvml_pci_info {
  std::array<char, 16> legacy_bus_id{};
  unsigned domain = 0, bus = 0, device = 0, pci_device_id = 0, pci_subsystem_id = 0;
  std::array<char, 32> bus_id{};
};
inline constexpr unsigned most_nvlinks = 36;

/// The calls of NVML that detection makes, over plain C types; a device is `nvmlDevice_t`. Every call returns 0 for
/// success; what a GPU does not support fails. No member is null.
struct nvml_table {
  int (*init)();
  int (*shutdown)();
  int (*device_by_uuid)(const char* uuid, void** device);  ///< "GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
  int (*device_by_bus_id)(const char* bus_id, void** device);
  int (*common_ancestor)(void* a, void* b, pci_level* level);
  int (*nvlink_state)(void* device, unsigned link, unsigned* active);
  int (*nvlink_remote_pci)(void* device, unsigned link, nvml_pci_info* info);
  int (*nvlink_remote_type)(void* device, unsigned link, nvlink_end* type);
  int (*max_pcie_generation)(void* device, unsigned* generation);  ///< what device and slot both can
  int (*max_pcie_width)(void* device, unsigned* lanes);
  int (*memory_affinity)(void* device, unsigned words, unsigned long* nodes, unsigned scope);  ///< NUMA nodes near it
};

/// NVML of the driver (libnvidia-ml.so.1). The library stays loaded. Nothing where it is missing or lacks a call, which
/// is no error: detection does without.
std::optional<nvml_table> load_nvml();

}  // namespace berth::cuda
