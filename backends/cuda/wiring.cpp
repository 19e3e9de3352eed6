// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

module berth.cuda;

import berth.base;
import berth.topology;
import :wiring;

namespace berth::cuda::detail {
namespace {

/// For every GPU the first one that is at most `most` away, directly or over others.
std::vector<std::size_t> groups_within(const found_gpus& f, pci_level most) {
  const auto n = f.gpus.size();
  std::vector<std::size_t> root(n);
  std::iota(root.begin(), root.end(), std::size_t{0});
  const auto join = [&](std::size_t a, std::size_t b) {
    const auto keep = std::min(root[a], root[b]), gone = std::max(root[a], root[b]);
    std::replace(root.begin(), root.end(), gone, keep);
  };
  for (std::size_t a = 0; a < n; ++a)
    for (std::size_t b = 0; b < a; ++b)
      if (f.levels[f.at(a, b)] <= most) join(a, b);
  return root;
}

std::size_t members(const std::vector<std::size_t>& root, std::size_t of) {
  return static_cast<std::size_t>(std::count(root.begin(), root.end(), root[of]));
}

/// By NUMA node where all have one, else by PCIe.
std::vector<std::size_t> sockets_of(const found_gpus& f) {
  auto root = groups_within(f, pci_level::node);
  for (std::size_t a = 0; a < f.gpus.size(); ++a)
    for (std::size_t b = 0; b < a; ++b)
      if (f.gpus[a].numa_node >= 0 && f.gpus[a].numa_node == f.gpus[b].numa_node)
        std::replace(root.begin(), root.end(), std::max(root[a], root[b]), std::min(root[a], root[b]));
  return root;
}

class wirer {
 public:
  wirer(const found_gpus& f, const host_spec& host) : f_(f) { l_.host = host; }

  machine_layout make() {
    l_.name = std::to_string(f_.gpus.size()) + "x " + std::string(f_.gpus.front().spec.name);
    add_gpus();
    add_switches();
    add_bridges();
    add_nvlinks();
    return std::move(l_);
  }

 private:
  double uplink_rate(const found_gpu& g) const {
    if (g.spec.host == host_link::c2c) return c2c_rate;
    const unsigned generation = g.pcie_generation > 0 ? g.pcie_generation : g.spec.pcie_generation;
    const double rate = pcie_rate(generation, g.pcie_lanes > 0 ? g.pcie_lanes : 16);
    // A GPU inside the processor reads its memory.
    return rate > 0 ? rate : g.spec.bandwidth_gb * 1e9;
  }

  std::size_t add_link(std::string name, segment_kind kind, double rate) {
    l_.links.push_back({std::move(name), kind, rate});
    return l_.links.size() - 1;
  }

  void add_gpus() {
    const auto sockets = sockets_of(f_);
    for (std::size_t i = 0; i < f_.gpus.size(); ++i) {
      const auto& found = f_.gpus[i];
      machine_layout::gpu g;
      g.id = found.ordinal;
      g.spec = found.spec;
      g.numa_node = found.numa_node;
      g.socket = sockets[i];
      const bool c2c = found.spec.host == host_link::c2c;
      g.uplinks.push_back(add_link((c2c ? "c2c " : "pcie ") + std::to_string(found.ordinal),
                                   c2c ? segment_kind::c2c : segment_kind::pcie, uplink_rate(found)));
      l_.gpus.push_back(std::move(g));
    }
  }

  /// One uplink per set of GPUs below one switch, one more where several such sets hang below another switch.
  void add_switches() {
    const auto near = groups_within(f_, pci_level::single), far = groups_within(f_, pci_level::multiple);
    add_shared(near, "switch ", [&](std::size_t i) { return members(near, i) != members(far, i); });
    add_shared(far, "switches ", [](std::size_t) { return true; });
  }
  template <class Wanted>
  void add_shared(const std::vector<std::size_t>& root, const std::string& name, Wanted wanted) {
    std::vector<std::size_t> link_of(root.size());
    for (std::size_t i = 0; i < root.size(); ++i) {
      if (members(root, i) < 2 || !wanted(i) || f_.gpus[i].spec.host != host_link::pcie) continue;
      if (root[i] == i)
        link_of[i] = add_link(name + std::to_string(f_.gpus[i].ordinal), segment_kind::pcie, uplink_rate(f_.gpus[i]));
      l_.gpus[i].uplinks.push_back(link_of[root[i]]);
    }
  }

  void add_bridges() {
    if (l_.host.bridge <= 0) return;
    const auto root = groups_within(f_, pci_level::host_bridge);
    std::vector<std::size_t> link_of(root.size());
    for (std::size_t i = 0; i < root.size(); ++i) {
      if (root[i] == i)
        link_of[i] =
            add_link("host bridge " + std::to_string(f_.gpus[i].ordinal), segment_kind::host_bridge, l_.host.bridge);
      l_.gpus[i].bridge = link_of[root[i]];
    }
  }

  void add_nvlinks() {
    for (std::size_t a = 0; a < f_.gpus.size(); ++a) {
      const auto& g = f_.gpus[a];
      if (g.switch_links > 0) l_.gpus[a].port_rate = g.switch_links * nvlink_rate(g.spec.arch);
      for (std::size_t b = 0; b < f_.gpus.size(); ++b)
        if (const auto n = f_.nvlinks[f_.at(a, b)]; n > 0)
          l_.peers.push_back({a, b, segment_kind::nvlink, n * nvlink_rate(g.spec.arch)});
    }
  }

  const found_gpus& f_;
  machine_layout l_;
};

}  // namespace

machine_layout wire(const found_gpus& found, const host_spec& host) { return wirer(found, host).make(); }

}  // namespace berth::cuda::detail
