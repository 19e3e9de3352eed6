// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

module berth.host;

namespace berth::host {
namespace {

/// The group of this process in a hierarchy, from /proc/self/cgroup: "" for v2, "memory" or "cpu" for v1.
/// A path that leaves the visible tree ("/../x") is taken as the root.
std::optional<std::string> group_of(const std::string& root, std::string_view controller) {
  for (const auto& line : lines_of(read_text(root, "/proc/self/cgroup"))) {
    const auto first = line.find(':');
    const auto second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const auto names = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool ours =
        controller.empty() ? names == ",," : names.find("," + std::string(controller) + ",") != std::string::npos;
    if (!ours) continue;
    auto path = line.substr(second + 1);
    if (path.find("..") != std::string::npos || path == "/") path.clear();
    return path;
  }
  return std::nullopt;
}

/// File names of one version of the interface.
struct interface {
  std::string_view max, high, current, inactive;
};
constexpr interface v2{"memory.max", "memory.high", "memory.current", "inactive_file"};
constexpr interface v1{"memory.limit_in_bytes", "", "memory.usage_in_bytes", "total_inactive_file"};

/// "max" and the huge numbers that v1 writes for it are no limit.
std::optional<bytes> limit_in(const std::string& root, const std::string& file) {
  const auto n = number_at(read_text(root, file));
  constexpr bytes none = bytes{1} << 60;
  return n && *n < none ? n : std::nullopt;
}

void lower(std::optional<bytes>& least, std::optional<bytes> candidate) {
  if (candidate) least = least ? std::min(*least, *candidate) : candidate;
}

/// Applies one group's limits. Page cache that nobody uses counts as free: the kernel takes it back first.
void apply(const std::string& root, const std::string& folder, const interface& names, memory_limits& out) {
  const auto file = [&](std::string_view name) { return folder + "/" + std::string(name); };
  const auto max = limit_in(root, file(names.max));
  lower(out.limit, max);
  auto bound = max;
  if (!names.high.empty()) lower(bound, limit_in(root, file(names.high)));
  const auto current = number_at(read_text(root, file(names.current)));
  if (!bound || !current) return lower(out.headroom, bound);
  const auto inactive = entry(read_text(root, file("memory.stat")), std::string(names.inactive) + " ").value_or(0);
  const auto used = *current - std::min(*current, inactive);
  lower(out.headroom, *bound - std::min(*bound, used));
}

/// From the process's group up to the top. A container sees its own group at the top whatever /proc says.
void climb(const std::string& root, const std::string& mount, std::string path, const interface& names,
           memory_limits& out) {
  for (int depth = 0; depth < 64; ++depth) {
    apply(root, mount + path, names, out);
    if (path.empty()) return;
    path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
}

}  // namespace

memory_limits read_memory_limits(const std::string& root) {
  memory_limits out;
  if (const auto path = group_of(root, "")) {
    climb(root, "/sys/fs/cgroup", *path, v2, out);
    climb(root, "/sys/fs/cgroup/unified", *path, v2, out);
  }
  if (const auto path = group_of(root, "memory")) climb(root, "/sys/fs/cgroup/memory", *path, v1, out);
  return out;
}

std::optional<int> read_cpu_quota(const std::string& root) {
  std::optional<double> quota;
  const auto take = [&](std::optional<std::uint64_t> time, std::optional<std::uint64_t> period) {
    if (!time || !period || *period == 0) return;
    const double cpus = static_cast<double>(*time) / static_cast<double>(*period);
    quota = quota ? std::min(*quota, cpus) : cpus;
  };
  if (auto path = group_of(root, "")) {
    for (int depth = 0; depth < 64; ++depth) {
      const auto text = read_text(root, "/sys/fs/cgroup" + *path + "/cpu.max");
      const auto gap = text.find(' ');
      if (gap != std::string::npos) take(number_at(text), number_at(std::string_view(text).substr(gap)));
      if (path->empty()) break;
      path->resize(path->rfind('/') == std::string::npos ? 0 : path->rfind('/'));
    }
  }
  if (const auto path = group_of(root, "cpu"))
    for (const auto& folder : {"/sys/fs/cgroup/cpu" + *path, std::string("/sys/fs/cgroup/cpu")})
      take(number_at(read_text(root, folder + "/cpu.cfs_quota_us")),
           number_at(read_text(root, folder + "/cpu.cfs_period_us")));
  if (!quota || *quota > 1e6) return std::nullopt;
  const auto whole = static_cast<int>(*quota);
  return std::max(1, static_cast<double>(whole) < *quota ? whole + 1 : whole);
}

}  // namespace berth::host
