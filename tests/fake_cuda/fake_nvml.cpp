// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstring>

#include "fake_nvml.hpp"

namespace fake_cuda {
namespace {

nvml* current = nullptr;
constexpr int not_found = 6, not_supported = 3;

}  // namespace

struct nvml_calls {
  static nvml::gpu& at(void* device) { return *static_cast<nvml::gpu*>(device); }
  template <class Is>
  static int find(void** device, Is is) {
    for (auto& g : current->gpus_)
      if (is(g)) return *device = &g, 0;
    return not_found;
  }
  static int init() { return ++current->open, 0; }
  static int shutdown() { return --current->open, 0; }
  static int by_uuid(const char* uuid, void** device) {
    return find(device, [uuid](const auto& g) { return g.uuid == uuid; });
  }
  static int by_bus_id(const char* bus_id, void** device) {
    return find(device, [bus_id](const auto& g) { return g.bus_id == bus_id; });
  }
  static int ancestor(void* a, void* b, berth::cuda::pci_level* level) {
    if (!current->supported) return not_supported;
    const auto index = [](void* d) { return static_cast<std::size_t>(&at(d) - current->gpus_.data()); };
    const auto x = index(a), y = index(b);
    const auto found = current->levels_.find({std::min(x, y), std::max(x, y)});
    *level = found == current->levels_.end() ? berth::cuda::pci_level::system : found->second;
    return 0;
  }
  static int state(void* d, unsigned link, unsigned* active) {
    if (!current->supported || link >= at(d).links.size()) return not_supported;
    *active = 1;
    return 0;
  }
  static int remote_pci(void* d, unsigned link, berth::cuda::nvml_pci_info* info) {
    if (link >= at(d).links.size()) return not_supported;
    const auto& id = at(d).links[link].bus_id;
    std::copy(id.begin(), id.end(), info->bus_id.begin());
    return 0;
  }
  static int remote_type(void* d, unsigned link, berth::cuda::nvlink_end* end) {
    if (link >= at(d).links.size()) return not_supported;
    *end = at(d).links[link].end;
    return 0;
  }
  static int generation(void* d, unsigned* v) { return *v = at(d).generation, current->supported ? 0 : not_supported; }
  static int width(void* d, unsigned* v) { return *v = at(d).lanes, current->supported ? 0 : not_supported; }
  static int affinity(void* d, unsigned words, unsigned long* nodes, unsigned) {
    if (!current->supported || words == 0) return not_supported;
    nodes[0] = 1ul << at(d).numa_node;
    return 0;
  }
};

nvml::nvml(std::vector<gpu> gpus, std::map<std::pair<std::size_t, std::size_t>, berth::cuda::pci_level> levels)
    : gpus_(std::move(gpus)), levels_(std::move(levels)) {
  current = this;
}
nvml::~nvml() { current = nullptr; }

const berth::cuda::nvml_table& nvml::table() const {
  using c = nvml_calls;
  static constexpr berth::cuda::nvml_table all{
      .init = c::init,
      .shutdown = c::shutdown,
      .device_by_uuid = c::by_uuid,
      .device_by_bus_id = c::by_bus_id,
      .common_ancestor = c::ancestor,
      .nvlink_state = c::state,
      .nvlink_remote_pci = c::remote_pci,
      .nvlink_remote_type = c::remote_type,
      .max_pcie_generation = c::generation,
      .max_pcie_width = c::width,
      .memory_affinity = c::affinity,
  };
  return all;
}

}  // namespace fake_cuda
