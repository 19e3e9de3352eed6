// SPDX-License-Identifier: Apache-2.0
// Whatever fails, wherever it fails: a run completes rightly or ends with the right error; nothing is leaked; the
// schedule that is printed makes it happen again, to the byte.
#define BOOST_TEST_MODULE faults
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

import berth;
import berth.sim;

namespace {

using berth::errc;

constexpr std::uint64_t rounds = 3;

/// Six blocks of 2 GiB on a 12 GiB card with a second one beside it: some stream from host memory, one from the disk.
const berth::plan& streamed_plan() {
  static const auto made = [] {
    static berth::model m;
    constexpr std::array<std::string_view, 8> names{"embed",    "layers.0", "layers.1", "layers.2",
                                                    "layers.3", "layers.4", "layers.5", "head"};
    for (const auto name : names) {
      berth::atom a;
      a.name = name;
      a.weights = 2 * berth::GiB;
      a.state = 16 * berth::MiB;
      a.workspace = 64 * berth::MiB;
      a.work[0] = {4e12, 2.2e9, 4e6};
      a.work[1] = {8e9, 2.2e9, 8192};
      m.add(a);
    }
    static const auto box = *berth::preset("2x3060");
    static const std::vector<berth::map_entry> homes{{"embed", "0"},    {"layers.0", "0"},   {"layers.1", "cpu"},
                                                     {"layers.2", "0"}, {"layers.3", "cpu"}, {"layers.4", "disk"},
                                                     {"layers.5", "1"}, {"head", "1"}};
    berth::place_options o;
    o.workload = {4096, 1, 512, rounds, berth::objective::latency};
    o.use_disk = true;
    o.certify = false;
    return berth::place_fn(berth::Manual{homes})(m, box, o);
  }();
  BOOST_REQUIRE_MESSAGE(made.has_value(), (made ? "" : std::string(made.error().detail.view())));
  return *made;
}

const berth::compiled_plan& programs() {
  static const auto made = berth::compile_all(streamed_plan());
  BOOST_REQUIRE_MESSAGE(made.has_value(), (made ? "" : std::string(made.error().detail.view())));
  return *made;
}

struct outcome {
  std::optional<berth::error> error;
  std::uint64_t print = 0;
  std::size_t live = 0;
  berth::bytes held = 0;  ///< simulated memory in use at the end
  berth::picoseconds end = 0;
  std::string injected;
};

outcome run(std::string_view faults, std::uint64_t seed = 1) {
  const auto& p = streamed_plan();
  berth::sim::machine_options room;
  room.bounds = {64, 1024, 8192, {64, 16}};
  room.buffers = 64;
  room.places = 4096;
  room.audit = true;
  berth::sim::machine machine(p.topology(), room);
  const auto schedule = berth::parse_faults(faults, seed);
  BOOST_REQUIRE_MESSAGE(schedule.has_value(), faults);
  berth::counted counting(machine);
  berth::faulty failing(counting, *schedule);
  BOOST_REQUIRE(failing.supported().has_value());
  berth::trace t(20'000);
  berth::traced traced(failing, t);
  outcome out;
  {
    berth::execution_options o;
    o.rounds = rounds;
    o.verify_reads = true;
    berth::execution execution(traced, programs(), o);
    if (const auto ok = execution.run(); !ok) out.error = ok.error();
  }
  out.print = berth::fingerprint(t);
  out.end = machine.now();
  out.live = counting.live();
  while (berth::advance_to_next(machine)) {  // frees take effect when their streams get there
  }
  for (std::uint32_t d = 0; d < p.devices.size(); ++d) out.held += machine.used(d);
  out.injected = berth::print(failing.injected());
  BOOST_TEST(!machine.broken().has_value(), faults);
  return out;
}

std::string words(const outcome& o) {
  return o.error ? std::string(name_of(o.error->code)) + ": " + std::string(o.error->detail.view()) : "completed";
}

/// Runs a schedule, checks what holds for all of them, and runs what it says it injected again.
outcome survived(const std::string& faults, std::vector<errc> allowed, std::uint64_t seed = 1) {
  const auto o = run(faults, seed);
  BOOST_TEST_CONTEXT(faults << " -> " << words(o)) {
    BOOST_TEST(o.live == 0u);
    BOOST_TEST(o.held == 0u);
    if (o.error) {
      BOOST_TEST((std::find(allowed.begin(), allowed.end(), o.error->code) != allowed.end()));
      BOOST_TEST(!o.error->subject.view().empty());
    }
    const auto again = run(faults, seed);
    BOOST_TEST(again.print == o.print);
    if (!o.injected.empty()) {
      const auto explicit_again = run(o.injected, seed);
      BOOST_TEST(words(explicit_again) == words(o));
      BOOST_TEST(explicit_again.end == o.end);
    }
  }
  return o;
}

/// How many calls of a kind a run without faults makes.
std::size_t calls_of(berth::op_kind kind) {
  std::size_t n = 0;
  const auto count = [&](const berth::program& p, std::uint64_t times) {
    for (const auto& o : p.operations) n += o.kind == kind ? times : 0;
  };
  count(programs().load, 1);
  count(programs().prefill, 1);
  count(programs().decode, rounds);
  return n;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_run_without_faults_completes_and_frees_everything) {
  const auto o = survived("", {});
  BOOST_TEST(!o.error.has_value(), words(o));
  BOOST_TEST(o.injected.empty());
  BOOST_TEST(calls_of(berth::op_kind::copy) > 10u);
  BOOST_TEST(calls_of(berth::op_kind::read) > 8u);
}

BOOST_AUTO_TEST_CASE(every_failing_allocation_ends_the_run_with_out_of_memory) {
  const auto n = calls_of(berth::op_kind::allocate);
  BOOST_REQUIRE(n >= 3);
  for (std::size_t i = 1; i <= n; ++i) {
    const auto o = survived("alloc:n=" + std::to_string(i), {errc::out_of_memory});
    BOOST_TEST(o.error.has_value());
  }
}

BOOST_AUTO_TEST_CASE(every_single_failing_copy_is_tried_again) {
  for (std::size_t i = 1; i <= calls_of(berth::op_kind::copy); ++i) {
    const auto o = survived("copy:n=" + std::to_string(i), {});
    BOOST_TEST(!o.error.has_value(), words(o));
    BOOST_TEST(!o.injected.empty());
  }
}

BOOST_AUTO_TEST_CASE(a_copy_that_keeps_failing_ends_the_run_with_copy_failed) {
  for (std::size_t i = 1; i <= calls_of(berth::op_kind::copy); ++i) {
    const auto o = survived("copy:n=" + std::to_string(i) + ",times=3", {errc::copy_failed});
    BOOST_TEST(o.error.has_value());
  }
}

BOOST_AUTO_TEST_CASE(every_corrupted_read_is_found_and_read_again) {
  for (std::size_t i = 1; i <= calls_of(berth::op_kind::read); ++i) {
    const auto o = survived("read:n=" + std::to_string(i), {});
    BOOST_TEST(!o.error.has_value(), words(o));
    BOOST_TEST(!o.injected.empty());
  }
}

BOOST_AUTO_TEST_CASE(reads_that_stay_corrupted_end_the_run_with_corrupted) {
  const auto o = survived("read:n=1,times=100000", {errc::corrupted});
  BOOST_TEST(o.error.has_value());
}

BOOST_AUTO_TEST_CASE(every_stall_that_ends_only_delays) {
  const auto calm = run("");
  for (std::size_t i = 1; i <= calls_of(berth::op_kind::copy) + calls_of(berth::op_kind::read); ++i) {
    const auto o = survived("stall:n=" + std::to_string(i) + ",for=40ms", {});
    BOOST_TEST(!o.error.has_value(), words(o));
    // What is late may find a link free that it would have shared: a run can end a set-up or two earlier.
    BOOST_TEST(o.end >= calm.end - 1'000'000'000);
  }
}

BOOST_AUTO_TEST_CASE(every_stall_that_never_ends_is_found) {
  for (std::size_t i = 1; i <= calls_of(berth::op_kind::copy) + calls_of(berth::op_kind::read); ++i) {
    const auto o = run("stall:n=" + std::to_string(i));
    BOOST_TEST_CONTEXT("stall:n=" << i << " -> " << words(o)) {
      BOOST_TEST(o.error.has_value());
      if (o.error) BOOST_TEST((o.error->code == errc::stalled));
      BOOST_TEST(o.live == 0u);
      BOOST_TEST(o.held == 0u);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_device_lost_at_any_time_ends_the_run_with_device_lost) {
  const auto end = run("").end;
  for (int part = 0; part <= 40; ++part)
    for (const std::string device : {"0", "1", "cpu"}) {
      const auto at = std::to_string(end / 40 * part) + "ps";
      const auto o = survived("lost:device=" + device + ",at=" + at, {errc::device_lost, errc::stalled});
      BOOST_TEST_CONTEXT(device << " at " << at) {
        BOOST_TEST((o.error.has_value() || part >= 39));
        if (o.error) BOOST_TEST((o.error->code == errc::device_lost));
      }
    }
}

BOOST_AUTO_TEST_CASE(slow_links_and_devices_only_delay) {
  const auto calm = run("");
  for (const auto& s : streamed_plan().segments) {
    const auto o = survived("segment:name=" + std::string(s.name.view()) + ",factor=0.1,from=1s,for=3s", {});
    BOOST_TEST(!o.error.has_value(), words(o));
    BOOST_TEST(o.end >= calm.end);
  }
  for (const std::string device : {"0", "1"}) {
    const auto o = survived("slow:device=" + device + ",factor=3", {});
    BOOST_TEST(!o.error.has_value(), words(o));
    BOOST_TEST(o.end > calm.end);
  }
}

BOOST_AUTO_TEST_CASE(random_faults_are_survived_and_can_be_repeated) {
  std::size_t failed = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    const auto o = survived("random:rate=0.02", {errc::out_of_memory, errc::copy_failed, errc::corrupted}, seed);
    failed += o.error ? 1 : 0;
  }
  BOOST_TEST(failed > 0u);
  BOOST_TEST(failed < 200u);
}
