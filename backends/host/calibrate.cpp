// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

module berth.host;

namespace berth::host {
namespace {

/// Shares of the time: memory, products, hand-over, disk.
constexpr double memory_share = 0.3, product_share = 0.2, handover_share = 0.05, disk_share = 0.45;
constexpr bytes largest_file = 256 * MiB;

void note_disk(const facts& f, const std::string& folder, const disk_figures& d, std::vector<std::string>& notes) {
  if (f.storage == storage_kind::memory)
    notes.push_back("The folder " + folder + " lies in memory (tmpfs): its rates are those of copies in memory.");
  else if (!d.direct)
    notes.push_back("The file system of " + folder +
                    " has no direct reads; the kernel was asked to drop the file's pages first, but its cache or that "
                    "of the storage may be part of the disk's rates.");
}

void note_noise(const host_figures& m, std::vector<std::string>& notes) {
  constexpr double usual = 0.5;
  if (m.memory.read.spread() > usual || m.memory.copy.spread() > usual || m.products.spread() > usual)
    notes.emplace_back(
        "Repetitions differ by more than half: other programs ran at the same time; measure again on an idle machine.");
}

/// The CPU of `host` in the place that the CPU has in a topology.
void put_cpu(device& d, const device& host, const host_figures& m) {
  const auto f32 = static_cast<std::size_t>(rate_class::f32);
  d.model = host.model;
  d.cores = host.cores;
  if (d.shares_memory_of == no_index) {
    d.memory = host.memory;
    d.free = host.free;
    d.context = host.context;
  }
  for (auto& f : d.peak_flops) f *= d.compute_efficiency;
  d.peak_flops[f32] = m.products.value;
  d.compute_efficiency = 1;
  d.peak_bandwidth = m.memory.read.value;
  d.bandwidth_efficiency = 1;
  d.overhead = m.handover.value;
}

void put_disk(topology& t, device_index at, const topology& host, const disk_figures& m) {
  auto& d = t.devices[at];
  const auto cpu = *t.view().first(device_kind::cpu);
  if (const auto here = host.view().first(device_kind::disk)) {
    const auto& from = host.devices[*here];
    d.model = from.model;
    d.memory = from.memory;
    d.free = from.free;
    d.shares_memory_of = no_index;
    if (from.shares_memory_of != no_index)
      d.shares_memory_of = t.devices[cpu].shares_memory_of == no_index ? cpu : t.devices[cpu].shares_memory_of;
  }
  d.peak_bandwidth = m.read.value;
  d.bandwidth_efficiency = 1;
  if (d.memory_segment != no_index) t.segments[d.memory_segment].capacity = m.read.value;
  for (auto& r : t.routes) {
    if (r.from != at && r.to != at) continue;
    r.setup = m.latency.value;
    r.bandwidth = m.read.value;
    r.bandwidth = t.view().bandwidth_of(r);
  }
}

}  // namespace

result<host_figures> measure_host(const facts& f, const host_options& o) {
  measure_options each;
  each.now = o.now;
  each.workers = std::max(1, f.cores);
  const auto with = [&](double share) {
    each.budget = to_picoseconds(o.seconds * share);
    return each;
  };
  host_figures out;
  // The disk first: what can be refused is refused at once.
  if (o.folder) {
    auto disk = measure_disk(with(disk_share), *o.folder, largest_file);
    if (!disk) return disk.propagate();
    out.disk = *disk;
    note_disk(f, *o.folder, *disk, out.notes);
  }
  const auto cache = last_level_cache();
  const auto buffer = memory_buffer(f.available, cache);
  if (buffer < 2 * cache)
    out.notes.push_back("Only " + format_size(buffer) + " of memory could be used to measure, with caches of " +
                        format_size(cache) + ": the memory rates may be those of the caches.");
  const auto memory = measure_memory(with(memory_share), buffer);
  if (!memory) return memory.propagate();
  out.memory = *memory;
  const auto products = measure_products(with(product_share));
  if (!products) return products.propagate();
  out.products = *products;
  const auto handover = measure_handover(with(handover_share));
  if (!handover) return handover.propagate();
  out.handover = *handover;
  note_noise(out, out.notes);
  return out;
}

result<topology> calibrated(const topology& t, const topology& host, const host_figures& m) {
  const auto at = t.view().first(device_kind::cpu), here = host.view().first(device_kind::cpu);
  if (!at || !here)
    return fail(errc::unknown_device, t.name, "this topology has no device \"cpu\" that the figures could be put into");
  auto out = t;
  auto& cpu = out.devices[*at];
  put_cpu(cpu, host.devices[*here], m);
  if (cpu.memory_segment != no_index)
    out.segments[cpu.memory_segment].capacity = std::max(m.memory.read.value, m.memory.copy.value);
  if (const auto disk = out.view().first(device_kind::disk); disk && m.disk) put_disk(out, *disk, host, *m.disk);
  if (auto ok = validate(out); !ok) return ok.propagate();
  return out;
}

}  // namespace berth::host
