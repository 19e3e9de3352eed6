// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

module berth.host;

namespace berth::host {
namespace {

/// f32 FLOP per cycle and core with two 256-bit multiply-adds, at a usual clock of 3 GHz.
constexpr double flops_per_core = 32 * 3e9;
constexpr int desktop_cores = 16;

/// Nominal DRAM rate: two channels up to 16 cores, a server's eight per socket above.
double dram_rate(const facts& f) {
  if (f.cores <= desktop_cores && f.sockets == 1) return hosts::desktop.bandwidth;
  return hosts::server.bandwidth * f.sockets;
}

double storage_rate(storage_kind k) {
  switch (k) {
    case storage_kind::rotating:
      return 150e6;
    case storage_kind::network:
      return 500e6;
    case storage_kind::unknown:
    case storage_kind::solid_state:
    case storage_kind::memory:
    case storage_kind::overlay:
      break;
  }
  return default_disk_rate;
}

device cpu_of(const facts& f, segment_index dram) {
  device d;
  d.id = "cpu";
  d.kind = device_kind::cpu;
  d.model = std::string_view(f.cpu_model);
  d.memory = f.memory;
  d.free = f.available;
  d.context = f.memory - f.available;
  d.peak_flops[static_cast<std::size_t>(rate_class::f32)] = f.cores * flops_per_core;
  d.compute_efficiency = cpu_compute_efficiency;
  d.peak_bandwidth = dram_rate(f);
  d.bandwidth_efficiency = cpu_bandwidth_efficiency;
  d.overhead = default_cpu_overhead;
  d.cores = f.cores;
  d.memory_segment = dram;
  return d;
}

}  // namespace

topology topology_of(const facts& f) {
  topology t;
  t.name = "this host";
  const auto dram = t.add(segment{"dram", segment_kind::dram, dram_rate(f) * cpu_bandwidth_efficiency});
  const auto cpu = t.add(cpu_of(f, dram));
  if (f.storage_total == 0) return t;
  const double rate = storage_rate(f.storage);
  const auto storage = t.add(segment{"disk", segment_kind::disk, rate});
  device disk;
  disk.id = "disk";
  disk.kind = device_kind::disk;
  disk.model = name_of(f.storage);
  disk.peak_bandwidth = rate;
  disk.memory_segment = storage;
  if (f.storage == storage_kind::memory) {
    disk.shares_memory_of = cpu;
  } else {
    disk.memory = f.storage_total;
    disk.free = f.storage_free;
  }
  const auto at = t.add(disk);
  route r;
  r.setup = disk_setup;
  r.bandwidth = rate;
  for (const auto& [from, to] : {std::pair{cpu, at}, std::pair{at, cpu}}) {
    r.from = from;
    r.to = to;
    t.connect(r, std::vector{storage, dram});
  }
  t.sort_routes();
  return t;
}

result<topology> detect_host(const detect_options& options) {
  return read_facts(options).and_then([](const facts& f) -> result<topology> {
    auto t = topology_of(f);
    if (auto ok = validate(t); !ok) return ok.propagate();
    return t;
  });
}

}  // namespace berth::host
