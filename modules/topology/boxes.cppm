// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>

export module berth.topology:boxes;

import berth.base;
import :ids;
import :device;
import :segment;
import :owners;
import :gpu_specs;

export namespace berth {

/// The host side of a box. Figures are priors until a machine is calibrated.
struct host_spec {
  std::string_view model;
  int cores = 0;
  bytes memory = 0;
  bytes context = 0;          ///< kept for the operating system
  double bandwidth = 0;       ///< nominal DRAM rate, bytes/s
  double flops = 0;           ///< nominal f32 rate, FLOP/s; narrower types are converted first
  double bridge = 0;          ///< root complex per direction, bytes/s
  bytes disk = 0;             ///< free space
  double disk_bandwidth = 0;  ///< bytes/s into host memory through the file system
};

inline constexpr double cpu_compute_efficiency = 0.5;
inline constexpr double cpu_bandwidth_efficiency = 0.75;
inline constexpr double default_cpu_overhead = 1e-5;
/// Reading weights from an NVMe disk through the page cache; reproduces published offload runs.
inline constexpr double default_disk_rate = 1.5e9;
/// Share of the PCIe rate that a copy between GPUs reaches when it is staged in host memory.
inline constexpr double staged_share = 0.65;
/// Set-up of one asynchronous copy: pinned host memory, peer copy, staged copy (s).
inline constexpr double pinned_setup = 2.8e-6, peer_setup = 3.3e-6, staged_setup = 2.4e-5;
/// Set-up of a read from storage (s).
inline constexpr double disk_setup = 1e-4;

namespace hosts {
inline constexpr host_spec laptop{
    "laptop, 8 cores, DDR5-5200 x2", 8, 32 * GiB, 4 * GiB, 83.2e9, 8 * 3.5e9 * 32, 32e9, 512 * GiB, default_disk_rate};
inline constexpr host_spec desktop{"desktop, 16 cores, DDR5-5600 x2",
                                   16,
                                   64 * GiB,
                                   4 * GiB,
                                   89.6e9,
                                   16 * 4.0e9 * 32,
                                   50e9,
                                   1 * TiB,
                                   default_disk_rate};
inline constexpr host_spec server{"server, 64 cores, DDR4-3200 x8",
                                  64,
                                  512 * GiB,
                                  8 * GiB,
                                  204.8e9,
                                  64 * 2.6e9 * 32,
                                  100e9,
                                  2 * TiB,
                                  default_disk_rate};
inline constexpr host_spec server_ddr5{
    "server, 2 x 48 cores, DDR5-4800 x16", 96, 1 * TiB, 16 * GiB, 614.4e9, 96 * 2.6e9 * 64, 200e9, 4 * TiB, 3e9};
inline constexpr host_spec grace{
    "Grace, 72 cores, LPDDR5X", 72, 480'000'000'000, 8 * GiB, 500e9, 72 * 3.1e9 * 32, 0, 2 * TiB, 3e9};
inline constexpr host_spec grace_pair{
    "2 x Grace, 144 cores, LPDDR5X", 144, 960'000'000'000, 16 * GiB, 1000e9, 144 * 3.1e9 * 32, 0, 4 * TiB, 3e9};
inline constexpr host_spec orin{"Cortex-A78AE, 12 cores", 12, 0, 0, 204.8e9, 12 * 2.2e9 * 16, 0, 256 * GiB, 1e9};
}  // namespace hosts

/// A topology large enough for `Gpus` GPUs, the CPU and a disk.
template <std::size_t Gpus>
using box_topology =
    static_topology<Gpus + 2, 4 * Gpus + 4, Gpus * Gpus + 2 * Gpus + 2, 5 * Gpus * Gpus + 5 * Gpus + 4>;

}  // namespace berth

namespace berth::detail {

constexpr device cpu_of(const host_spec& h) {
  device d;
  d.id = "cpu";
  d.kind = device_kind::cpu;
  d.model = h.model;
  d.memory = h.memory;
  d.context = h.context;
  d.free = h.memory - h.context;
  d.peak_flops = {h.flops, 0, 0, 0};
  d.compute_efficiency = cpu_compute_efficiency;
  d.peak_bandwidth = h.bandwidth;
  d.bandwidth_efficiency = cpu_bandwidth_efficiency;
  d.overhead = default_cpu_overhead;
  d.cores = h.cores;
  return d;
}

constexpr device disk_of(const host_spec& h) {
  device d;
  d.id = "disk";
  d.kind = device_kind::disk;
  d.model = "NVMe";
  d.memory = h.disk;
  d.free = h.disk;
  d.peak_bandwidth = h.disk_bandwidth;
  return d;
}

/// Both directions of a link, seen from the GPU.
struct duplex {
  segment_index in = no_index, out = no_index;
};

template <class Owner>
class box_builder {
 public:
  constexpr box_builder(Owner& out, std::span<const gpu_spec> gpus, const host_spec& host)
      : out_(out), gpus_(gpus), host_(host) {}

  constexpr void build() {
    for (std::size_t i = 0; i < gpus_.size(); ++i) out_.add(device_of(gpus_[i], static_cast<int>(i)));
    add_host();
    cpu_ = static_cast<device_index>(gpus_.size());
    disk_ = cpu_ + 1;
    connect(cpu_, disk_, {default_hop_cost, disk_setup, host_.disk_bandwidth}, {disk_segment_, dram_});
    connect(disk_, cpu_, {default_hop_cost, disk_setup, host_.disk_bandwidth}, {disk_segment_, dram_});
    for (device_index i = 0; i < gpus_.size(); ++i) {
      connect_host(i);
      for (device_index k = 0; k < gpus_.size(); ++k)
        if (i != k) connect_peer(i, k);
    }
    out_.sort_routes();
  }

 private:
  struct cost {
    double latency, setup, bandwidth;
  };
  /// The segments of one route, at most five.
  struct path {
    std::array<segment_index, 5> over{};
    std::size_t size = 0;
    constexpr path() = default;
    constexpr path(std::initializer_list<segment_index> list) {
      for (const auto s : list) add(s);
    }
    constexpr void add(segment_index s) {
      if (s != no_index) over[size++] = s;
    }
  };

  constexpr void connect(device_index from, device_index to, cost c, const path& p) {
    route r;
    r.from = from;
    r.to = to;
    r.latency = c.latency;
    r.setup = c.setup;
    r.bandwidth = c.bandwidth;
    out_.connect(r, std::span(p.over.data(), p.size));
  }

  constexpr void add_host() {
    device cpu = cpu_of(host_), disk = disk_of(host_);
    const bool unified = !gpus_.empty() && gpus_[0].host == host_link::unified;
    dram_ = out_.add(segment{"dram", segment_kind::dram, host_.bandwidth * cpu_bandwidth_efficiency});
    disk_segment_ = out_.add(segment{"disk", segment_kind::disk, host_.disk_bandwidth});
    if (host_.bridge > 0) {
      bridge_.in = out_.add(segment{"host bridge in", segment_kind::host_bridge, host_.bridge});
      bridge_.out = out_.add(segment{"host bridge out", segment_kind::host_bridge, host_.bridge});
    }
    cpu.memory_segment = dram_;
    if (unified) cpu.shares_memory_of = 0;
    disk.memory_segment = disk_segment_;
    out_.add(cpu);
    out_.add(disk);
    for (std::size_t i = 0; i < gpus_.size(); ++i) add_links(i);
  }

  constexpr double host_rate(std::size_t i) const {
    switch (gpus_[i].host) {
      case host_link::pcie:
        return pcie_rate(gpus_[i].pcie_generation, 16);
      case host_link::c2c:
        return c2c_rate;
      case host_link::unified:
        break;
    }
    return host_.bandwidth * cpu_bandwidth_efficiency;
  }

  constexpr duplex add_pair(std::string_view what, std::size_t i, segment_kind kind, double rate) {
    const auto name = text<48>(what).append(" ").append(i);
    duplex d;
    d.in = out_.add(segment{text<48>(name).append(" in"), kind, rate});
    d.out = out_.add(segment{text<48>(name).append(" out"), kind, rate});
    return d;
  }

  constexpr void add_links(std::size_t i) {
    const auto& g = gpus_[i];
    if (g.host == host_link::pcie) uplink_[i] = add_pair("pcie", i, segment_kind::pcie, host_rate(i));
    if (g.host == host_link::c2c) uplink_[i] = add_pair("c2c", i, segment_kind::c2c, host_rate(i));
    if (gpus_.size() < 2) return;
    if (g.peer == peer_link::port)
      port_[i] = add_pair("nvlink", i, segment_kind::nvlink, nvlink_rate(g.arch) * g.peer_links);
    if (g.peer == peer_link::mesh) port_[i] = add_pair("xgmi", i, segment_kind::xgmi, xgmi_rate(g.arch) * g.peer_links);
  }

  constexpr void connect_host(device_index i) {
    const double rate = host_rate(i);
    connect(cpu_, i, {default_hop_cost, pinned_setup, rate}, {uplink_[i].in, bridge_.in, dram_});
    connect(i, cpu_, {default_hop_cost, pinned_setup, rate}, {uplink_[i].out, bridge_.out, dram_});
    const double read = host_.disk_bandwidth < rate ? host_.disk_bandwidth : rate;
    connect(disk_, i, {default_hop_cost, disk_setup, read}, {disk_segment_, dram_, bridge_.in, uplink_[i].in});
  }

  constexpr void connect_peer(device_index i, device_index k) {
    const auto &a = gpus_[i], &b = gpus_[k];
    const bool direct = a.peer == b.peer && a.api == b.api;
    if (direct && a.peer == peer_link::port) {
      const double rate = nvlink_rate(a.arch) * a.peer_links;
      return connect(i, k, {default_hop_cost, peer_setup, rate}, {port_[i].out, port_[k].in});
    }
    if (direct && a.peer == peer_link::mesh)
      return connect(i, k, {default_hop_cost, peer_setup, xgmi_rate(a.arch)}, {port_[i].out, port_[k].in});
    const double rate = host_rate(i) < host_rate(k) ? host_rate(i) : host_rate(k);
    if (direct && a.peer == peer_link::pcie)
      return connect(i, k, {default_hop_cost, peer_setup, rate}, {uplink_[i].out, bridge_.out, uplink_[k].in});
    connect(i, k, {default_hop_cost, staged_setup, rate * staged_share},
            {uplink_[i].out, bridge_.out, dram_, bridge_.in, uplink_[k].in});
  }

  static constexpr std::size_t max_gpus = 64;

  Owner& out_;
  std::span<const gpu_spec> gpus_;
  const host_spec& host_;
  device_index cpu_ = 0, disk_ = 0;
  segment_index dram_ = no_index, disk_segment_ = no_index;
  duplex bridge_;
  std::array<duplex, max_gpus> uplink_{}, port_{};
};

// Not constexpr on purpose: reached during constant evaluation, each stops the compiler with its name in the message.
inline void unknown_gpu_model() {}
inline void gpu_has_no_peer_links() {}

/// How a box is wired where that differs from the way its GPUs are usually sold.
enum class wiring : std::uint8_t { usual, pcie, linked };

constexpr gpu_spec rewired(gpu_spec g, wiring w) {
  const bool linked = g.peer == peer_link::port || g.peer == peer_link::mesh;
  if (w == wiring::pcie && linked) g.peer = peer_link::pcie;
  if (w == wiring::linked && !linked) g.peer = peer_link::port;
  return g;
}

template <std::size_t N>
consteval box_topology<N> named_box(std::string_view gpu, wiring w, const host_spec& host) {
  const auto* spec = find_gpu(gpu);
  if (spec == nullptr) unknown_gpu_model();
  if (w == wiring::linked && spec->peer_links == 0) gpu_has_no_peer_links();
  std::array<gpu_spec, N> all{};
  for (auto& g : all) g = rewired(*spec, w);
  box_topology<N> out;
  out.name.append(N).append("x ").append(spec->name);
  box_builder<box_topology<N>>(out, all, host).build();
  return out;
}

}  // namespace berth::detail

export namespace berth {

/// Largest number of GPUs in a box.
inline constexpr std::size_t max_box_gpus = 64;

/// Adds to an empty owner (`topology` or a `static_topology`) the GPUs "0".."n-1" in the given order, the CPU, the disk
/// and every link of one machine: each GPU's own uplink, one root complex, DRAM shared by everything that touches host
/// memory, and the GPUs' peer links. Precondition: at most `max_box_gpus` GPUs.
template <class Owner>
constexpr void build_box(Owner& out, std::span<const gpu_spec> gpus, const host_spec& host) {
  detail::box_builder<Owner>(out, gpus, host).build();
}

namespace presets {

/// `N` GPUs of one model behind PCIe, with CPU and disk, as a compile-time constant:
/// `constexpr auto box = berth::presets::pcie_box<4>("RTX 4090");`. An unknown model does not compile.
template <std::size_t N>
  requires(N >= 1 && N <= max_box_gpus)
consteval box_topology<N> pcie_box(std::string_view gpu, const host_spec& host = hosts::server) {
  return detail::named_box<N>(gpu, detail::wiring::pcie, host);
}

/// The same for GPUs joined by NVLink (through a switch or, for two, a bridge) or xGMI; the GPU model says which. A
/// model without such links does not compile.
template <std::size_t N>
  requires(N >= 1 && N <= max_box_gpus)
consteval box_topology<N> nvlink_box(std::string_view gpu, const host_spec& host = hosts::server_ddr5) {
  return detail::named_box<N>(gpu, detail::wiring::linked, host);
}

/// CPU and GPU in one package: one shared pool (Jetson) or a chip-to-chip link (GH200).
consteval box_topology<1> single_package(std::string_view gpu, const host_spec& host) {
  return detail::named_box<1>(gpu, detail::wiring::usual, host);
}

}  // namespace presets
}  // namespace berth
