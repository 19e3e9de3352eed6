// SPDX-License-Identifier: Apache-2.0
// Hosts made of files in a temporary folder.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

import berth.host;

using berth::GiB;
using berth::KiB;
using berth::MiB;

namespace {

/// A root folder with made-up /proc and /sys files, removed at the end of the test.
class made_up_host {
 public:
  made_up_host() {
    root_ = std::filesystem::temp_directory_path() /
            ("berth_host_" + std::to_string(reinterpret_cast<std::uintptr_t>(this)));
    std::filesystem::remove_all(root_);
    file("/proc/meminfo", "MemTotal:       67108864 kB\nMemFree:         1048576 kB\nMemAvailable:   33554432 kB\n");
    file("/proc/cpuinfo", cpus(2, 2, 2));
  }
  ~made_up_host() { std::filesystem::remove_all(root_); }

  void file(std::string_view path, std::string_view text) const {
    const auto at = root_ / path.substr(1);
    std::filesystem::create_directories(at.parent_path());
    std::ofstream(at) << text;
  }
  berth::host::facts facts() const {
    const auto f = berth::host::read_facts({.root = root_.string() + "/", .disk_path = root_.string()});
    BOOST_REQUIRE(f.has_value());
    return *f;
  }
  berth::host::detect_options options() const { return {.root = root_.string(), .disk_path = root_.string()}; }

  /// cpuinfo of x86 with sockets x cores x siblings.
  static std::string cpus(int sockets, int cores, int siblings) {
    std::string out;
    int n = 0;
    for (int t = 0; t < siblings; ++t)
      for (int s = 0; s < sockets; ++s)
        for (int c = 0; c < cores; ++c)
          out += "processor\t: " + std::to_string(n++) +
                 "\nmodel name\t: Test CPU 9000\ncpu family\t: 6\nphysical id\t: " + std::to_string(s) +
                 "\ncore id\t\t: " + std::to_string(c) + "\nflags\t\t: fpu avx2\n\n";
    return out;
  }

 private:
  std::filesystem::path root_;
};

bool noted(const berth::host::facts& f, std::string_view part) {
  return std::any_of(f.notes.begin(), f.notes.end(), [&](const auto& n) { return n.find(part) != std::string::npos; });
}

}  // namespace

BOOST_AUTO_TEST_SUITE(host_facts)

BOOST_AUTO_TEST_CASE(a_plain_host_offers_its_available_memory_and_cores) {
  const made_up_host h;
  const auto f = h.facts();
  BOOST_TEST(f.cpu_model == "Test CPU 9000");
  BOOST_TEST(f.cores == 4);
  BOOST_TEST(f.threads == 8);
  BOOST_TEST(f.sockets == 2);
  BOOST_TEST(f.memory == 64 * GiB);
  BOOST_TEST(f.available == 32 * GiB);
  BOOST_TEST(f.storage_total > 0u);
  BOOST_TEST(f.storage_free <= f.storage_total);
}

BOOST_AUTO_TEST_CASE(old_kernels_without_memavailable_are_estimated) {
  const made_up_host h;
  h.file("/proc/meminfo", "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 7 kB\nCached: 200 kB\n");
  BOOST_TEST(h.facts().available == 300 * KiB);
}

BOOST_AUTO_TEST_CASE(a_version_2_group_limits_with_page_cache_added_back) {
  const made_up_host h;
  h.file("/proc/self/cgroup", "0::/user/job\n");
  h.file("/sys/fs/cgroup/user/memory.max", "10737418240\n");  // 10 GiB, the parent
  h.file("/sys/fs/cgroup/user/memory.current", "3221225472\n");
  h.file("/sys/fs/cgroup/user/memory.stat", "anon 5\ninactive_file 1073741824\n");
  h.file("/sys/fs/cgroup/user/job/memory.max", "max\n");
  h.file("/sys/fs/cgroup/user/job/memory.high", "9663676416\n");  // 9 GiB
  h.file("/sys/fs/cgroup/user/job/memory.current", "1073741824\n");
  const auto f = h.facts();
  BOOST_TEST(f.memory == 10 * GiB);
  BOOST_TEST(f.available == 8 * GiB);  // both: 10 - (3 - 1) above, 9 - 1 below
  BOOST_TEST(noted(f, "control group"));
}

BOOST_AUTO_TEST_CASE(a_container_sees_its_group_at_the_top) {
  const made_up_host h;
  h.file("/proc/self/cgroup", "0::/../../outside\n");
  h.file("/sys/fs/cgroup/memory.max", "4294967296");
  h.file("/sys/fs/cgroup/memory.current", "1073741824");
  BOOST_TEST(h.facts().available == 3 * GiB);
}

BOOST_AUTO_TEST_CASE(a_version_1_group_limits_too) {
  const made_up_host h;
  h.file("/proc/self/cgroup", "11:cpu,cpuacct:/a\n4:memory:/a/b\n");
  h.file("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
  h.file("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "8589934592\n");
  h.file("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "4294967296\n");
  h.file("/sys/fs/cgroup/memory/a/memory.stat", "cache 1\ntotal_inactive_file 2147483648\n");
  h.file("/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "250000\n");
  h.file("/sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
  const auto f = h.facts();
  BOOST_TEST(f.memory == 8 * GiB);
  BOOST_TEST(f.available == 6 * GiB);
  BOOST_TEST(f.threads == 3);
}

BOOST_AUTO_TEST_CASE(a_full_group_leaves_nothing) {
  const made_up_host h;
  h.file("/proc/self/cgroup", "0::/\n");
  h.file("/sys/fs/cgroup/memory.max", "1048576");
  h.file("/sys/fs/cgroup/memory.current", "2097152");
  BOOST_TEST(h.facts().available == 0u);
  BOOST_TEST(berth::host::detect_host(h.options()).has_value());
}

BOOST_AUTO_TEST_CASE(affinity_and_quota_limit_the_cores) {
  const made_up_host h;
  h.file("/proc/cpuinfo", made_up_host::cpus(1, 8, 2));
  h.file("/proc/self/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-3,8-11\n");
  BOOST_TEST(h.facts().threads == 8);
  BOOST_TEST(h.facts().cores == 4);
  h.file("/proc/self/cgroup", "0::/j\n");
  h.file("/sys/fs/cgroup/j/cpu.max", "150000 100000\n");
  BOOST_TEST(h.facts().threads == 2);
  h.file("/sys/fs/cgroup/j/cpu.max", "max 100000\n");
  BOOST_TEST(h.facts().threads == 8);
}

BOOST_AUTO_TEST_CASE(memory_of_nodes_without_cpus_is_no_host_memory) {
  const made_up_host h;
  h.file("/sys/devices/system/node/online", "0,2-3\n");
  h.file("/sys/devices/system/node/node0/cpulist", "0-7\n");
  h.file("/sys/devices/system/node/node0/meminfo", "Node 0 MemTotal: 33554432 kB\n");
  h.file("/sys/devices/system/node/node2/cpulist", "\n");
  h.file("/sys/devices/system/node/node2/meminfo", "Node 2 MemTotal:  25165824 kB\nNode 2 MemFree:  20971520 kB\n");
  h.file("/sys/devices/system/node/node3/cpulist", "\n");
  h.file("/sys/devices/system/node/node3/meminfo", "Node 3 MemTotal:  8388608 kB\nNode 3 MemFree: 4194304 kB\n");
  const auto f = h.facts();
  BOOST_TEST(f.memory == 32 * GiB);
  BOOST_TEST(f.available == 8 * GiB);
  BOOST_TEST(f.numa_nodes == 1);
  BOOST_TEST(noted(f, "without CPUs"));
}

BOOST_AUTO_TEST_CASE(a_locked_memory_limit_is_reported) {
  const made_up_host h;
  h.file("/proc/self/limits",
         "Limit    Soft Limit   Hard Limit   Units\nMax locked memory         8388608              8388608             "
         " bytes\n");
  BOOST_TEST(h.facts().lockable.value_or(0) == 8 * MiB);
  BOOST_TEST(noted(h.facts(), "ulimit -l"));
  h.file("/proc/self/limits", "Max locked memory         unlimited            unlimited            bytes\n");
  BOOST_TEST(!h.facts().lockable.has_value());
}

BOOST_AUTO_TEST_CASE(unreadable_files_are_unknowns_except_the_memory_size) {
  const made_up_host h;
  h.file("/proc/cpuinfo", "garbage\n:\n\xff\xfe");
  BOOST_TEST(h.facts().cores == 1);
  BOOST_TEST(h.facts().cpu_model == "unknown CPU");
  h.file("/proc/meminfo", "MemTotal: lots\n");
  const auto f = berth::host::read_facts(h.options());
  BOOST_REQUIRE(!f.has_value());
  BOOST_TEST((f.error().code == berth::errc::unreadable));
  const made_up_host other;
  auto o = other.options();
  o.disk_path = "/no/such/folder";
  const auto t = berth::host::detect_host(o);
  BOOST_REQUIRE(t.has_value());
  BOOST_TEST(t->devices.size() == 1u);
}

BOOST_AUTO_TEST_CASE(file_systems_are_told_apart) {
  using berth::host::storage_kind;
  using berth::host::storage_kind_of;
  BOOST_TEST((storage_kind_of(0x01021994) == storage_kind::memory));
  BOOST_TEST((storage_kind_of(0x794c7630) == storage_kind::overlay));
  BOOST_TEST((storage_kind_of(0x6969) == storage_kind::network));
  BOOST_TEST((storage_kind_of(0xffffffffff534d42) == storage_kind::network));  // sign-extended by statfs
  BOOST_TEST((storage_kind_of(0xef53) == storage_kind::unknown));              // ext4: its device decides
}

BOOST_AUTO_TEST_CASE(a_tmpfs_offers_no_disk_memory) {
  berth::host::facts f;
  f.memory = f.available = GiB;
  f.cores = 1;
  f.storage = berth::host::storage_kind::memory;
  f.storage_total = f.storage_free = GiB;
  const auto t = berth::host::topology_of(f);
  BOOST_TEST(berth::validate(t).has_value());
  BOOST_TEST(t.devices[1].memory == 0u);
  BOOST_TEST(t.devices[1].shares_memory_of == 0u);
}

BOOST_AUTO_TEST_CASE(this_host_is_a_valid_topology) {
  const auto t = berth::host::detect_host();
  BOOST_REQUIRE(t.has_value());
  BOOST_TEST((t->devices[0].id == "cpu"));
  BOOST_TEST(t->devices[0].memory > 0u);
  BOOST_TEST(t->devices[0].free <= t->devices[0].memory);
}

BOOST_AUTO_TEST_SUITE_END()
