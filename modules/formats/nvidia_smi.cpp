// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.formats;

namespace berth {
namespace {

using level = smi_link::level;

/// Sets of GPUs that are joined by links of some class, numbered from 0 in the order of their first GPU.
class clusters {
 public:
  explicit clusters(std::size_t n) : parent_(n) { std::iota(parent_.begin(), parent_.end(), std::size_t{0}); }
  void join(std::size_t a, std::size_t b) {
    a = root(a);
    b = root(b);
    parent_[std::max(a, b)] = std::min(a, b);
  }
  std::size_t root(std::size_t i) const {
    while (parent_[i] != i) i = parent_[i];
    return i;
  }
  std::size_t size_of(std::size_t i) const {
    std::size_t n = 0;
    for (std::size_t k = 0; k < parent_.size(); ++k) n += root(k) == root(i) ? 1 : 0;
    return n;
  }

 private:
  std::vector<std::size_t> parent_;
};

/// The PCIe class of every pair. NVLink hides it; then a NIC that both see bounds it (two GPUs that share a switch with
/// one NIC share it with each other), and the NUMA nodes do.
class pcie_classes {
 public:
  explicit pcie_classes(const smi_matrix& m) : m_(m) {}

  level of(std::size_t a, std::size_t b) const {
    const auto& link = m_.gpus[a].to_gpu[b];
    if (link.kind != level::nvlink) return link.kind;
    const auto &x = m_.gpus[a], &y = m_.gpus[b];
    level bound = same_node(x, y) ? level::node : level::sys;
    for (std::size_t n = 0; n < m_.nics.size(); ++n)
      bound = std::min(bound, std::max(x.to_nic[n].kind, y.to_nic[n].kind));
    return bound;
  }

  /// In one NUMA node, by number or by the CPUs near them; taken to be so where the file says neither.
  static bool same_node(const smi_matrix::gpu& x, const smi_matrix::gpu& y) {
    if (x.numa_node >= 0 && y.numa_node >= 0) return x.numa_node == y.numa_node;
    return x.cpus == y.cpus;
  }

  /// Sets of GPUs that share a socket: close by class, or in one NUMA node although the class says SYS.
  clusters sockets() const {
    auto c = within(level::node);
    for (std::size_t a = 0; a < m_.gpus.size(); ++a)
      for (std::size_t b = 0; b < a; ++b)
        if (m_.gpus[a].numa_node >= 0 && m_.gpus[a].numa_node == m_.gpus[b].numa_node) c.join(a, b);
    return c;
  }

  clusters within(level most) const {
    clusters c(m_.gpus.size());
    for (std::size_t a = 0; a < m_.gpus.size(); ++a)
      for (std::size_t b = 0; b < a; ++b)
        if (of(a, b) <= most) c.join(a, b);
    return c;
  }

 private:
  const smi_matrix& m_;
};

unsigned most_nvlinks(const smi_matrix& m) {
  unsigned most = 0;
  for (const auto& g : m.gpus)
    for (const auto& l : g.to_gpu) most = std::max(most, l.nvlinks);
  return most;
}

/// Every GPU reaches every other with the same number of links, more than it can have to each: through a switch.
bool behind_switch(const smi_matrix& m) {
  constexpr unsigned most_links_of_a_gpu = 18;
  const auto n = most_nvlinks(m);
  if (m.gpus.size() < 2 || n == 0) return false;
  for (const auto& g : m.gpus)
    for (const auto& l : g.to_gpu)
      if (l.kind != level::self && l.nvlinks != n) return false;
  return (m.gpus.size() - 1) * n > most_links_of_a_gpu;
}

/// A model with as many NVLinks as the matrix shows; without NVLink the usual consumer card.
std::string_view guessed_gpu(const smi_matrix& m) {
  const auto n = most_nvlinks(m);
  if (n >= 13) {
    const bool grace = std::any_of(m.gpus.begin(), m.gpus.end(), [](const auto& g) { return g.memory_numa_node >= 0; });
    return grace ? "GB200" : "H100 SXM";
  }
  if (n >= 5) return "A100 SXM 80GB";
  if (n >= 1) return m.gpus.size() > 2 ? "V100 SXM2 16GB" : "RTX 3090";
  return default_gpu;
}

class smi_layout {
 public:
  smi_layout(const smi_matrix& m, const gpu_spec& spec) : m_(m), spec_(spec), classes_(m) {}

  machine_layout make() {
    l_.name = std::to_string(m_.gpus.size()) + "x " + std::string(spec_.name);
    l_.host = usual_host(std::vector<gpu_spec>(m_.gpus.size(), spec_));
    add_gpus();
    add_switches();
    add_bridges();
    behind_switch(m_) ? add_ports() : add_peers();
    return std::move(l_);
  }

 private:
  double uplink_rate() const { return spec_.host == host_link::c2c ? c2c_rate : pcie_rate(spec_.pcie_generation, 16); }

  std::string number(std::size_t i) const { return std::to_string(m_.gpus[i].number); }

  void add_gpus() {
    const auto sockets = classes_.sockets();
    const bool c2c = spec_.host == host_link::c2c;
    for (std::size_t i = 0; i < m_.gpus.size(); ++i) {
      machine_layout::gpu g;
      g.id = m_.gpus[i].number;
      g.spec = spec_;
      g.numa_node = m_.gpus[i].numa_node;
      g.socket = sockets.root(i);
      g.uplinks.push_back(l_.links.size());
      l_.links.push_back(
          {(c2c ? "c2c " : "pcie ") + number(i), c2c ? segment_kind::c2c : segment_kind::pcie, uplink_rate()});
      l_.gpus.push_back(std::move(g));
    }
  }

  /// One uplink per set of GPUs below one switch, one more where several such sets hang below another switch.
  void add_switches() {
    if (spec_.host == host_link::c2c) return;
    const auto near = classes_.within(level::pix), far = classes_.within(level::pxb);
    const auto n = m_.gpus.size();
    std::vector<std::size_t> link_of(n);
    for (std::size_t i = 0; i < n; ++i) {
      const auto first = near.root(i);
      if (near.size_of(i) < 2 || near.size_of(i) == far.size_of(i)) continue;
      if (first == i) link_of[i] = add_uplink("switch " + number(i));
      l_.gpus[i].uplinks.push_back(link_of[first]);
    }
    for (std::size_t i = 0; i < n; ++i) {
      const auto first = far.root(i);
      if (far.size_of(i) < 2) continue;
      if (first == i) link_of[i] = add_uplink("switches " + number(i));
      l_.gpus[i].uplinks.push_back(link_of[first]);
    }
  }

  std::size_t add_uplink(std::string name) {
    l_.links.push_back({std::move(name), segment_kind::pcie, uplink_rate()});
    return l_.links.size() - 1;
  }

  void add_bridges() {
    if (l_.host.bridge <= 0) return;
    const auto bridges = classes_.within(level::phb);
    std::vector<std::size_t> link_of(m_.gpus.size());
    for (std::size_t i = 0; i < m_.gpus.size(); ++i) {
      const auto first = bridges.root(i);
      if (first == i) {
        link_of[i] = l_.links.size();
        l_.links.push_back({"host bridge " + number(i), segment_kind::host_bridge, l_.host.bridge});
      }
      l_.gpus[i].bridge = link_of[first];
    }
  }

  void add_ports() {
    for (auto& g : l_.gpus) g.port_rate = most_nvlinks(m_) * nvlink_rate(spec_.arch);
  }
  void add_peers() {
    for (std::size_t a = 0; a < m_.gpus.size(); ++a)
      for (std::size_t b = 0; b < m_.gpus.size(); ++b)
        if (const auto n = m_.gpus[a].to_gpu[b].nvlinks; n > 0)
          l_.peers.push_back({a, b, segment_kind::nvlink, n * nvlink_rate(spec_.arch)});
  }

  const smi_matrix& m_;
  const gpu_spec& spec_;
  pcie_classes classes_;
  machine_layout l_;
};

void add_notes(const smi_matrix& m, std::vector<std::string>& notes) {
  const auto pairs_are = [&](level k) {
    for (const auto& g : m.gpus)
      for (const auto& l : g.to_gpu)
        if (l.kind != level::self && l.kind != k) return false;
    return m.gpus.size() > 1;
  };
  if (m.legend_without_nvlink)
    notes.emplace_back("This is the output of \"topo -mp\", which hides NVLink; \"topo -m\" shows it.");
  if (pairs_are(level::phb) && m.gpus.size() > 2)
    notes.emplace_back(
        "Every pair is PHB: a virtual machine usually hides the real wiring behind that; measure with \"berth "
        "calibrate\".");
  if (most_nvlinks(m) > 0 && m.nics.empty())
    notes.emplace_back(
        "NVLink pairs hide how the GPUs share PCIe switches: each is given an uplink of its own; GPUs of one NUMA node "
        "are taken to sit in one socket.");
  for (const auto& g : m.gpus)
    if (g.memory_numa_node >= 0) {
      notes.emplace_back("The GPUs' memory appears as NUMA nodes of the host; it is not counted as host memory.");
      break;
    }
  notes.emplace_back(
      "Rates are priors by link class, not measurements: uplinks, switches and host bridges are shared; measure with "
      "\"berth calibrate\".");
}

}  // namespace

result<topology_document> read_nvidia_smi(std::string_view text, std::string_view what,
                                          const topology_options& options) {
  auto matrix = parse_nvidia_smi(text, what);
  if (!matrix) return matrix.propagate();
  topology_document out;
  out.format = "nvidia-smi topo -m";
  out.notes = matrix->notes;
  const auto spec = importer_gpu(options, guessed_gpu(*matrix), what, out.notes);
  if (!spec) return spec.propagate();
  if ((*spec)->host == host_link::unified)
    return fail(errc::unsupported, options.gpu,
                "shares its memory with the CPU; such machines have no topology matrix");
  const auto layout = smi_layout(*matrix, **spec).make();
  auto machine = build(layout);
  if (!machine) return fail(errc::malformed, what, machine.error().detail);
  out.machine = *std::move(machine);
  out.notes.push_back(host_note(layout.host));
  add_notes(*matrix, out.notes);
  return out;
}

}  // namespace berth
