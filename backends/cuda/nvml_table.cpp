// SPDX-License-Identifier: Apache-2.0
module;

#include <dlfcn.h>

#include <array>
#include <optional>

module berth.cuda;

namespace berth::cuda {
namespace {

template <class F>
bool find(void* library, const char* name, F*& out) {
  out = reinterpret_cast<F*>(dlsym(library, name));
  return out != nullptr;
}

}  // namespace

std::optional<nvml_table> load_nvml() {
  auto* library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return std::nullopt;
  nvml_table t{};
  const bool complete = find(library, "nvmlInit_v2", t.init) && find(library, "nvmlShutdown", t.shutdown) &&
                        find(library, "nvmlDeviceGetHandleByUUID", t.device_by_uuid) &&
                        find(library, "nvmlDeviceGetHandleByPciBusId_v2", t.device_by_bus_id) &&
                        find(library, "nvmlDeviceGetTopologyCommonAncestor", t.common_ancestor) &&
                        find(library, "nvmlDeviceGetNvLinkState", t.nvlink_state) &&
                        find(library, "nvmlDeviceGetNvLinkRemotePciInfo_v2", t.nvlink_remote_pci) &&
                        find(library, "nvmlDeviceGetNvLinkRemoteDeviceType", t.nvlink_remote_type) &&
                        find(library, "nvmlDeviceGetMaxPcieLinkGeneration", t.max_pcie_generation) &&
                        find(library, "nvmlDeviceGetMaxPcieLinkWidth", t.max_pcie_width) &&
                        find(library, "nvmlDeviceGetMemoryAffinity", t.memory_affinity);
  if (complete) return t;
  dlclose(library);
  return std::nullopt;
}

}  // namespace berth::cuda
