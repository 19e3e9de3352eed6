// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.cuda;

import berth.base;
import berth.topology;
import :wiring;

namespace berth::cuda {
namespace {

using detail::found_gpu;
using detail::found_gpus;

std::string_view text_of(std::span<const char> chars) {
  return {chars.data(), static_cast<std::size_t>(std::find(chars.begin(), chars.end(), '\0') - chars.begin())};
}

/// Bus ids differ in the width of the domain and in case: "00000000:65:00.0", "0000:65:00.0".
bool same_bus(std::string_view a, std::string_view b) {
  const auto tail = [](std::string_view s) { return s.size() > 12 ? s.substr(s.size() - 12) : s; };
  const auto low = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  a = tail(a);
  b = tail(b);
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return low(x) == low(y); });
}

std::string uuid_text(const std::array<unsigned char, 16>& u) {
  std::string out = "GPU-";
  for (std::size_t i = 0; i < u.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out += '-';
    std::array<char, 3> hex{};
    std::snprintf(hex.data(), hex.size(), "%02x", u[i]);
    out += hex.data();
  }
  return out;
}

/// f32 lanes of a multiprocessor.
constexpr unsigned lanes_of(unsigned arch) { return arch >= 86 ? 128 : 64; }

/// What the table does not know, from clocks and widths: memory moves two words per clock, a lane does two operations.
gpu_spec measured_spec(std::string_view name, unsigned arch, const std::array<double, 4>& attributes, bool integrated) {
  const auto [clock, processors, memory_clock, bus_width] = attributes;
  gpu_spec s{};
  s.name = s.product = name;
  s.api = accelerator_api::cuda;
  s.arch = static_cast<std::uint16_t>(arch);
  s.bandwidth_gb = 2 * memory_clock * 1e3 * bus_width / 8 / 1e9;
  s.f32_tflops = 2 * clock * 1e3 * processors * lanes_of(arch) / 1e12;
  s.half_tflops = 2 * s.f32_tflops;
  s.compute_efficiency = 0.75;
  s.bandwidth_efficiency = 0.85;
  s.host = integrated ? host_link::unified : host_link::pcie;
  s.pcie_generation = arch >= 100 ? 5 : arch >= 80 ? 4 : 3;
  s.peer = peer_link::pcie;
  return s;
}

class detection {
 public:
  detection(const runtime_table& cuda, const nvml_table* nvml, const topology_view& host)
      : cuda_(cuda), nvml_(nvml), host_(host) {}

  result<detected> run() {
    if (!host_.first(device_kind::cpu))
      return fail(errc::invalid_topology, "host", "the topology to put the GPUs into has no CPU");
    int count = 0;
    if (auto ok = done_by(cuda_.device_count(&count), "cudaGetDeviceCount", -1); !ok) return ok.propagate();
    for (int d = 0; d < count; ++d)
      if (auto ok = add_gpu(d); !ok) return ok.propagate();
    if (found_.gpus.empty()) return fail(errc::unavailable, "CUDA", "no device is visible; look at nvidia-smi");
    const auto n = found_.gpus.size();
    found_.levels.assign(n * n, pci_level::host_bridge);
    found_.nvlinks.assign(n * n, 0);
    if (auto ok = ask_peers(); !ok) return ok.propagate();
    ask_nvml();
    return assemble();
  }

 private:
  result<done> done_by(status s, std::string_view call, int device) {
    if (s == status::success) return done{};
    (void)cuda_.last_error();
    const text<24> subject = device < 0 ? text<24>("CUDA") : text<24>().append(static_cast<std::uint64_t>(device));
    return error_of(s, {call, subject.view()});
  }

  result<double> attribute(device_attribute a, int device) {
    int value = 0;
    if (auto ok = done_by(cuda_.attribute(&value, a, device), "cudaDeviceGetAttribute", device); !ok)
      return ok.propagate();
    return static_cast<double>(value);
  }

  result<done> add_gpu(int device) {
    device_properties p;
    if (auto ok = done_by(cuda_.properties(&p, device), "cudaGetDeviceProperties", device); !ok) return ok;
    found_gpu g;
    g.ordinal = device;
    g.name = text_of(p.name);
    std::array<char, 32> bus{};
    if (auto ok = done_by(cuda_.pci_bus_id(bus.data(), static_cast<int>(bus.size()), device), "cudaDeviceGetPCIBusId",
                          device);
        !ok)
      return ok;
    g.bus_id = text_of(bus);
    if (auto ok = done_by(cuda_.set_device(device), "cudaSetDevice", device); !ok) return ok;
    std::size_t free = 0, total = 0;
    if (auto ok = done_by(cuda_.memory_info(&free, &total), "cudaMemGetInfo", device); !ok) return ok;
    g.memory = std::max<bytes>(total, free);
    g.free = free;
    uuids_.push_back(uuid_text(p.uuid));
    found_.gpus.push_back(std::move(g));
    return find_spec(found_.gpus.back());
  }

  result<done> find_spec(found_gpu& g) {
    if (const auto* known = find_gpu(g.name); known != nullptr) {
      g.spec = *known;
      return done{};
    }
    using enum device_attribute;
    std::array<double, 7> v{};
    constexpr std::array which{clock_rate,    multiprocessor_count, memory_clock_rate, memory_bus_width,
                               compute_major, compute_minor,        integrated};
    for (std::size_t i = 0; i < which.size(); ++i) {
      const auto value = attribute(which[i], g.ordinal);
      if (!value) return value.propagate();
      v[i] = *value;
    }
    names_.push_back(g.name);
    g.spec = measured_spec(names_.back(), static_cast<unsigned>(v[4] * 10 + v[5]), {v[0], v[1], v[2], v[3]}, v[6] != 0);
    g.spec.memory_mib = static_cast<std::uint32_t>(g.memory / MiB);
    return done{};
  }

  result<done> ask_peers() {
    for (auto& a : found_.gpus) {
      a.peers = found_.gpus.size() == 1;
      for (const auto& b : found_.gpus) {
        if (a.ordinal == b.ordinal) continue;
        int can = 0;
        if (auto ok = done_by(cuda_.peer(&can, peer_attribute::access_supported, a.ordinal, b.ordinal),
                              "cudaDeviceGetP2PAttribute", a.ordinal);
            !ok)
          return ok;
        a.peers = a.peers || can != 0;
      }
      if (a.peers && a.spec.peer == peer_link::staged && found_.gpus.size() > 1) a.spec.peer = peer_link::pcie;
      if (!a.peers) a.spec.peer = peer_link::staged;
    }
    return done{};
  }

  /// NVML numbers GPUs in its own order and shows hidden ones: handles are asked for by CUDA's names.
  void* nvml_handle(std::size_t i) const {
    void* handle = nullptr;
    if (nvml_->device_by_uuid(uuids_[i].c_str(), &handle) == 0) return handle;
    return nvml_->device_by_bus_id(found_.gpus[i].bus_id.c_str(), &handle) == 0 ? handle : nullptr;
  }

  void ask_nvml() {
    if (nvml_ == nullptr || nvml_->init() != 0) return;
    std::vector<void*> handles;
    for (std::size_t i = 0; i < found_.gpus.size(); ++i) handles.push_back(nvml_handle(i));
    wired_ = std::all_of(handles.begin(), handles.end(), [](const void* h) { return h != nullptr; });
    for (std::size_t a = 0; a < handles.size(); ++a) {
      if (handles[a] == nullptr) continue;
      ask_links(a, handles[a]);
      for (std::size_t b = 0; b < a; ++b) {
        auto level = pci_level::host_bridge;
        if (handles[b] == nullptr || nvml_->common_ancestor(handles[a], handles[b], &level) != 0) {
          wired_ = false;
          continue;
        }
        found_.levels[found_.at(a, b)] = found_.levels[found_.at(b, a)] = level;
      }
    }
    (void)nvml_->shutdown();
  }

  void ask_links(std::size_t a, void* handle) {
    auto& g = found_.gpus[a];
    unsigned value = 0;
    if (nvml_->max_pcie_generation(handle, &value) == 0) g.pcie_generation = value;
    if (nvml_->max_pcie_width(handle, &value) == 0) g.pcie_lanes = value;
    constexpr unsigned words = 4, scope_node = 0;
    std::array<unsigned long, words> nodes{};
    if (nvml_->memory_affinity(handle, words, nodes.data(), scope_node) == 0)
      for (int n = words * 64 - 1; n >= 0; --n)
        if ((nodes[static_cast<std::size_t>(n) / 64] >> (n % 64) & 1) != 0) g.numa_node = n;
    for (unsigned link = 0; link < most_nvlinks; ++link) {
      unsigned active = 0;
      auto end = nvlink_end::unknown;
      nvml_pci_info remote;
      if (nvml_->nvlink_state(handle, link, &active) != 0 || active == 0) continue;
      if (nvml_->nvlink_remote_type(handle, link, &end) != 0) end = nvlink_end::gpu;  // drivers before switches
      if (end == nvlink_end::nvswitch) ++g.switch_links;
      if (end != nvlink_end::gpu || nvml_->nvlink_remote_pci(handle, link, &remote) != 0) continue;
      for (std::size_t b = 0; b < found_.gpus.size(); ++b)
        if (b != a && same_bus(found_.gpus[b].bus_id, text_of(remote.bus_id))) ++found_.nvlinks[found_.at(a, b)];
    }
  }

  host_spec host_of() const {
    std::vector<gpu_spec> specs;
    for (const auto& g : found_.gpus) specs.push_back(g.spec);
    auto h = usual_host(specs);
    const auto& cpu = host_.devices[*host_.first(device_kind::cpu)];
    h.model = cpu.model.view();
    h.cores = cpu.cores;
    h.bandwidth = cpu.peak_bandwidth > 0 ? cpu.peak_bandwidth : h.bandwidth;
    if (const auto disk = host_.first(device_kind::disk))
      if (const auto rate = host_.devices[*disk].peak_bandwidth; rate > 0) h.disk_bandwidth = rate;
    return h;
  }

  result<detected> assemble() {
    const auto host = host_of();
    auto built = build(detail::wire(found_, host));
    if (!built) return built.propagate();
    detected out{*std::move(built), {}};
    auto& t = out.machine;
    for (std::size_t i = 0; i < found_.gpus.size(); ++i) {
      auto& d = t.devices[i];
      d.memory = found_.gpus[i].memory;
      d.free = found_.gpus[i].free;
      d.context = d.memory - d.free;
      if (d.api == accelerator_api::none) d.api = accelerator_api::cuda;
    }
    put_host(t);
    if (auto ok = validate(t); !ok) return ok.propagate();
    add_notes(out.notes);
    return out;
  }

  /// The host's own CPU and disk take the places of those that the layout made; without a disk there is none.
  void put_host(topology& t) const {
    const auto put = [&](device_kind kind) {
      const auto at = *t.view().first(kind);
      auto& old = t.devices[at];
      auto d = host_.devices[*host_.first(kind)];
      if (d.memory_segment != no_index)
        t.segments[old.memory_segment].capacity = host_.segments[d.memory_segment].capacity;
      d.memory_segment = old.memory_segment;
      if (d.shares_memory_of != no_index) d.shares_memory_of = *t.view().first(device_kind::cpu);
      if (old.shares_memory_of != no_index) {
        d.shares_memory_of = old.shares_memory_of;
        d.memory = d.free = d.context = 0;
      }
      old = d;
    };
    put(device_kind::cpu);
    if (host_.first(device_kind::disk)) return put(device_kind::disk);
    const auto disk = *t.view().first(device_kind::disk);
    std::erase_if(t.routes, [&](const route& r) { return r.from == disk || r.to == disk; });
    t.devices.pop_back();
    t.sort_routes();
  }

  void add_notes(std::vector<std::string>& notes) const {
    for (const auto& name : names_)
      notes.push_back(name + " is not in the table of GPUs: its rates are computed from clocks and bus width.");
    if (!wired_ && found_.gpus.size() > 1)
      notes.emplace_back(
          "NVML is not there or does not tell how the GPUs are connected: they are taken to share one host bridge, "
          "without NVLink.");
    notes.emplace_back(
        "Free memory is what CUDA had left after making a context on every GPU; what other programs use is not free.");
    notes.emplace_back("Rates are priors by model and link, not measurements; measure with \"berth calibrate\".");
  }

  const runtime_table& cuda_;
  const nvml_table* nvml_;
  const topology_view& host_;
  found_gpus found_;
  std::vector<std::string> uuids_;
  std::deque<std::string> names_;  ///< of GPUs that the table does not know
  bool wired_ = false;
};

}  // namespace

result<detected> detect(const runtime_table& cuda, const nvml_table* nvml, const topology_view& host) {
  return detection(cuda, nvml, host).run();
}

}  // namespace berth::cuda
