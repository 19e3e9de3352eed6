// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

module berth.topology;

namespace berth {
namespace {

using gpu_slot = machine_layout::gpu;

/// Turns a layout into devices, segments and routes; one object per build.
class layout_builder {
 public:
  explicit layout_builder(const machine_layout& l) : l_(l) {}

  topology build() {
    out_.name = text<64>(l_.name);
    add_devices();
    add_shared_segments();
    connect_host();
    for (std::size_t a = 0; a < l_.gpus.size(); ++a)
      for (std::size_t b = 0; b < l_.gpus.size(); ++b)
        if (a != b) connect_peers(a, b);
    out_.sort_routes();
    return std::move(out_);
  }

 private:
  using path = std::vector<segment_index>;

  void add_devices() {
    for (const auto& g : l_.gpus) {
      auto d = device_of(g.spec, g.id);
      d.numa_node = g.numa_node;
      out_.add(d);
    }
    auto cpu = detail::cpu_of(l_.host);
    if (std::any_of(l_.gpus.begin(), l_.gpus.end(), [](const auto& g) { return g.spec.host == host_link::unified; })) {
      cpu.memory = cpu.free = cpu.context = 0;
      cpu.shares_memory_of = 0;
    }
    cpu_ = out_.add(cpu);
    disk_ = out_.add(detail::disk_of(l_.host));
  }

  detail::duplex add_link(const std::string& name, segment_kind kind, double rate) {
    detail::duplex d;
    d.in = out_.add(segment{text<48>(name + " in"), kind, rate});
    d.out = out_.add(segment{text<48>(name + " out"), kind, rate});
    return d;
  }

  void add_shared_segments() {
    dram_ = out_.add(segment{"dram", segment_kind::dram, l_.host.bandwidth * cpu_bandwidth_efficiency});
    disk_segment_ = out_.add(segment{"disk", segment_kind::disk, l_.host.disk_bandwidth});
    out_.devices[cpu_].memory_segment = dram_;
    out_.devices[disk_].memory_segment = disk_segment_;
    for (const auto& link : l_.links) links_.push_back(add_link(link.name, link.kind, link.rate));
    for (const auto& g : l_.gpus) {
      const auto name = "peers " + std::string(g.id.view());
      ports_.push_back(g.port_rate > 0 ? add_link(name, g.port_kind, g.port_rate) : detail::duplex{});
    }
    for (std::size_t i = 0; i < l_.peers.size(); ++i) {
      const auto& p = l_.peers[i];
      const auto name = std::string(name_of(p.kind)) + " " + std::string(l_.gpus[p.from].id.view()) + " to " +
                        std::string(l_.gpus[p.to].id.view());
      peers_[{p.from, p.to}] = {i, out_.add(segment{text<48>(name), p.kind, p.rate})};
    }
  }

  /// One direction between two sockets; made when the first route needs it.
  segment_index socket_link(std::size_t from, std::size_t to) {
    const auto [at, fresh] = sockets_.try_emplace({from, to}, no_index);
    if (fresh)
      at->second = out_.add(segment{text<48>("socket ").append(from).append(" to ").append(to),
                                    segment_kind::socket_link, l_.socket_copy_rate * socket_link_copies});
    return at->second;
  }

  void connect(device_index from, device_index to, double setup, double cap, const path& over) {
    route r;
    r.from = from;
    r.to = to;
    r.setup = setup;
    r.bandwidth = cap;
    for (const auto s : over) r.bandwidth = std::min(r.bandwidth, out_.segments[s].capacity);
    out_.connect(r, over);
  }

  /// The links between a GPU and host memory, bridge included.
  path host_path(const gpu_slot& g, bool into) const {
    path p;
    for (const auto k : g.uplinks) p.push_back(into ? links_[k].in : links_[k].out);
    if (g.bridge != machine_layout::no_link) p.push_back(into ? links_[g.bridge].in : links_[g.bridge].out);
    return p;
  }

  void connect_host() {
    const double disk_rate = l_.host.disk_bandwidth;
    connect(cpu_, disk_, disk_setup, disk_rate, {disk_segment_, dram_});
    connect(disk_, cpu_, disk_setup, disk_rate, {disk_segment_, dram_});
    for (std::size_t i = 0; i < l_.gpus.size(); ++i) {
      const auto at = static_cast<device_index>(i);
      auto in = host_path(l_.gpus[i], true), out = host_path(l_.gpus[i], false);
      in.push_back(dram_);
      out.push_back(dram_);
      connect(cpu_, at, pinned_setup, unlimited, in);
      connect(at, cpu_, pinned_setup, unlimited, out);
      in.push_back(disk_segment_);
      connect(disk_, at, disk_setup, disk_rate, in);
    }
  }

  void connect_peers(std::size_t a, std::size_t b) {
    const auto from = static_cast<device_index>(a), to = static_cast<device_index>(b);
    if (const auto found = peers_.find({a, b}); found != peers_.end()) {
      const auto& p = l_.peers[found->second.peer];
      path over{found->second.link};
      if (p.through_ports) over = {ports_[a].out, found->second.link, ports_[b].in};
      return connect(from, to, p.setup, unlimited, over);
    }
    if (ports_[a].out != no_index && ports_[b].in != no_index)
      return connect(from, to, peer_setup, unlimited, {ports_[a].out, ports_[b].in});
    const auto &x = l_.gpus[a], &y = l_.gpus[b];
    const bool staged =
        x.spec.peer == peer_link::staged || y.spec.peer == peer_link::staged || x.spec.api != y.spec.api;
    staged ? connect_staged(x, y, from, to) : connect_pcie(x, y, from, to);
  }

  void connect_staged(const gpu_slot& x, const gpu_slot& y, device_index from, device_index to) {
    auto over = host_path(x, false);
    const auto down = host_path(y, true);
    over.push_back(dram_);
    over.insert(over.end(), down.begin(), down.end());
    double slowest = unlimited;
    for (const auto s : over) slowest = std::min(slowest, out_.segments[s].capacity);
    double cap = slowest * staged_share;
    if (x.socket != y.socket) {
      over.push_back(socket_link(x.socket, y.socket));
      cap = std::min(cap, l_.socket_copy_rate);
    }
    connect(from, to, staged_setup, cap, over);
  }

  void connect_pcie(const gpu_slot& x, const gpu_slot& y, device_index from, device_index to) {
    const auto shared = [](const std::vector<std::size_t>& list, std::size_t k) {
      return std::find(list.begin(), list.end(), k) != list.end();
    };
    path over;
    bool below_bridge = false;
    for (const auto k : x.uplinks) shared(y.uplinks, k) ? void(below_bridge = true) : over.push_back(links_[k].out);
    double divisor = 1;
    double cap = unlimited;
    if (!below_bridge) {
      divisor = l_.bridge_divisor;
      if (x.bridge != machine_layout::no_link) over.push_back(links_[x.bridge].out);
      if (x.socket != y.socket) {
        over.push_back(socket_link(x.socket, y.socket));
        cap = l_.socket_copy_rate;
      }
      if (x.bridge != y.bridge && y.bridge != machine_layout::no_link) over.push_back(links_[y.bridge].in);
    }
    for (const auto k : y.uplinks)
      if (!shared(x.uplinks, k)) over.push_back(links_[k].in);
    for (const auto s : over) cap = std::min(cap, out_.segments[s].capacity);
    connect(from, to, peer_setup, cap / divisor, over);
  }

  static constexpr double unlimited = 1e300;

  const machine_layout& l_;
  topology out_;
  device_index cpu_ = 0, disk_ = 0;
  segment_index dram_ = no_index, disk_segment_ = no_index;
  std::vector<detail::duplex> links_, ports_;
  struct pair_link {
    std::size_t peer = 0;  ///< in the layout
    segment_index link = no_index;
  };
  std::map<std::pair<std::size_t, std::size_t>, pair_link> peers_;
  std::map<std::pair<std::size_t, std::size_t>, segment_index> sockets_;
};

failure bad_layout(const machine_layout& l, std::string_view why) {
  return fail(errc::invalid_topology, l.name.empty() ? "machine" : std::string_view(l.name), why);
}

}  // namespace

const host_spec& usual_host(const std::vector<gpu_spec>& gpus) {
  bool server = gpus.size() > 2, modern = false, grace = false;
  for (const auto& g : gpus) {
    server = server || g.peer != peer_link::staged;
    modern = modern || (g.pcie_generation >= 5 && g.peer != peer_link::staged);
    grace = grace || g.host == host_link::c2c;
  }
  if (grace) return gpus.size() > 1 ? hosts::grace_pair : hosts::grace;
  if (modern) return hosts::server_ddr5;
  return server ? hosts::server : hosts::desktop;
}

result<topology> build(const machine_layout& layout) {
  if (layout.gpus.size() > max_box_gpus) return bad_layout(layout, "has more than 64 GPUs");
  for (const auto& l : layout.links)
    if (!(l.rate > 0)) return bad_layout(layout, "a link (" + l.name + ") has no rate");
  for (const auto& g : layout.gpus) {
    const bool bridged = g.bridge != machine_layout::no_link;
    if (g.uplinks.empty() || (bridged && g.bridge >= layout.links.size()))
      return bad_layout(layout, "a GPU has no way to the host");
    for (const auto k : g.uplinks)
      if (k >= layout.links.size() || k == g.bridge)
        return bad_layout(layout, "a GPU hangs below a link that is not there");
  }
  for (const auto& p : layout.peers)
    if (p.from >= layout.gpus.size() || p.to >= layout.gpus.size() || !(p.rate > 0))
      return bad_layout(layout, "a link between GPUs has no end or no rate");
    else if (p.through_ports && !(layout.gpus[p.from].port_rate > 0 && layout.gpus[p.to].port_rate > 0))
      return bad_layout(layout, "a link between GPUs crosses a port that has no rate");
  auto t = layout_builder(layout).build();
  if (auto ok = validate(t); !ok) return ok.propagate();
  return t;
}

}  // namespace berth
