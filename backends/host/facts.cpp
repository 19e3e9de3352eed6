// SPDX-License-Identifier: Apache-2.0
module;

#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.host;

namespace berth::host {

std::string_view name_of(storage_kind k) {
  switch (k) {
    case storage_kind::unknown:
      return "unknown storage";
    case storage_kind::solid_state:
      return "solid state";
    case storage_kind::rotating:
      return "rotating disk";
    case storage_kind::memory:
      return "memory (tmpfs)";
    case storage_kind::overlay:
      return "overlay";
    case storage_kind::network:
      return "network";
  }
  return "unknown storage";
}

storage_kind storage_kind_of(std::uint64_t filesystem_type) {
  switch (filesystem_type & 0xffffffffu) {
    case 0x01021994:  // tmpfs
    case 0x858458f6:  // ramfs
      return storage_kind::memory;
    case 0x794c7630:  // overlayfs
      return storage_kind::overlay;
    case 0x6969:      // NFS
    case 0xff534d42:  // CIFS
    case 0xfe534d42:  // SMB2
    case 0x65735546:  // FUSE
    case 0x01021997:  // 9p
    case 0x0bd00bd0:  // Lustre
    case 0x00c36400:  // Ceph
    case 0x47504653:  // GPFS
      return storage_kind::network;
    default:
      return storage_kind::unknown;
  }
}

namespace {

/// "key : value" of /proc/cpuinfo, of the line at hand.
std::optional<std::string> value_of(const std::string& line, std::string_view key) {
  if (line.substr(0, key.size()) != key) return std::nullopt;
  const auto colon = line.find(':');
  if (colon == std::string::npos || line.find_first_not_of(" \t", key.size()) != colon) return std::nullopt;
  const auto begin = line.find_first_not_of(" \t", colon + 1);
  return begin == std::string::npos ? std::string() : line.substr(begin);
}

void read_cpus(const std::string& root, facts& f) {
  std::set<std::pair<std::string, std::string>> cores;
  std::set<std::string> sockets;
  std::string socket, arm_part;
  int processors = 0;
  for (const auto& line : lines_of(read_text(root, "/proc/cpuinfo"))) {
    if (value_of(line, "processor")) ++processors;
    if (auto v = value_of(line, "physical id")) {
      socket = *v;
      sockets.insert(*v);
    }
    if (auto v = value_of(line, "core id")) cores.emplace(socket, *v);
    if (auto v = value_of(line, "CPU part")) arm_part = *v;
    for (const auto key : {"model name", "cpu", "Model"})
      if (auto v = value_of(line, key); v && f.cpu_model.empty()) f.cpu_model = *v;
    if (line.find(" hypervisor") != std::string::npos && value_of(line, "flags") && processors == 1)
      f.notes.emplace_back("This is a virtual machine: sockets, NUMA nodes and rates may differ from what it shows.");
  }
  if (f.cpu_model.empty() && !arm_part.empty()) f.cpu_model = "ARM part " + arm_part;
  if (f.cpu_model.empty()) f.cpu_model = "unknown CPU";
  f.sockets = std::max(1, static_cast<int>(sockets.size()));
  processors = std::max(1, processors);
  int usable = processors;
  for (const auto& line : lines_of(read_text(root, "/proc/self/status")))
    if (auto v = value_of(line, "Cpus_allowed_list"))
      if (const int n = cpu_count(*v); n > 0) usable = std::min(usable, n);
  if (const auto quota = read_cpu_quota(root); quota && *quota < usable) {
    f.notes.push_back("A control group limits this process to the time of " + std::to_string(*quota) + " CPUs.");
    usable = *quota;
  }
  f.threads = usable;
  const int physical = cores.empty() ? processors : static_cast<int>(cores.size());
  // Of siblings that share a core, one counts.
  f.cores = std::max(1, std::min(physical, usable * physical / processors));
}

/// Memory of NUMA nodes without CPUs (GPU memory on Grace, expansion cards) is in MemTotal but is no host memory.
void leave_out_foreign_nodes(const std::string& root, facts& f) {
  int with_cpus = 0;
  bytes foreign = 0, foreign_free = 0;
  const auto online = read_text(root, "/sys/devices/system/node/online");
  const auto last = online.find_last_of("-,");
  const auto highest =
      number_at(last == std::string::npos ? online : std::string_view(online).substr(last + 1)).value_or(0);
  for (std::uint64_t n = 0; n <= std::min<std::uint64_t>(highest, 1023); ++n) {
    const auto node = "Node " + std::to_string(n);
    const auto folder = "/sys/devices/system/node/node" + std::to_string(n);
    const auto meminfo = read_text(root, folder + "/meminfo");
    if (cpu_count(read_text(root, folder + "/cpulist")) > 0) {
      ++with_cpus;
      continue;
    }
    foreign += entry(meminfo, node + " MemTotal:").value_or(0) * KiB;
    foreign_free += entry(meminfo, node + " MemFree:").value_or(0) * KiB;
  }
  if (with_cpus == 0) return;  // no NUMA information
  f.numa_nodes = with_cpus;
  if (foreign == 0) return;
  f.memory -= std::min(f.memory, foreign);
  f.available -= std::min(f.available, foreign_free);
  f.notes.push_back(format_size(foreign) +
                    " belong to NUMA nodes without CPUs (GPU or expansion memory) and are not counted as host memory.");
}

result<done> read_memory(const std::string& root, facts& f) {
  const auto text = read_text(root, "/proc/meminfo");
  const auto total = entry(text, "MemTotal:");
  if (!total || *total > max_bytes / KiB)
    return fail(errc::unreadable, root + "/proc/meminfo",
                "has no MemTotal: the size of the host's memory is not known");
  f.memory = *total * KiB;
  auto available = entry(text, "MemAvailable:");
  if (!available)  // kernels before 3.14
    available = entry(text, "MemFree:").value_or(0) + entry(text, "Cached:").value_or(0);
  f.available = std::min(*available, *total) * KiB;
  leave_out_foreign_nodes(root, f);
  const auto limits = read_memory_limits(root);
  if (limits.limit && *limits.limit < f.memory) {
    f.memory = *limits.limit;
    f.notes.push_back("A control group limits this process to " + format_size(f.memory) + " of memory.");
  }
  if (limits.headroom) f.available = std::min(f.available, *limits.headroom);
  f.available = std::min(f.available, f.memory);
  for (const auto& line : lines_of(read_text(root, "/proc/self/limits"))) {
    constexpr std::string_view key = "Max locked memory";
    if (line.substr(0, key.size()) == key) f.lockable = number_at(std::string_view(line).substr(key.size()));
  }
  if (f.lockable && *f.lockable < f.memory / 2)
    f.notes.push_back("At most " + format_size(*f.lockable) +
                      " may be locked (ulimit -l); pinned buffers must stay below that.");
  return done{};
}

std::optional<bool> rotational(const std::string& root, const std::string& device) {
  for (const auto* place : {"/queue/rotational", "/../queue/rotational"})  // a whole disk, a partition
    if (const auto n = number_at(read_text(root, "/sys/dev/block/" + device + place))) return *n != 0;
  return std::nullopt;
}

void read_storage(const detect_options& o, facts& f) {
  struct ::statvfs space{};
  struct ::statfs kind{};
  struct ::stat where{};
  const auto* path = o.disk_path.c_str();
  if (::statvfs(path, &space) != 0 || ::statfs(path, &kind) != 0 || ::stat(path, &where) != 0) {
    f.notes.push_back("The folder " + o.disk_path + " cannot be examined; no disk is offered.");
    return;
  }
  const auto sized = [&](std::uint64_t blocks) { return checked_mul(blocks, space.f_frsize).value_or(max_bytes); };
  f.storage_total = sized(space.f_blocks);
  f.storage_free = std::min(f.storage_total, sized(space.f_bavail));
  f.storage = storage_kind_of(static_cast<std::uint64_t>(kind.f_type));
  if (f.storage == storage_kind::unknown) {
    const auto device = std::to_string(major(where.st_dev)) + ":" + std::to_string(minor(where.st_dev));
    if (const auto turns = rotational(o.root, device))
      f.storage = *turns ? storage_kind::rotating : storage_kind::solid_state;
  }
  if (f.storage == storage_kind::memory)
    f.notes.push_back("The folder " + o.disk_path +
                      " is a tmpfs, that is memory: offloading there frees none; name a folder on a disk.");
  if (f.storage == storage_kind::overlay)
    f.notes.push_back("The folder " + o.disk_path +
                      " is a container's overlay: its speed and lifetime are those of a layer that cannot be seen.");
}

}  // namespace

result<facts> read_facts(const detect_options& options) {
  facts f;
  auto from = options;
  while (!from.root.empty() && from.root.back() == '/') from.root.pop_back();
  read_cpus(from.root, f);
  if (auto ok = read_memory(from.root, f); !ok) return ok.propagate();
  read_storage(from, f);
  return f;
}

}  // namespace berth::host
