// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <memory_resource>
#include <random>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "exec_recording_machine.hpp"

namespace {

using namespace berth;
using namespace exec_test;

constexpr device_index gpu0 = 0, gpu1 = 1, cpu = 2, disk = 3;

template <class T>
errc code_of(const result<T>& r) {
  BOOST_TEST_REQUIRE(!r.has_value());
  return r.error().code;
}

/// The second GPU, as a machine that knows the CPU of the other one but not the other GPU.
topology second_topology() {
  auto t = small_topology();
  t.devices.erase(t.devices.begin());
  t.devices.pop_back();
  return t;
}

/// GPU 0, the CPU and the disk on one machine, GPU 1 on another, which carries the copies.
template <class A = simulated, class B = simulated>
struct two_machines {
  topology whole = small_topology();
  std::array<part_of, 4> parts{{{0, 0}, {1, 0}, {0, 2}, {0, 3}}};
  std::array<bridge, 2> bridges{{{0, 1, 1}, {1, 0, 1}}};
  A a;
  B b{second_topology()};
  joined<A, B> j;

  explicit two_machines(const machine_bounds& bounds = {})
      : j(whole, parts, bridges, std::tie(a, b), std::pmr::get_default_resource(), bounds) {}
};

template <class M>
void run(M& m) {
  while (advance_to_next(m)) {
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(events_of_one_machine_hold_streams_of_another) {
  two_machines<> t;
  BOOST_TEST(t.j.supported().has_value());
  witness w;
  t.j.observe(w.as_observer());
  const auto s = *t.j.make_stream(gpu0), u = *t.j.make_stream(gpu1);
  const auto e = *t.j.make_event(), back = *t.j.make_event();
  BOOST_TEST(*t.j.ready(e));
  BOOST_TEST(t.j.wait(u, e).has_value());  // no record yet: no effect
  BOOST_TEST(t.j.launch(s, launch_of(1)).has_value());
  BOOST_TEST(t.j.record(s, e).has_value());
  BOOST_TEST(t.j.wait(u, e).has_value());
  BOOST_TEST(t.j.launch(u, launch_of(2)).has_value());
  BOOST_TEST(t.j.record(u, back).has_value());
  BOOST_TEST(t.j.wait(s, back).has_value());
  BOOST_TEST(t.j.launch(s, launch_of(3)).has_value());
  BOOST_TEST(!*t.j.ready(back));
  BOOST_TEST(t.b.calls.empty());  // nothing is submitted early
  run(t.j);
  BOOST_TEST(t.j.now() == 3000);
  BOOST_TEST_REQUIRE(w.seen.size() == 3u);
  BOOST_TEST((w.seen[0] == activity{activity_kind::launch, gpu0, no_index, s, 1, 0, 1000, 0}));
  BOOST_TEST((w.seen[1] == activity{activity_kind::launch, gpu1, no_index, u, 2, 1000, 2000, 0}));
  BOOST_TEST((w.seen[2] == activity{activity_kind::launch, gpu0, no_index, s, 3, 2000, 3000, 0}));
  BOOST_TEST(*t.j.ready(back));
}

BOOST_AUTO_TEST_CASE(waits_bind_to_the_record_before_them) {
  two_machines<> t;
  const auto s = *t.j.make_stream(gpu0), u = *t.j.make_stream(gpu1);
  const auto e = *t.j.make_event();
  BOOST_TEST(t.j.launch(s, {}).has_value());
  BOOST_TEST(t.j.record(s, e).has_value());
  BOOST_TEST(t.j.wait(u, e).has_value());
  BOOST_TEST(t.j.launch(u, {}).has_value());
  for (int i = 0; i < 5; ++i) BOOST_TEST(t.j.launch(s, {}).has_value());
  BOOST_TEST(t.j.record(s, e).has_value());  // not what u waits for
  BOOST_TEST(t.j.synchronize(u).has_value());
  BOOST_TEST(t.j.now() == 2000);
  BOOST_TEST(!*t.j.ready(e));
  BOOST_TEST(t.j.synchronize(s).has_value());
  BOOST_TEST(t.j.now() == 6000);
}

BOOST_AUTO_TEST_CASE(copies_cross_bridges_whatever_stream_they_are_on) {
  for (const device_index on : std::array{gpu0, gpu1, cpu}) {
    two_machines<> t;
    const auto s = *t.j.make_stream(on);
    const auto host = *t.j.allocate(cpu, 64, memory_kind::pinned), card = *t.j.allocate(gpu1, 64, memory_kind::plain);
    const auto home = *t.j.allocate(cpu, 64, memory_kind::plain);
    BOOST_TEST(t.j.read(s, {{2, 7, 64}, {host, 0, 64}}).has_value());
    BOOST_TEST(t.j.copy(s, {{host, 0, 64}, {card, 0, 64}}).has_value());
    BOOST_TEST(t.j.copy(s, {{host, 0, 64}, {card, 0, 64}}).has_value());
    BOOST_TEST(t.j.copy(s, {{card, 0, 64}, {home, 0, 64}}).has_value());
    BOOST_TEST(t.b.imports == 2);  // once per buffer
    BOOST_TEST(t.j.synchronize(s).has_value());
    BOOST_TEST(t.j.now() == 4000);
    BOOST_TEST(*t.j.checksum(buffer_range{home, 0, 64}) == *t.j.checksum(storage_range{2, 7, 64}));
    for (const auto b : std::array{host, card, home}) BOOST_TEST(t.j.deallocate(s, b).has_value());
    BOOST_TEST((code_of(t.j.deallocate(s, card)) == errc::invalid_argument));
    BOOST_TEST(t.j.synchronize(s).has_value());
    BOOST_TEST(t.b.imports == 0);
    BOOST_TEST(t.a.used(2) == 0u);
    BOOST_TEST(t.b.used(0) == 0u);
  }
}

BOOST_AUTO_TEST_CASE(pairs_without_a_bridge_are_refused_with_both_names) {
  two_machines<> t;
  const auto s = *t.j.make_stream(gpu1);
  const auto a = *t.j.allocate(gpu0, 8, memory_kind::plain), b = *t.j.allocate(gpu1, 8, memory_kind::plain);
  // The carrier does not know GPU 0.
  const auto unknown = t.j.copy(s, {{a, 0, 8}, {b, 0, 8}});
  BOOST_TEST((code_of(unknown) == errc::unsupported));
  BOOST_TEST(unknown.error().subject.view() == "0 -> 1");

  simulated m, n(second_topology());
  joined<simulated, simulated> none(t.whole, t.parts, {}, std::tie(m, n));
  const auto u = *none.make_stream(cpu);
  const auto c = *none.allocate(cpu, 8, memory_kind::plain), d = *none.allocate(gpu1, 8, memory_kind::plain);
  const auto missing = none.copy(u, {{c, 0, 8}, {d, 0, 8}});
  BOOST_TEST((code_of(missing) == errc::unsupported));
  BOOST_TEST(missing.error().subject.view() == "cpu -> 1");
}

BOOST_AUTO_TEST_CASE(parts_must_cover_the_topology) {
  const auto whole = small_topology();
  simulated a, b(second_topology());
  const auto code = [&](std::vector<part_of> parts, std::vector<bridge> bridges = {}) {
    joined<simulated, simulated> j(whole, parts, bridges, std::tie(a, b));
    BOOST_TEST(!j.make_stream(0).has_value());
    BOOST_TEST(!j.allocate(0, 1, memory_kind::plain).has_value());
    BOOST_TEST(!j.make_event().has_value());
    BOOST_TEST(!j.checksum(storage_range{}).has_value());
    return code_of(j.supported());
  };
  BOOST_TEST((code({{0, 0}, {0, 1}, {0, 2}}) == errc::invalid_topology));
  BOOST_TEST((code({{0, 0}, {0, 1}, {0, 2}, {2, 0}}) == errc::invalid_topology));
  BOOST_TEST((code({{0, 0}, {0, 1}, {0, 2}, {0, 4}}) == errc::invalid_topology));
  BOOST_TEST((code({{0, 0}, {0, 1}, {0, 2}, {0, 1}}) == errc::invalid_topology));
  BOOST_TEST((code({{0, 0}, {0, 1}, {0, 2}, {0, 3}}, {{0, 1, 2}}) == errc::invalid_argument));
}

BOOST_AUTO_TEST_CASE(handles_that_do_not_exist_are_refused) {
  two_machines<> t;
  const auto s = *t.j.make_stream(gpu0);
  const auto e = *t.j.make_event();
  BOOST_TEST((code_of(t.j.make_stream(9)) == errc::unknown_device));
  BOOST_TEST((code_of(t.j.launch({}, {})) == errc::invalid_argument));
  BOOST_TEST((code_of(t.j.record({5}, e)) == errc::invalid_argument));
  BOOST_TEST((code_of(t.j.wait(s, {})) == errc::invalid_argument));
  BOOST_TEST((code_of(t.j.ready({1})) == errc::invalid_argument));
  BOOST_TEST((code_of(t.j.copy(s, {})) == errc::invalid_argument));
  BOOST_TEST(t.j.native({7}) == nullptr);
}

BOOST_AUTO_TEST_CASE(queues_are_bounded_and_a_full_one_changes_nothing) {
  two_machines<> t({.streams = 4, .events = 8, .buffers = 2, .queued = 3});
  const auto s = *t.j.make_stream(gpu0), u = *t.j.make_stream(gpu1);
  const auto e = *t.j.make_event();
  BOOST_TEST(t.j.launch(s, {}).has_value());
  BOOST_TEST(t.j.record(s, e).has_value());
  BOOST_TEST(t.j.wait(u, e).has_value());
  BOOST_TEST(t.j.launch(u, {}).has_value());
  BOOST_TEST(t.j.launch(u, {}).has_value());
  BOOST_TEST((code_of(t.j.launch(u, {})) == errc::capacity));
  BOOST_TEST((code_of(t.j.record(u, e)) == errc::capacity));
  run(t.j);
  BOOST_TEST(t.j.now() == 3000);
  BOOST_TEST(t.j.launch(u, {}).has_value());
  BOOST_TEST(t.j.allocate(cpu, 1, memory_kind::plain).has_value());
  BOOST_TEST(t.j.allocate(gpu1, 1, memory_kind::plain).has_value());
  BOOST_TEST((code_of(t.j.allocate(cpu, 1, memory_kind::plain)) == errc::capacity));
}

BOOST_AUTO_TEST_CASE(a_failure_in_the_queue_spoils_its_stream_until_synchronize_has_told) {
  const auto whole = small_topology();
  const std::array<part_of, 4> parts{{{0, 0}, {1, 0}, {0, 2}, {0, 3}}};
  simulated a, b(second_topology());
  faulty f(b, *parse_faults("copy:n=1", 0));
  joined<simulated, faulty<simulated>> j(whole, parts, {}, std::tie(a, f));
  const auto s = *j.make_stream(gpu0), u = *j.make_stream(gpu1);
  const auto e = *j.make_event(), after = *j.make_event();
  const auto buffer = *j.allocate(gpu1, 16, memory_kind::plain), other = *j.allocate(gpu1, 16, memory_kind::plain);
  BOOST_TEST(j.launch(s, {}).has_value());
  BOOST_TEST(j.record(s, e).has_value());
  BOOST_TEST(j.wait(u, e).has_value());
  BOOST_TEST(j.copy(u, {{buffer, 0, 8}, {buffer, 8, 8}}).has_value());  // queued: fails later
  BOOST_TEST(j.record(u, after).has_value());
  BOOST_TEST(j.deallocate(u, buffer).has_value());
  BOOST_TEST(j.wait(s, after).has_value());
  run(j);
  BOOST_TEST((code_of(j.ready(after)) == errc::copy_failed));
  BOOST_TEST((code_of(j.launch(u, {})) == errc::copy_failed));
  BOOST_TEST((code_of(j.synchronize(s)) == errc::copy_failed));  // it waited for what never comes
  BOOST_TEST((code_of(j.synchronize(u)) == errc::copy_failed));
  BOOST_TEST(j.copy(u, {{other, 0, 8}, {other, 8, 8}}).has_value());
  BOOST_TEST(j.synchronize(u).has_value());
  BOOST_TEST(j.synchronize(s).has_value());
  BOOST_TEST(b.used(0) == 16u);  // the freed buffer is freed
}

BOOST_AUTO_TEST_CASE(synchronize_blocks_in_the_machine_that_holds_the_stream_up) {
  two_machines<real, real> t;
  const auto s = *t.j.make_stream(gpu0), u = *t.j.make_stream(gpu1), v = *t.j.make_stream(cpu);
  const auto e = *t.j.make_event(), g = *t.j.make_event();
  BOOST_TEST(t.j.launch(s, {}).has_value());
  BOOST_TEST(t.j.record(s, e).has_value());
  BOOST_TEST(t.j.wait(u, e).has_value());
  BOOST_TEST(t.j.launch(u, {}).has_value());
  BOOST_TEST(t.j.record(u, g).has_value());
  BOOST_TEST(t.j.wait(v, g).has_value());
  BOOST_TEST(t.j.launch(v, {}).has_value());
  BOOST_TEST(t.j.next_time() == never);
  BOOST_TEST(t.j.synchronize(v).has_value());
  BOOST_TEST(*t.j.ready(e));
  BOOST_TEST(*t.j.ready(g));
}

BOOST_AUTO_TEST_CASE(what_never_ends_is_stalled) {
  two_machines<> t;
  const auto s = *t.j.make_stream(gpu0), u = *t.j.make_stream(gpu1);
  const auto e = *t.j.make_event();
  BOOST_TEST(t.j.launch(s, launch_of(no_tag, never)).has_value());
  BOOST_TEST(t.j.record(s, e).has_value());
  BOOST_TEST(t.j.wait(u, e).has_value());
  BOOST_TEST(t.j.launch(u, {}).has_value());
  BOOST_TEST((code_of(t.j.synchronize(u)) == errc::stalled));
}

namespace {

/// A random program of launches, records and waits on the devices of the small topology; when each launch ended.
template <class M>
std::vector<picoseconds> ends_of(M& m, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  witness w;
  m.observe(w.as_observer());
  std::vector<stream_id> streams;
  for (int i = 0; i < 6; ++i) streams.push_back(*m.make_stream(std::array{gpu0, gpu1, cpu}[random() % 3]));
  std::vector<event_id> events;
  for (int i = 0; i < 5; ++i) events.push_back(*m.make_event());
  std::uint32_t tags = 0;
  for (int i = 0; i < 300; ++i) {
    const auto s = streams[random() % streams.size()];
    const auto e = events[random() % events.size()];
    switch (random() % 6) {
      case 0:
      case 1:
        BOOST_TEST_REQUIRE(m.record(s, e).has_value());
        break;
      case 2:
        BOOST_TEST_REQUIRE(m.wait(s, e).has_value());
        break;
      case 3:
        m.advance_to(m.now() + static_cast<picoseconds>(random() % 900));
        break;
      default:
        BOOST_TEST_REQUIRE(m.launch(s, launch_of(tags++, static_cast<picoseconds>(random() % 500))).has_value());
    }
  }
  if (seed % 2 == 0)
    for (const auto s : streams) BOOST_TEST_REQUIRE(m.synchronize(s).has_value());
  else
    run(m);
  std::vector<picoseconds> ends(tags, -1);
  for (const auto& a : w.seen) ends[a.tag] = a.end;
  m.observe({});
  return ends;
}

}  // namespace

BOOST_AUTO_TEST_CASE(random_programs_take_the_same_time_on_joined_machines_as_on_one) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      simulated one;
      two_machines<> t;
      BOOST_TEST(ends_of(t.j, seed) == ends_of(one, seed), boost::test_tools::per_element());
    }
  }
}

BOOST_AUTO_TEST_CASE(faults_of_a_part_reach_the_caller_through_the_whole) {
  const auto whole = small_topology();
  const std::array<part_of, 4> parts{{{0, 0}, {1, 0}, {0, 2}, {0, 3}}};
  simulated a, b(second_topology());
  faulty f(b, *parse_faults("lost:device=1,at=1500ps", 0));
  joined<simulated, faulty<simulated>> j(whole, parts, {}, std::tie(a, f));
  const auto u = *j.make_stream(gpu1);
  BOOST_TEST(j.launch(u, {}).has_value());
  BOOST_TEST(j.launch(u, {}).has_value());
  const auto r = j.synchronize(u);
  BOOST_TEST((code_of(r) == errc::device_lost));
  BOOST_TEST(r.error().subject.view() == "1");
  BOOST_TEST(j.now() == 1500);
  BOOST_TEST(j.native(u) == nullptr);
  BOOST_TEST(j.topology().devices[disk].id.view() == "disk");
}
