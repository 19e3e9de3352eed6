// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <vector>

#include "sim_random.hpp"
#include "sim_support.hpp"
// Last: it imports.
#include "sim_runner.hpp"

namespace {

using namespace berth;
using namespace berth::sim;
using namespace simulated;

constexpr double per_ps = 1e12;

/// A simulator that keeps what it reports.
struct scene {
  std::vector<step> steps;
  simulator sim;

  scene(std::span<const device_model> devices, std::span<const double> capacities, const simulator_bounds& bounds,
        std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : sim(devices, capacities, bounds, memory) {
    steps.reserve(10'000);
    sim.observe({this, [](void* self, const step& s) { static_cast<scene*>(self)->steps.push_back(s); }});
    sim.audit(true);
  }
  scene(const scene&) = delete;
  scene& operator=(const scene&) = delete;

  void finish() {
    for (std::uint32_t s = 0; s < streams; ++s) BOOST_TEST(sim.run_until_idle(s).has_value());
    BOOST_TEST(!sim.broken().has_value());
  }
  void add_streams(std::span<const std::uint32_t> devices) {
    for (const auto d : devices) BOOST_TEST_REQUIRE(sim.add_stream(d).has_value());
    streams = static_cast<std::uint32_t>(devices.size());
  }
  std::optional<step> find(std::uint32_t tag) const {
    for (const auto& s : steps)
      if (s.tag == tag) return s;
    return std::nullopt;
  }
  picoseconds end_of(std::uint32_t tag) const {
    const auto s = find(tag);
    return s ? s->end : -1;
  }
  std::uint32_t streams = 0;
};

constexpr std::array<device_model, 1> one_device{device_model{1 << 20, 256, 1, 1}};
constexpr simulator_bounds small{16, 64, 4096, {}};

bool same_times(const outcome& a, const outcome& b) {
  for (std::size_t i = 0; i < a.steps.size(); ++i)
    if (a.steps[i].start != b.steps[i].start || a.steps[i].end != b.steps[i].end) return false;
  return a.used == b.used && a.highest == b.highest && a.failed == b.failed && a.end == b.end;
}

}  // namespace

BOOST_AUTO_TEST_CASE(one_stream_without_contention_takes_the_sum) {
  scene s(one_device, std::array{per_ps}, small);
  s.add_streams(std::array{0u});
  BOOST_TEST(s.sim.submit(0, launch(0, 700, 0)).has_value());
  BOOST_TEST(s.sim.submit(0, copy_in(0, 1234, 56, 1)).has_value());
  BOOST_TEST(s.sim.submit(0, launch(0, 1, 2)).has_value());
  s.finish();
  BOOST_TEST(s.end_of(0) == 700);
  BOOST_TEST(s.find(1)->start == 700);
  BOOST_TEST(s.end_of(1) == 700 + 56 + 1234);
  BOOST_TEST(s.sim.now() == 700 + 56 + 1234 + 1);
  BOOST_TEST(s.sim.busy({0, engine_kind::compute}) == 701);
  BOOST_TEST(s.sim.busy({0, engine_kind::copy_in}) == 1290);
  BOOST_TEST(s.sim.carried(0) == 1234);
}

BOOST_AUTO_TEST_CASE(copies_of_two_devices_share_their_uplink) {
  const std::array<device_model, 2> devices{one_device[0], one_device[0]};
  scene s(devices, std::array{2 * per_ps}, small);
  s.add_streams(std::array{0u, 1u});
  BOOST_TEST(s.sim.submit(0, copy_in(0, 1000, 10, 0)).has_value());
  BOOST_TEST(s.sim.submit(1, copy_in(1, 3000, 10, 1)).has_value());
  s.finish();
  BOOST_TEST(s.end_of(0) == 10 + 1000);         // one byte per ps each
  BOOST_TEST(s.end_of(1) == 10 + 1000 + 1000);  // 2000 are left, at two
}

BOOST_AUTO_TEST_CASE(copies_of_one_device_queue_at_its_engine) {
  scene s(one_device, std::array{2 * per_ps}, small);
  s.add_streams(std::array{0u, 0u});
  BOOST_TEST(s.sim.submit(0, copy_in(0, 1000, 10, 0)).has_value());
  BOOST_TEST(s.sim.submit(1, copy_in(0, 3000, 10, 1)).has_value());
  s.finish();
  BOOST_TEST(s.end_of(0) == 510);
  BOOST_TEST(s.end_of(1) == 510 + 10 + 1500);
}

BOOST_AUTO_TEST_CASE(a_slow_device_in_the_middle_decides_the_period_of_a_pipeline) {
  constexpr std::array<picoseconds, 3> stage{100, 350, 120};
  constexpr std::uint32_t rounds = 20;
  const std::array<device_model, 3> devices{one_device[0], one_device[0], one_device[0]};
  scene s(devices, {}, {3, 2 * rounds, 400, {}});
  s.add_streams(std::array{0u, 1u, 2u});
  for (std::uint32_t r = 0; r < rounds; ++r)
    for (std::uint32_t d = 0; d < 3; ++d) {
      if (d > 0) BOOST_TEST(s.sim.wait(d, 2 * r + d - 1).has_value());
      BOOST_TEST(s.sim.submit(d, launch(d, stage[d], 3 * r + d)).has_value());
      if (d < 2) BOOST_TEST_REQUIRE(s.sim.add_event().has_value());
      if (d < 2) BOOST_TEST(s.sim.record(d, 2 * r + d).has_value());
    }
  s.finish();
  for (std::uint32_t r = 0; r < rounds; ++r) BOOST_TEST(s.end_of(3 * r + 2) == 100 + 350 * (r + 1) + 120);
}

BOOST_AUTO_TEST_CASE(a_capped_copy_takes_its_cap_and_leaves_the_rest) {
  const std::array<device_model, 2> devices{one_device[0], one_device[0]};
  scene s(devices, std::array{10 * per_ps}, small);
  s.add_streams(std::array{0u, 1u});
  auto slow = copy_in(0, 300, 0, 0);
  slow.cap = 3 * per_ps;
  BOOST_TEST(s.sim.submit(0, slow).has_value());
  BOOST_TEST(s.sim.submit(1, copy_in(1, 700, 0, 1)).has_value());
  s.finish();
  BOOST_TEST(s.end_of(0) == 100);
  BOOST_TEST(s.end_of(1) == 100);
}

BOOST_AUTO_TEST_CASE(an_item_lasts_until_both_its_parts_are_over) {
  scene s(one_device, std::array{per_ps}, small);
  s.add_streams(std::array{0u});
  auto both = launch(0, 500, 0);
  both.flow_size = 100;
  both.route = segment_0;
  BOOST_TEST(s.sim.submit(0, both).has_value());
  both.flow_size = 900;
  both.latency = 7;
  both.tag = 1;
  BOOST_TEST(s.sim.submit(0, both).has_value());
  s.finish();
  BOOST_TEST(s.end_of(0) == 500);
  BOOST_TEST(s.end_of(1) == 500 + 907);
}

BOOST_AUTO_TEST_CASE(a_wait_binds_to_the_latest_record_before_it) {
  const std::array<device_model, 2> devices{one_device[0], one_device[0]};
  scene s(devices, {}, small);
  s.add_streams(std::array{0u, 1u});
  const auto event = *s.sim.add_event();
  BOOST_TEST(s.sim.complete(event));
  BOOST_TEST(s.sim.wait(1, event, 9).has_value());  // nothing recorded: no effect
  BOOST_TEST(s.sim.submit(0, launch(0, 100, 0)).has_value());
  BOOST_TEST(s.sim.record(0, event, 1).has_value());
  BOOST_TEST(s.sim.wait(1, event, 2).has_value());
  BOOST_TEST(s.sim.submit(0, launch(0, 100, 3)).has_value());
  BOOST_TEST(s.sim.record(0, event, 4).has_value());  // after the wait: another mark
  BOOST_TEST(s.sim.submit(1, launch(1, 1, 5)).has_value());
  BOOST_TEST(!s.sim.complete(event));
  s.finish();
  BOOST_TEST(s.sim.complete(event));
  BOOST_TEST(s.end_of(9) == 0);
  BOOST_TEST(s.find(2)->start == 0);
  BOOST_TEST(s.end_of(2) == 100);
  BOOST_TEST(s.end_of(5) == 101);
  BOOST_TEST(s.end_of(4) == 200);
}

BOOST_AUTO_TEST_CASE(a_peer_copy_waits_for_both_engines_and_holds_later_items_back) {
  const std::array<device_model, 2> devices{one_device[0], one_device[0]};
  scene s(devices, std::array{per_ps}, small);
  s.add_streams(std::array{0u, 1u, 0u});
  BOOST_TEST(s.sim.submit(1, copy_in(1, 100, 0, 0)).has_value());
  auto peer = copy_in(1, 50, 0, 1);
  peer.first = {0, engine_kind::copy_out};
  BOOST_TEST(s.sim.submit(0, peer).has_value());
  item_request out;
  out.first = {0, engine_kind::copy_out};
  out.least = 5;
  out.tag = 2;
  BOOST_TEST(s.sim.submit(2, out).has_value());
  s.finish();
  BOOST_TEST(s.find(1)->start == 100);
  BOOST_TEST(s.find(2)->start == 150);
}

BOOST_AUTO_TEST_CASE(memory_counts_from_the_call_and_returns_when_the_stream_gets_there) {
  scene s(one_device, {}, small);
  s.add_streams(std::array{0u});
  const auto a = s.sim.allocate(0, 1000), b = s.sim.allocate(0, (1 << 20) - 1024);
  BOOST_TEST_REQUIRE(a.has_value());
  BOOST_TEST_REQUIRE(b.has_value());
  BOOST_TEST(*a == 1024u);
  BOOST_TEST(s.sim.submit(0, launch(0, 50, 0)).has_value());
  BOOST_TEST(s.sim.release(0, 0, *a, 1).has_value());
  const auto refused = s.sim.allocate(0, 1);
  BOOST_TEST_REQUIRE(!refused.has_value());
  BOOST_TEST((refused.error().code == errc::out_of_memory));
  BOOST_TEST(refused.error().needed == 256u);
  BOOST_TEST(refused.error().available == 0u);
  BOOST_TEST((s.sim.allocate(0, max_bytes + 5).error().code == errc::out_of_memory));
  s.sim.advance_to(49);
  BOOST_TEST(!s.sim.allocate(0, 1).has_value());
  s.sim.advance_to(50);  // the free was called first
  BOOST_TEST(s.sim.allocate(0, 1).has_value());
  s.finish();
  BOOST_TEST(s.sim.highest(0) == bytes{1 << 20});
  BOOST_TEST(s.sim.used(0) == bytes{(1 << 20) - 1024 + 256});
}

BOOST_AUTO_TEST_CASE(what_never_happens_is_a_stall) {
  scene s(one_device, std::array{per_ps}, small);
  s.add_streams(std::array{0u, 0u});
  BOOST_TEST(s.sim.submit(0, launch(0, never, 0)).has_value());
  BOOST_TEST(s.sim.submit(1, copy_in(0, 100, 0, 1)).has_value());
  BOOST_TEST((s.sim.run_until_idle(0).error().code == errc::stalled));
  BOOST_TEST(s.sim.idle(1));
  BOOST_TEST(s.sim.next_time() == never);
  s.sim.advance_to(1'000'000);
  BOOST_TEST(s.sim.now() == 1'000'000);
}

BOOST_AUTO_TEST_CASE(bounds_are_errors) {
  scene s(one_device, std::array{per_ps}, {1, 1, 2, {}});
  BOOST_TEST(s.sim.add_stream(0).has_value());
  BOOST_TEST((s.sim.add_stream(0).error().code == errc::capacity));
  BOOST_TEST(s.sim.add_event().has_value());
  BOOST_TEST((s.sim.add_event().error().code == errc::capacity));
  std::vector<segment_index> route(s.sim.flows().segments() + 20, 0);
  BOOST_TEST((s.sim.submit(0, copy_in(0, 1, 0, 0, route)).error().code == errc::capacity));
  BOOST_TEST((s.sim.submit(0, copy_in(0, 1, 0, 0, {})).error().code == errc::capacity));
  for (int i = 0; i < 2; ++i) BOOST_TEST(s.sim.submit(0, launch(0, 1, 0)).has_value());
  BOOST_TEST((s.sim.submit(0, launch(0, 1, 0)).error().code == errc::capacity));
  BOOST_TEST((s.sim.record(0, 0).error().code == errc::capacity));
  BOOST_TEST((s.sim.wait(0, 0).error().code == errc::capacity));
  BOOST_TEST((s.sim.release(0, 0, 0).error().code == errc::capacity));
  BOOST_TEST(s.sim.run_until_idle(0).has_value());
  for (int i = 0; i < 100; ++i) {  // marks are reused as well
    BOOST_TEST(s.sim.record(0, 0).has_value());
    BOOST_TEST(s.sim.wait(0, 0).has_value());
  }
}

BOOST_AUTO_TEST_CASE(random_runs_break_no_invariant_and_do_not_depend_on_numbers) {
  constexpr std::uint64_t first = 1000;
  for (std::uint64_t seed = first; seed < first + 3000; ++seed) BOOST_TEST_CONTEXT("seed " << seed) {
      const auto r = make_run(seed, 20 + seed % 60, seed % 3 == 0);
      numbering n(r);
      const auto a = run(r, n), again = run(r, n);
      BOOST_TEST(!a.broken.has_value());
      if (a.broken) BOOST_TEST_MESSAGE(a.broken->detail.view());
      BOOST_TEST(a.calls_succeed);
      BOOST_TEST(a.memory_adds_up);
      BOOST_TEST(same_times(a, again));
      std::mt19937_64 random(seed);
      n.shuffle(random);
      BOOST_TEST(same_times(a, run(r, n)));
    }
}

BOOST_AUTO_TEST_CASE(nothing_is_allocated_after_construction) {
  for (std::uint64_t seed = 1; seed < 200; ++seed) {
    const auto r = make_run(seed, 200, true);
    closing_memory memory;
    const numbering n(r);
    simulated::runner x(r, n, &memory);
    memory.close();
    const auto got = x.go();
    BOOST_TEST(!got.broken.has_value());
    BOOST_TEST(got.calls_succeed);
  }
}

/// One in-order stream: no item ends earlier because an earlier one takes longer or moves more.
BOOST_AUTO_TEST_CASE(a_longer_item_never_ends_earlier_on_one_stream) {
  constexpr std::uint64_t first = 7000;
  for (std::uint64_t seed = first; seed < first + 500; ++seed) {
    auto r = make_run(seed, 40, false);
    for (auto& c : r.calls) c.stream = 0;
    const numbering n(r);
    const auto before = run(r, n);
    std::mt19937_64 random(seed);
    auto& longer = r.calls[random() % r.calls.size()];
    if (longer.what == random_call::kind::host) continue;
    longer.least += static_cast<picoseconds>(random() % 500);
    longer.size += static_cast<std::int64_t>(random() % 500) * (longer.what == random_call::kind::copy ? 1 : 0);
    const auto after = run(r, n);
    for (std::size_t i = 0; i < r.calls.size(); ++i)
      BOOST_TEST(after.steps[i].end >= before.steps[i].end, "seed " << seed << " call " << i);
  }
}
