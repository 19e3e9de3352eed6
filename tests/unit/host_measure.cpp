// SPDX-License-Identifier: Apache-2.0
// Measuring the host: exact figures under a clock that ticks when it is read, then a short real run.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

import berth.host;

using berth::GiB;
using berth::KiB;
using berth::MiB;
namespace host = berth::host;

namespace {

constexpr berth::picoseconds millisecond = 1'000'000'000;

/// One millisecond passes whenever the time is read.
host::stopwatch ticking() {
  return [t = std::make_shared<berth::picoseconds>(0)] { return *t += millisecond; };
}

host::measure_options ticks(int workers, berth::picoseconds budget = 100 * millisecond) {
  return {.now = ticking(), .budget = budget, .workers = workers};
}

bool usable(const host::figure& f) {
  return f.value > 0 && std::isfinite(f.value) && f.low <= f.value && f.value <= f.high && f.repetitions >= 3;
}

class folder {
 public:
  folder() {
    path_ = std::filesystem::temp_directory_path() /
            ("berth_disk_" + std::to_string(reinterpret_cast<std::uintptr_t>(this)));
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~folder() { std::filesystem::remove_all(path_); }
  std::string path() const { return path_.string(); }
  bool empty() const { return std::filesystem::is_empty(path_); }
  void file(std::string_view name, std::string_view text) const {
    const auto at = path_ / name;
    std::filesystem::create_directories(at.parent_path());
    std::ofstream(at) << text;
  }

 private:
  std::filesystem::path path_;
};

host::figure exactly(double v) { return {.value = v, .low = v, .high = v, .repetitions = 3}; }

host::host_figures known() {
  host::host_figures m;
  m.memory.read = exactly(10e9);
  m.memory.copy = exactly(12e9);
  m.products = exactly(50e9);
  m.handover = exactly(7e-6);
  m.disk = host::disk_figures{exactly(2e9), exactly(80e-6), 4 * MiB, true};
  return m;
}

berth::topology this_host() {
  host::facts f;
  f.cpu_model = "Test CPU";
  f.cores = 4;
  f.memory = 64 * GiB;
  f.available = 48 * GiB;
  f.storage_total = 100 * GiB;
  f.storage_free = 30 * GiB;
  return host::topology_of(f);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(host_measure)

BOOST_AUTO_TEST_CASE(a_figure_is_the_median_with_its_extremes) {
  const auto odd = host::summarise("x", {4, 1, 3});
  BOOST_REQUIRE(odd.has_value());
  BOOST_TEST(odd->value == 3);
  BOOST_TEST(odd->low == 1);
  BOOST_TEST(odd->high == 4);
  BOOST_TEST(odd->spread() == 1);
  BOOST_TEST(odd->repetitions == 3);
  BOOST_TEST(host::summarise("x", {4, 1})->value == 2.5);
  for (const double bad : {0.0, -1.0, std::numeric_limits<double>::infinity(), std::nan("")}) {
    const auto f = host::summarise("x", {1, bad, 2});
    BOOST_REQUIRE(!f.has_value());
    BOOST_TEST((f.error().code == berth::errc::unavailable));
  }
  BOOST_TEST(!host::summarise("x", {}).has_value());
}

BOOST_AUTO_TEST_CASE(memory_rates_are_bytes_by_elapsed_time) {
  for (const int workers : {1, 3}) {
    const auto m = host::measure_memory(ticks(workers), 3 * MiB);
    BOOST_REQUIRE(m.has_value());
    // One tick passes between the two readings; both figures count every byte of the buffer once.
    BOOST_TEST(m->read.value == 3 * MiB / 1e-3, boost::test_tools::tolerance(1e-12));
    BOOST_TEST(m->copy.value == 3 * MiB / 1e-3, boost::test_tools::tolerance(1e-12));
    BOOST_TEST(m->read.spread() == 0);
    // 50 ms each: begin, warm-up and three repetitions are nine readings, every further one takes three.
    BOOST_TEST(m->read.repetitions == 17);
  }
}

BOOST_AUTO_TEST_CASE(products_count_two_operations_per_multiply_add) {
  // The first product takes three ticks, of which a tenth of 100 ms holds three.
  const auto f = host::measure_products(ticks(2));
  BOOST_REQUIRE(f.has_value());
  BOOST_TEST(f->value == 2.0 * 96 * 512 * 128 * 3 * 2 / 1e-3, boost::test_tools::tolerance(1e-12));
}

BOOST_AUTO_TEST_CASE(a_hand_over_takes_the_time_between_two_readings) {
  const auto f = host::measure_handover(ticks(3, 10 * millisecond));
  BOOST_REQUIRE(f.has_value());
  BOOST_TEST(f->value == 1e-3);
  BOOST_TEST(f->repetitions == 4);
}

BOOST_AUTO_TEST_CASE(a_budget_of_nothing_still_repeats_three_times) {
  BOOST_TEST(host::measure_handover(ticks(1, 0))->repetitions == 3);
}

BOOST_AUTO_TEST_CASE(a_clock_that_stands_still_is_an_error) {
  const host::measure_options still{.now = [] { return berth::picoseconds{5}; }, .budget = 0, .workers = 1};
  const auto m = host::measure_memory(still, MiB);
  BOOST_REQUIRE(!m.has_value());
  BOOST_TEST((m.error().code == berth::errc::unavailable));
  BOOST_TEST(!host::measure_products(still).has_value());
  BOOST_TEST(!host::measure_handover(still).has_value());
}

BOOST_AUTO_TEST_CASE(too_little_memory_is_an_error) {
  const auto m = host::measure_memory(ticks(4), 8 * KiB);
  BOOST_REQUIRE(!m.has_value());
  BOOST_TEST((m.error().code == berth::errc::capacity));
}

BOOST_AUTO_TEST_CASE(disk_rates_are_bytes_by_elapsed_time_and_nothing_is_left) {
  const folder f;
  const auto d = host::measure_disk(ticks(1), f.path(), 9 * MiB);
  BOOST_REQUIRE(d.has_value());
  BOOST_TEST(d->file == 8 * MiB);  // whole chunks of 4 MiB
  // A pass reads two chunks; the time is read after each.
  BOOST_TEST(d->read.value == 4 * MiB / 1e-3, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(d->latency.value == 1e-3);
  BOOST_TEST(f.empty());
}

BOOST_AUTO_TEST_CASE(a_slow_disk_is_measured_with_a_smaller_file) {
  const folder f;
  // Three ticks are spent on writing: the time is read once per chunk.
  const auto d = host::measure_disk(ticks(1, 9 * millisecond), f.path(), 400 * MiB);
  BOOST_REQUIRE(d.has_value());
  BOOST_TEST(d->file == 12 * MiB);
  BOOST_TEST(d->read.value == 4 * MiB / 1e-3, boost::test_tools::tolerance(1e-12));
}

BOOST_AUTO_TEST_CASE(a_folder_that_takes_no_file_is_an_error) {
  const folder f;
  f.file("plain", "text");
  for (const auto& at : {f.path() + "/missing", f.path() + "/plain", std::string("/proc")}) {
    const auto d = host::measure_disk(ticks(1), at, 4 * MiB);
    BOOST_REQUIRE(!d.has_value());
    const bool expected = d.error().code == berth::errc::invalid_argument || d.error().code == berth::errc::capacity;
    BOOST_TEST(expected);
    BOOST_TEST(d.error().subject.view() == at);
  }
}

BOOST_AUTO_TEST_CASE(no_space_is_an_error_with_the_bytes) {
  const folder f;
  const auto d = host::measure_disk(ticks(1), f.path(), MiB);
  BOOST_REQUIRE(!d.has_value());
  BOOST_TEST((d.error().code == berth::errc::capacity));
  BOOST_TEST(d.error().needed == 4 * MiB);
  BOOST_TEST(f.empty());
}

BOOST_AUTO_TEST_CASE(caches_that_cpus_share_count_once) {
  const folder f;
  for (int cpu = 0; cpu < 4; ++cpu) {
    const auto at = "sys/devices/system/cpu/cpu" + std::to_string(cpu);
    f.file(at + "/uevent", "x");
    f.file(at + "/cache/index0/size", "32K\n");
    f.file(at + "/cache/index0/shared_cpu_list", std::to_string(cpu) + "\n");
    f.file(at + "/cache/index1/size", "16384K\n");
    f.file(at + "/cache/index1/shared_cpu_list", cpu < 2 ? "0-1\n" : "2-3\n");
  }
  BOOST_TEST(host::last_level_cache(f.path()) == 32 * MiB);
  BOOST_TEST(host::last_level_cache(f.path() + "/missing") == 0u);
}

BOOST_AUTO_TEST_CASE(the_buffer_exceeds_the_caches_and_leaves_memory_free) {
  BOOST_TEST(host::memory_buffer(64 * GiB, 0) == 64 * MiB);
  BOOST_TEST(host::memory_buffer(64 * GiB, 32 * MiB) == 128 * MiB);
  BOOST_TEST(host::memory_buffer(64 * GiB, 8 * GiB) == GiB);
  BOOST_TEST(host::memory_buffer(GiB, 100 * MiB) == 128 * MiB);
  BOOST_TEST(host::memory_buffer(0, 100 * MiB) == 0u);
}

BOOST_AUTO_TEST_CASE(figures_go_into_the_detected_machine) {
  const auto h = this_host();
  const auto t = host::calibrated(h, h, known());
  BOOST_REQUIRE(t.has_value());
  const auto view = t->view();
  const auto& cpu = view.devices[*view.find("cpu")];
  BOOST_TEST(cpu.bandwidth() == 10e9);
  BOOST_TEST(cpu.bandwidth_efficiency == 1);
  BOOST_TEST(cpu.flops(berth::rate_class::f32) == 50e9);
  BOOST_TEST(cpu.compute_efficiency == 1);
  BOOST_TEST(cpu.overhead == 7e-6);
  BOOST_TEST(view.segments[cpu.memory_segment].capacity == 12e9);
  const auto disk = *view.find("disk");
  BOOST_TEST(view.devices[disk].bandwidth() == 2e9);
  BOOST_TEST(view.segments[view.devices[disk].memory_segment].capacity == 2e9);
  const auto* r = view.route(disk, *view.find("cpu"));
  BOOST_REQUIRE(r != nullptr);
  BOOST_TEST(r->bandwidth == 2e9);
  BOOST_TEST(r->setup == 80e-6);
}

BOOST_AUTO_TEST_CASE(gpus_and_their_links_stay_as_they_are) {
  for (const auto* name : {"2x4090", "8xh100", "gh200", "jetson-orin-64g"}) {
    const auto before = *berth::preset(name);
    const auto t = host::calibrated(before, this_host(), known());
    BOOST_REQUIRE(t.has_value());
    const auto view = t->view();
    for (std::size_t i = 0; i < before.devices.size(); ++i) {
      const auto& d = t->devices[i];
      if (d.kind == berth::device_kind::gpu) BOOST_TEST((d == before.devices[i]));
      if (d.kind != berth::device_kind::cpu) continue;
      BOOST_TEST(d.model.view() == "Test CPU");
      // A pool that belongs to the GPU is counted there.
      BOOST_TEST(d.memory == (d.shares_memory_of == berth::no_index ? 64 * GiB : 0u));
    }
    const auto disk = *view.find("disk");
    for (std::size_t i = 0; i < before.routes.size(); ++i) {
      const auto& r = t->routes[i];
      if (r.from != disk && r.to != disk)
        BOOST_TEST((r == before.routes[i]));
      else
        BOOST_TEST(r.bandwidth == 2e9);
    }
  }
}

BOOST_AUTO_TEST_CASE(other_rates_keep_what_was_reached_of_them) {
  auto t = this_host();
  auto& cpu = t.devices[*t.view().find("cpu")];
  cpu.peak_flops[static_cast<std::size_t>(berth::rate_class::half)] = 100e9;
  const double reached = cpu.flops(berth::rate_class::half);
  const auto c = host::calibrated(t, t, known());
  BOOST_REQUIRE(c.has_value());
  BOOST_TEST(c->devices[*c->view().find("cpu")].flops(berth::rate_class::half) == reached);
}

BOOST_AUTO_TEST_CASE(a_machine_without_a_cpu_takes_no_figures) {
  berth::topology t;
  berth::device d;
  d.id = 0;
  d.memory = d.free = GiB;
  t.add(d);
  const auto c = host::calibrated(t, this_host(), known());
  BOOST_REQUIRE(!c.has_value());
  BOOST_TEST((c.error().code == berth::errc::unknown_device));
}

BOOST_AUTO_TEST_CASE(a_real_run_gives_usable_figures_and_leaves_nothing) {
  const folder at;
  const auto f = host::read_facts({.root = "/", .disk_path = at.path()});
  BOOST_REQUIRE(f.has_value());
  const auto m = host::measure_host(*f, {.seconds = 0.2, .folder = at.path()});
  BOOST_REQUIRE(m.has_value());
  BOOST_TEST(usable(m->memory.read));
  BOOST_TEST(usable(m->memory.copy));
  BOOST_TEST(usable(m->products));
  BOOST_TEST(usable(m->handover));
  BOOST_REQUIRE(m->disk.has_value());
  BOOST_TEST(usable(m->disk->read));
  BOOST_TEST(usable(m->disk->latency));
  BOOST_TEST(at.empty());
  const auto h = host::topology_of(*f);
  BOOST_TEST(host::calibrated(h, h, *m).has_value());
}

BOOST_AUTO_TEST_CASE(a_host_without_a_folder_to_measure_has_no_disk_figures) {
  host::facts f;
  f.cores = 1;
  f.available = 64 * MiB;
  const auto m = host::measure_host(f, {.now = ticking(), .seconds = 0.01, .folder = std::nullopt});
  BOOST_REQUIRE(m.has_value());
  BOOST_TEST(!m->disk.has_value());
  // 8 MiB were used to measure; a note says so where the caches are known to hold them.
  BOOST_TEST(m->notes.size() == (host::last_level_cache() > 4 * MiB ? 1u : 0u));
}

BOOST_AUTO_TEST_SUITE_END()
