// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

export module berth.host:facts;

import berth.topology;

export namespace berth::host {

/// Where to look. `root` stands before /proc and /sys, so that tests (or a description of another machine) can bring
/// their own; `disk_path` is the folder whose file system would hold offloaded weights.
struct detect_options {
  std::string root = "/";
  std::string disk_path = ".";
};

/// What kind of storage a file system is on.
enum class storage_kind : std::uint8_t {
  unknown,
  solid_state,
  rotating,
  memory,   ///< tmpfs: files there are host memory
  overlay,  ///< a container's layered root: as fast as what lies below, which cannot be seen
  network,
};
std::string_view name_of(storage_kind k);
/// By the `f_type` of statfs; `unknown` for ordinary file systems, whose device decides.
storage_kind storage_kind_of(std::uint64_t filesystem_type);

/// What the operating system says about the host; sizes are for this process, container limits included.
struct facts {
  std::string cpu_model;
  int cores = 0;    ///< physical cores that this process may use
  int threads = 0;  ///< hardware threads that this process may use, CPU quota included
  int sockets = 1;
  int numa_nodes = 1;             ///< with CPUs; nodes without are GPU or expansion memory
  bytes memory = 0;               ///< RAM, or the container's limit if that is lower
  bytes available = 0;            ///< what can be allocated now without swapping
  std::optional<bytes> lockable;  ///< RLIMIT_MEMLOCK: pinned memory at most; nothing: no limit
  storage_kind storage = storage_kind::unknown;
  bytes storage_total = 0;
  bytes storage_free = 0;          ///< for this user
  std::vector<std::string> notes;  ///< what a user should know about the figures, in sentences
};

/// Reads /proc/meminfo, cpuinfo, self/{cgroup,status,limits}, the cgroup v1 and v2 limits, /sys NUMA nodes and the file
/// system of `disk_path`. What is missing stays unknown; only a missing memory size is an error (`unreadable`).
result<facts> read_facts(const detect_options& options = {});

}  // namespace berth::host

// For the implementation units of this module only.
namespace berth::host {

/// A small text file below the root, "" where it does not exist. At most 8 MiB are read.
std::string read_text(const std::string& root, std::string_view path);
std::vector<std::string> lines_of(std::string_view text);
/// The unsigned number at the start of `s` after blanks, or nothing.
std::optional<std::uint64_t> number_at(std::string_view s);
/// The value of "key   12 kB" or "key 12" in a list of such lines.
std::optional<std::uint64_t> entry(std::string_view text, std::string_view key);
/// CPUs in a list such as "0-3,8"; 0 for an empty or unreadable one.
int cpu_count(std::string_view list);

/// The limits of the control groups that this process is in.
struct memory_limits {
  std::optional<bytes> limit;     ///< memory.max or memory.limit_in_bytes, the lowest on the way up
  std::optional<bytes> headroom;  ///< limit - (current - inactive page cache), the lowest on the way up
};
memory_limits read_memory_limits(const std::string& root);
/// CPU time of the group in whole CPUs, rounded up.
std::optional<int> read_cpu_quota(const std::string& root);

}  // namespace berth::host
