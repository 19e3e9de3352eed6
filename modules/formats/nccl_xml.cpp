// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <pugixml.hpp>

module berth.formats;

namespace berth {
namespace {

constexpr std::size_t max_text = 16 << 20;
constexpr unsigned max_depth = 32;
constexpr std::size_t max_gpus = 64;

std::string_view attribute(const pugi::xml_node& n, const char* name) { return n.attribute(name).value(); }

std::optional<unsigned> unsigned_of(std::string_view s) {
  int base = 10;
  if (s.substr(0, 2) == "0x") {
    s.remove_prefix(2);
    base = 16;
  }
  unsigned v = 0;
  const auto [end, status] = std::from_chars(s.data(), s.data() + s.size(), v, base);
  if (s.empty() || status != std::errc{} || end != s.data() + s.size()) return std::nullopt;
  return v;
}

/// NCCL's speed per lane in units of 100 Mb/s, from "16 GT/s" or "32.0 GT/s PCIe". It takes generation 3 for what it
/// does not know.
unsigned lane_speed(std::string_view link_speed) {
  constexpr std::array<std::pair<std::string_view, unsigned>, 6> speeds{
      {{"2.5", 15}, {"5", 30}, {"8", 60}, {"16", 120}, {"32", 240}, {"64", 480}}};
  auto number = link_speed.substr(0, link_speed.find(' '));
  if (number.size() > 2 && number.substr(number.size() - 2) == ".0") number.remove_suffix(2);
  for (const auto& [name, speed] : speeds)
    if (name == number) return speed;
  return 60;
}

/// gcn="908", "gfx942", "90a": the number of the gfx architecture, 90a as 910.
unsigned gfx_number(std::string_view gcn) {
  if (gcn.substr(0, 3) == "gfx") gcn.remove_prefix(3);
  if (gcn == "90a") return 910;
  return unsigned_of(gcn).value_or(0);
}

/// NCCL's rate of one copy between two sockets, bytes/s.
double socket_rate(const pugi::xml_node& cpu) {
  const auto arch = attribute(cpu, "arch"), vendor = attribute(cpu, "vendor");
  const auto family = unsigned_of(attribute(cpu, "familyid")).value_or(0);
  const auto model = unsigned_of(attribute(cpu, "modelid")).value_or(0);
  if (arch == "ppc64") return 32e9;
  if (arch == "arm64") return 6e9;
  if (vendor != "GenuineIntel") return default_socket_copy_rate;
  if (family != 6 || model < 0x55) return 6e9;
  if (model >= 0xad) return 40e9;
  return model >= 0x8f ? 22e9 : 10e9;
}

/// A GPU as the file describes it, before its model is settled.
struct found_gpu {
  std::string bus;
  unsigned device_id = 0, sm = 0, gfx = 0;
  std::optional<unsigned> dev;
  bool amd = false;
  std::size_t cpu = 0;
  unsigned lane = 0;  ///< speed of its own link
  double uplink_rate = 0;
  segment_kind uplink_kind = segment_kind::pcie;
  std::vector<std::size_t> above;  ///< links of the switches over it
  pugi::xml_node node;
};

enum class pci_role : std::uint8_t { gpu, bridge, other, unknown };

pci_role role_of(const pugi::xml_node& pci) {
  if (pci.child("gpu")) return pci_role::gpu;
  const auto c = attribute(pci, "class"), vendor = attribute(pci, "vendor");
  if (c.empty()) return pci.child("pci") ? pci_role::bridge : pci.child("nic") ? pci_role::other : pci_role::unknown;
  if (c.substr(0, 6) == "0x0604") return pci_role::bridge;
  if (c.substr(0, 6) == "0x0302" || c.substr(0, 6) == "0x0380") return pci_role::gpu;
  const bool maker = vendor == "0x10de" || vendor == "0x1002";
  if (maker && (c.substr(0, 6) == "0x0300" || c.substr(0, 4) == "0x12")) return pci_role::gpu;
  return pci_role::other;
}

/// Reads the PCIe trees below the CPUs, then the direct links.
class system_reader {
 public:
  system_reader(const pugi::xml_node& system, std::string_view what, const topology_options& options)
      : system_(system), what_(what), options_(options) {}

  result<topology_document> read() {
    std::size_t cpu_number = 0;
    for (const auto& cpu : system_.children("cpu")) {
      if (cpu_number == max_gpus) return refuse(errc::malformed, "has more than 64 <cpu> elements");
      cpus_.push_back(cpu);
      for (const auto& pci : cpu.children("pci"))
        if (auto ok = visit(pci, cpu_number, {}, 0); !ok) return ok.propagate();
      ++cpu_number;
    }
    if (gpus_.empty()) return refuse_without_gpus();
    if (std::all_of(gpus_.begin(), gpus_.end(), [](const auto& g) { return g.dev.has_value(); }))
      std::sort(gpus_.begin(), gpus_.end(),
                [](const auto& a, const auto& b) { return *a.dev != *b.dev ? *a.dev < *b.dev : a.bus < b.bus; });
    if (auto ok = choose_models(); !ok) return ok.propagate();
    return finish();
  }

 private:
  failure refuse(errc code, std::string_view why) const { return fail(code, what_, why); }

  failure refuse_without_gpus() const {
    if (unknown_ > 0)
      return refuse(
          errc::unsupported,
          "its PCI devices have no class: NCCL looks them up on the machine itself, so the file alone does not "
          "say which are GPUs; save a complete one there with NCCL_TOPO_DUMP_FILE");
    return refuse(errc::malformed, "describes no GPU");
  }

  double link_rate(const pugi::xml_node& pci) {
    const auto speed = attribute(pci, "link_speed");
    auto lanes = unsigned_of(attribute(pci, "link_width")).value_or(0);
    if (speed.empty() || lanes == 0) {
      speed_missing_ = true;
      if (lanes == 0) lanes = 16;
    }
    return std::min(lanes, 32u) * lane_speed(speed) / 80.0 * 1e9;
  }

  result<done> visit(const pugi::xml_node& pci, std::size_t cpu, std::vector<std::size_t> above, unsigned depth) {
    if (depth > max_depth) return refuse(errc::malformed, "PCI switches are nested deeper than 32");
    const std::string bus(attribute(pci, "busid"));
    switch (role_of(pci)) {
      case pci_role::gpu:
        return add_gpu(pci, bus, cpu, std::move(above));
      case pci_role::unknown:
        ++unknown_;
        return done{};
      case pci_role::other:
        return done{};
      case pci_role::bridge:
        break;
    }
    above.push_back(layout_.links.size());
    layout_.links.push_back({"switch " + (bus.empty() ? std::to_string(layout_.links.size()) : bus.substr(0, 24)),
                             segment_kind::pcie, link_rate(pci)});
    for (const auto& child : pci.children("pci"))
      if (auto ok = visit(child, cpu, above, depth + 1); !ok) return ok;
    return done{};
  }

  result<done> add_gpu(const pugi::xml_node& pci, const std::string& bus, std::size_t cpu,
                       std::vector<std::size_t> above) {
    if (gpus_.size() == max_gpus) return refuse(errc::malformed, "describes more than 64 GPUs");
    for (const auto& g : gpus_)
      if (!bus.empty() && g.bus == bus) return refuse(errc::malformed, "two GPUs have the bus id " + bus);
    found_gpu g;
    g.node = pci.child("gpu");
    g.bus = bus;
    g.cpu = cpu;
    g.above = std::move(above);
    g.lane = lane_speed(attribute(pci, "link_speed"));
    g.uplink_rate = link_rate(pci);
    g.device_id = unsigned_of(attribute(pci, "device")).value_or(0);
    g.amd = attribute(pci, "vendor") == "0x1002" || g.node.attribute("gcn") || attribute(pci, "class") == "0x038000";
    // On AMD "sm" counts compute units; the architecture is "gcn".
    if (g.amd)
      g.gfx = gfx_number(attribute(g.node, "gcn"));
    else
      g.sm = unsigned_of(attribute(g.node, "sm")).value_or(0);
    g.dev = unsigned_of(attribute(g.node, "dev"));
    gpus_.push_back(std::move(g));
    return done{};
  }

  /// By PCI device id, else architecture, else the generation of its link.
  static const gpu_spec* model_of(const found_gpu& g) {
    const auto api = g.amd ? accelerator_api::hip : accelerator_api::cuda;
    if (g.device_id != 0)
      for (const auto& s : gpu_specs)
        if (s.pci_device == g.device_id && s.api == api) return &s;
    return nullptr;
  }
  static std::string_view guess_of(const found_gpu& g) {
    const auto arch = g.amd ? g.gfx : g.sm;
    if (g.amd) return arch >= 940 || arch == 0 ? "MI300X" : arch >= 910 ? "MI210" : arch >= 908 ? "MI100" : "MI60";
    if (arch >= 120) return "RTX PRO 6000 Blackwell";
    if (arch >= 100) return "B200 SXM";
    if (arch == 90) return "H100 SXM";
    if (arch == 89) return "L40S";
    if (arch == 86) return "A40";
    if (arch == 80) return "A100 SXM 40GB";
    if (arch == 75) return "T4";
    if (arch >= 60) return "V100 SXM2 16GB";
    return g.lane >= 240 ? "H100 SXM" : g.lane >= 120 ? "A100 SXM 40GB" : "V100 SXM2 16GB";
  }

  result<done> choose_models() {
    std::vector<gpu_spec> all;
    for (std::size_t i = 0; i < gpus_.size(); ++i) {
      const auto* known = options_.gpu.empty() ? model_of(gpus_[i]) : nullptr;
      if (known == nullptr) {
        std::vector<std::string> said;
        const auto spec = importer_gpu(options_, guess_of(gpus_[i]), what_, said);
        if (!spec) return spec.propagate();
        known = *spec;
        if (out_.notes.empty()) out_.notes = std::move(said);
      }
      all.push_back(*known);
      // How the GPUs talk is what the file says, not what such a model usually has.
      if (all.back().peer == peer_link::port || all.back().peer == peer_link::mesh) all.back().peer = peer_link::pcie;
    }
    layout_.host = usual_host(all);
    layout_.name = std::to_string(gpus_.size()) + "x " + std::string(all.front().name);
    add_slots(all);
    return done{};
  }

  void add_slots(const std::vector<gpu_spec>& specs) {
    std::map<std::size_t, std::size_t> bridges;
    for (std::size_t i = 0; i < gpus_.size(); ++i) {
      auto& found = gpus_[i];
      machine_layout::gpu g;
      g.id = static_cast<int>(i);
      g.spec = specs[i];
      g.socket = found.cpu;
      const auto numa = unsigned_of(attribute(cpus_[found.cpu], "numaid"));
      g.numa_node = numa && *numa < 4096 ? static_cast<int>(*numa) : -1;
      read_host_links(found);
      g.uplinks.push_back(layout_.links.size());
      layout_.links.push_back(
          {std::string(name_of(found.uplink_kind)) + " " + std::to_string(i), found.uplink_kind, found.uplink_rate});
      // Not through PCIe switches where the GPU has a link of its own to the CPU.
      if (found.uplink_kind == segment_kind::pcie) {
        g.uplinks.insert(g.uplinks.end(), found.above.rbegin(), found.above.rend());
        g.bridge = bridge_of(found.cpu, bridges);
      }
      layout_.gpus.push_back(std::move(g));
    }
  }

  std::size_t bridge_of(std::size_t cpu, std::map<std::size_t, std::size_t>& bridges) {
    const auto [at, fresh] = bridges.try_emplace(cpu, layout_.links.size());
    if (fresh) {
      const double rate = layout_.host.bridge > 0 ? layout_.host.bridge : hosts::server_ddr5.bridge;
      layout_.links.push_back({"host bridge " + std::to_string(cpu), segment_kind::host_bridge, rate});
    }
    return at->second;
  }

  /// C2C and NVLink to the CPU replace PCIe as the way to host memory.
  void read_host_links(found_gpu& g) {
    for (const auto& c : g.node.children("c2c")) {
      const auto each = unsigned_of(attribute(c, "bw")), count = unsigned_of(attribute(c, "count"));
      if (!each || !count || *each == 0 || *count == 0) continue;
      g.uplink_kind = segment_kind::c2c;
      g.uplink_rate = static_cast<double>(*each) * *count * 1e6;
    }
    for (const auto& n : g.node.children("nvlink"))
      if (const auto count = link_count(n); count > 0 && attribute(n, "tclass").substr(0, 6) == "0x0604") {
        g.uplink_kind = segment_kind::nvlink;
        g.uplink_rate = count * nvlink_rate(g.sm);
      }
  }

  static unsigned link_count(const pugi::xml_node& n) {
    return std::min(unsigned_of(attribute(n, "count")).value_or(0), 72u);
  }

  void read_peers() {
    std::map<std::string_view, std::size_t> by_bus;
    for (std::size_t i = 0; i < gpus_.size(); ++i) by_bus.emplace(gpus_[i].bus, i);
    std::map<std::pair<std::size_t, std::size_t>, machine_layout::peer> peers;
    for (std::size_t i = 0; i < gpus_.size(); ++i)
      for (const auto* element : {"nvlink", "xgmi"})
        for (const auto& n : gpus_[i].node.children(element)) {
          const auto count = link_count(n);
          const auto kind = std::string_view(element) == "nvlink" ? segment_kind::nvlink : segment_kind::xgmi;
          const double rate =
              count * (kind == segment_kind::nvlink ? nvlink_rate(gpus_[i].sm) : xgmi_rate(gpus_[i].gfx));
          if (count == 0 || attribute(n, "tclass").substr(0, 6) == "0x0604") continue;
          const auto target = by_bus.find(attribute(n, "target"));
          if (attribute(n, "tclass").substr(0, 6) == "0x0680") {
            layout_.gpus[i].port_rate += rate;
          } else if (target == by_bus.end()) {
            ++lost_links_;
          } else if (target->second == i) {
            ++self_links_;
          } else {
            auto& p =
                peers.try_emplace({i, target->second}, machine_layout::peer{i, target->second, kind, 0}).first->second;
            p.rate += rate;
          }
        }
    for (const auto& [pair, p] : peers) {
      one_way_ = one_way_ || !peers.contains({pair.second, pair.first});
      layout_.peers.push_back(p);
    }
  }

  result<topology_document> finish() {
    read_peers();
    const auto& cpu = cpus_[gpus_.front().cpu];
    layout_.socket_copy_rate = socket_rate(cpu);
    if (attribute(cpu, "vendor") == "GenuineIntel") layout_.bridge_divisor = 6.0 / 5;
    auto machine = build(layout_);
    if (!machine) return refuse(errc::malformed, machine.error().detail);
    out_.machine = *std::move(machine);
    out_.format = "NCCL topology XML";
    add_notes();
    return std::move(out_);
  }

  void add_notes() {
    auto& notes = out_.notes;
    notes.push_back(host_note(layout_.host));
    if (std::any_of(layout_.gpus.begin(), layout_.gpus.end(),
                    [](const auto& g) { return g.spec.host == host_link::unified; }))
      notes.emplace_back(
          "These GPUs share their memory with the CPU: it is counted as theirs, the CPU has none of its own.");
    if (speed_missing_)
      notes.emplace_back(
          "Some links have no speed or width (a virtual machine hides them); NCCL's defaults are taken: "
          "PCIe generation 3, 16 lanes.");
    if (self_links_ > 0)
      notes.push_back(std::to_string(self_links_) + " NVLink entries lead from a GPU to itself and were left out.");
    if (lost_links_ > 0)
      notes.push_back(std::to_string(lost_links_) +
                      " links lead to devices that the file does not describe and were left out.");
    if (one_way_)
      notes.emplace_back("Some GPU links are listed in one direction only and are used in that direction only.");
    if (unknown_ > 0) notes.push_back(std::to_string(unknown_) + " PCI devices have no class and were left out.");
    const bool linked = !layout_.peers.empty() || std::any_of(layout_.gpus.begin(), layout_.gpus.end(),
                                                              [](const auto& g) { return g.port_rate > 0; });
    if (!linked && gpus_.size() > 1)
      notes.emplace_back(
          "The file lists no NVLink or xGMI between GPUs (NCCL detects those on the machine), so they are "
          "taken to talk over PCIe.");
    notes.emplace_back("Rates are NCCL's priors from speeds, widths and link counts, not measurements.");
  }

  const pugi::xml_node& system_;
  std::string_view what_;
  const topology_options& options_;
  std::vector<pugi::xml_node> cpus_;
  std::vector<found_gpu> gpus_;
  machine_layout layout_;
  topology_document out_;
  std::size_t unknown_ = 0, self_links_ = 0, lost_links_ = 0;
  bool speed_missing_ = false, one_way_ = false;
};

}  // namespace

result<topology_document> read_nccl_xml(std::string_view text, std::string_view what, const topology_options& options) {
  if (text.size() > max_text) return fail(errc::capacity, what, "is larger than 16 MiB, which no topology is");
  pugi::xml_document document;
  const auto parsed = document.load_buffer(text.data(), text.size());
  if (!parsed) {
    const auto before = text.substr(0, static_cast<std::size_t>(std::max<std::ptrdiff_t>(parsed.offset, 0)));
    const auto line = static_cast<std::uint64_t>(std::count(before.begin(), before.end(), '\n')) + 1;
    return fail(errc::malformed, what,
                berth::text<160>("line ").append(line).append(": not XML: ").append(parsed.description()));
  }
  const auto root = document.document_element();
  const std::string_view name = root.name();
  if (name == "system") return system_reader(root, what, options).read();
  if (name == "topology" && root.child("object"))
    return fail(
        errc::unsupported, what,
        "this is hwloc's XML: it lists objects of a host without link rates; give NCCL's (NCCL_TOPO_DUMP_FILE) or "
        "the output of \"nvidia-smi topo -m\"");
  if (name == "nvidia_smi_log")
    return fail(errc::unsupported, what,
                "this is \"nvidia-smi -q -x\", which has no links between GPUs; give \"nvidia-smi topo -m\"");
  return fail(errc::unknown_format, what,
              berth::text<160>("XML with the root <").append(name).append(">; NCCL's topologies begin with <system>"));
}

}  // namespace berth
