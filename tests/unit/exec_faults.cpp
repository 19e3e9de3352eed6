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
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "exec_recording_machine.hpp"

namespace {

using namespace berth;
using namespace exec_test;

fault_schedule schedule(std::string_view text, std::uint64_t seed = 0) {
  const auto s = parse_faults(text, seed);
  BOOST_TEST_REQUIRE(s.has_value(), (s ? std::string() : std::string(s.error().detail.view())));
  return *s;
}
template <class T>
errc code_of(const result<T>& r) {
  BOOST_TEST_REQUIRE(!r.has_value());
  return r.error().code;
}
bool mentions(const error& e, std::string_view what) { return e.detail.view().find(what) != std::string_view::npos; }

/// A machine with a schedule, two streams and a buffer on each device, made before anything can go wrong.
template <class M>
struct bench {
  M m;
  faulty<M> f;
  stream_id s, u;
  buffer_id a, b;

  explicit bench(std::string_view text, std::uint64_t seed = 0) : f(m, schedule(text, seed)) {
    s = *f.make_stream(0);
    u = *f.make_stream(1);
    a = f.allocate(0, 64, memory_kind::plain).value_or({});
    b = f.allocate(1, 64, memory_kind::plain).value_or({});
  }
  result<done> copy() { return f.copy(s, {{a, 0, 8}, {b, 0, 8}, transfer_kind::copy, 0, 42}); }
  result<done> read(bytes offset) { return f.read(s, {{1, offset, 8}, {a, 0, 8}}); }
};

}  // namespace

BOOST_AUTO_TEST_CASE(schedules_survive_print_and_parse) {
  constexpr std::array<std::string_view, 20> specs{"",
                                                   "alloc:n=3",
                                                   "alloc:n=3,times=2",
                                                   "alloc:above=1GiB",
                                                   "alloc:above=1537KiB,device=npu:0",
                                                   "alloc:above=0B",
                                                   "copy:n=5",
                                                   "copy:n=9223372036854775806",
                                                   "segment:name=pcie 0 in,factor=0.1,from=10ms,for=100ms",
                                                   "segment:name=dram,factor=1e-05",
                                                   "slow:device=1,factor=3",
                                                   "slow:device=cpu,factor=2.5,for=1s",
                                                   "lost:device=0,at=1s",
                                                   "lost:device=0",
                                                   "read:n=2,times=7",
                                                   "stall:n=4",
                                                   "stall:n=4,times=2,for=50ms",
                                                   "random:rate=0.01",
                                                   "stall:n=1,for=1500us;stall:n=2,for=1ns;stall:n=3,for=7ps",
                                                   "copy:n=5;copy:n=5;random:rate=1"};
  for (const auto spec : specs) {
    const auto s = schedule(spec, 9);
    BOOST_TEST(print(s) == spec);
    BOOST_TEST((schedule(print(s), 9) == s));
  }
  BOOST_TEST(print(schedule("lost:device=0,at=1.5s; copy:n=1,times=1;lost:at=0ps,device=2")) ==
             "lost:device=0,at=1500ms;copy:n=1;lost:device=2");
}

BOOST_AUTO_TEST_CASE(random_schedules_survive_print_and_parse) {
  const std::uint64_t seed = 77;
  BOOST_TEST_MESSAGE("seed " << seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 300; ++round) {
    fault_schedule s(5);
    for (auto n = random() % 6; n > 0; --n) {
      fault f;
      f.kind = static_cast<fault_kind>(random() % fault_kind_count);
      const auto time = [&] { return static_cast<picoseconds>(random() >> (2 + random() % 60)); };
      const auto number = [&] { return static_cast<double>(random() >> 11) * 0x1p-53; };
      const bool timed = f.kind == fault_kind::segment || f.kind == fault_kind::slow;
      if (f.kind == fault_kind::alloc && random() % 2 == 0)
        f.above = random() >> (5 + random() % 58);  // sizes are written with at most 18 digits
      else if (f.kind == fault_kind::alloc || f.kind == fault_kind::copy || f.kind == fault_kind::read ||
               f.kind == fault_kind::stall) {
        f.n = 1 + random() % 1000;
        f.times = 1 + random() % 3;
      }
      if (f.kind == fault_kind::slow || f.kind == fault_kind::lost)
        f.device = device_id(static_cast<int>(random() % 9));
      if (f.kind == fault_kind::segment) f.name = text<48>("a b=c: ").append(random() % 1000);
      if (timed) f.factor = f.kind == fault_kind::slow ? 1 + 1000 * number() : number() + 1e-9;
      if (f.factor > 1 && f.kind == fault_kind::segment) f.factor = 1;
      if (timed || f.kind == fault_kind::lost) f.from = time();
      if (f.kind == fault_kind::random) f.rate = number();
      if (f.kind == fault_kind::stall || (timed && random() % 2 == 0)) f.lasting = 1 + time();
      s.add(f);
    }
    BOOST_TEST_CONTEXT(print(s)) BOOST_TEST((schedule(print(s), 5) == s));
  }
}

BOOST_AUTO_TEST_CASE(malformed_schedules_are_refused_with_the_piece_that_is_wrong) {
  struct wrong {
    std::string_view text, piece, allowed;
  };
  constexpr std::array<wrong, 42> cases{{
      {"copy", "copy", "copy:n=5"},
      {"cpoy:n=1", "cpoy", "alloc, copy, segment"},
      {"copy:n=1;", "", "one of the kinds"},
      {";copy:n=1", "", "one of the kinds"},
      {"copy:n=1;;read:n=1", "", "one of the kinds"},
      {" copy:n=1", " copy", "one of the kinds"},
      {"copy:", "copy:", "copy:n=5"},
      {"copy:n", "n", "copy:n=5"},
      {"copy:n=", "n=", "from 1 on"},
      {"copy:n=0", "n=0", "from 1 on"},
      {"copy:n=-1", "n=-1", "from 1 on"},
      {"copy:n=+1", "n=+1", "from 1 on"},
      {"copy:n=1.5", "n=1.5", "from 1 on"},
      {"copy:n=9223372036854775808", "n=9223372036854775808", "from 1 on"},
      {"copy:n=9223372036854775807", "copy:n=9223372036854775807", "copy:n=5"},
      {"copy:n=1,", "copy:n=1,", "copy:n=5"},
      {"copy:n=1,n=2", "n=2", "copy:n=5"},
      {"copy:n=1,times=0", "times=0", "from 1 on"},
      {"copy:times=2", "copy:times=2", "copy:n=5"},
      {"copy:n=1,for=1s", "for=1s", "copy:n=5"},
      {"copy:N=1", "N=1", "copy:n=5"},
      {"alloc:device=0", "alloc:device=0", "alloc:n=3"},
      {"alloc:n=1,above=1GiB", "alloc:n=1,above=1GiB", "alloc:n=3"},
      {"alloc:n=1,device=0", "alloc:n=1,device=0", "above"},
      {"alloc:above=1GiB,times=2", "alloc:above=1GiB,times=2", "alloc:n=3"},
      {"alloc:above=1gib", "above=1gib", "20GiB"},
      {"alloc:above=1GiB,device=", "device=", "device=0"},
      {"segment:factor=0.1", "segment:factor=0.1", "name=pcie 0 in"},
      {"segment:name=x", "segment:name=x", "factor=0.1"},
      {"segment:name=,factor=0.1", "name=", "name of a segment"},
      {"segment:name=x,factor=0", "factor=0", "above 0 and up to 1"},
      {"segment:name=x,factor=1.5", "factor=1.5", "above 0 and up to 1"},
      {"slow:device=0,factor=0.5", "factor=0.5", "from 1 to 1000000"},
      {"slow:device=0,factor=nan", "factor=nan", "from 1 to 1000000"},
      {"slow:device=0,factor=2,from=10", "from=10", "10ms"},
      {"slow:device=0,factor=2,for=0ms", "for=0ms", "10ms"},
      {"slow:device=0,factor=2,from=9000000s,for=9000000s", "slow:device=0,factor=2,from=9000000s,for=9000000s",
       "slow:"},
      {"lost:at=1s", "lost:at=1s", "lost:device=0"},
      {"lost:device=0,at=1 s", "at=1 s", "1.5s"},
      {"lost:device=0,at=0.5ps", "at=0.5ps", "whole picoseconds"},
      {"lost:device=0,at=9223373s", "at=9223373s", "10ms"},
      {"random:rate=1.01", "rate=1.01", "from 0 to 1"},
  }};
  for (const auto& c : cases) {
    const auto r = parse_faults(c.text, 0);
    BOOST_TEST_CONTEXT(c.text) {
      BOOST_TEST_REQUIRE(!r.has_value());
      BOOST_TEST((r.error().code == errc::invalid_argument));
      BOOST_TEST(r.error().subject.view() == c.piece);
      BOOST_TEST(mentions(r.error(), c.allowed), r.error().detail.view());
    }
  }
  std::string many = "copy:n=1";
  for (std::size_t i = 0; i < max_faults; ++i) many += ";copy:n=1";
  BOOST_TEST((code_of(parse_faults(many, 0)) == errc::capacity));
}

BOOST_AUTO_TEST_CASE(allocations_fail_at_a_call_and_above_a_size) {
  bench<simulated> t("alloc:n=4;alloc:above=1KiB,device=0");
  BOOST_TEST(t.f.allocate(0, 1024, memory_kind::plain).has_value());
  const auto fourth = t.f.allocate(1, 8, memory_kind::plain);
  BOOST_TEST((code_of(fourth) == errc::out_of_memory));
  BOOST_TEST(fourth.error().subject.view() == "1");
  BOOST_TEST(fourth.error().needed == 8u);
  BOOST_TEST(fourth.error().available == 0u);
  BOOST_TEST(fourth.error().detail.view() == "injected: alloc:n=4; reproduce with alloc:n=4");
  BOOST_TEST(t.f.allocate(1, 2048, memory_kind::plain).has_value());
  for (int i = 0; i < 3; ++i) BOOST_TEST((code_of(t.f.allocate(0, 1025, memory_kind::plain)) == errc::out_of_memory));
  BOOST_TEST(print(t.f.injected()) == "alloc:n=4;alloc:above=1KiB,device=0");
}

BOOST_AUTO_TEST_CASE(copies_fail_so_many_times_and_then_work) {
  bench<simulated> t("copy:n=2,times=2");
  witness w;
  t.f.observe(w.as_observer());
  BOOST_TEST(t.copy().has_value());
  for (int i = 0; i < 2; ++i) {
    const auto r = t.copy();
    BOOST_TEST((code_of(r) == errc::copy_failed));
    BOOST_TEST(r.error().subject.view() == "0 -> 1");
  }
  BOOST_TEST(t.copy().has_value());
  BOOST_TEST(print(t.f.injected()) == "copy:n=2,times=2");
  BOOST_TEST_REQUIRE(w.seen.size() == 2u);
  BOOST_TEST((w.seen[1] == activity{activity_kind::fault, 1, 0, t.s, 42, 0, 0, 8}));
}

BOOST_AUTO_TEST_CASE(corrupted_reads_do_not_pass_a_checksum) {
  bench<simulated> t("read:n=1;read:n=3");
  for (const auto [offset, intact] :
       std::array<std::pair<bytes, bool>, 4>{{{100, false}, {100, true}, {0, false}, {0, true}}}) {
    BOOST_TEST(t.read(offset).has_value());
    BOOST_TEST(t.f.synchronize(t.s).has_value());
    BOOST_TEST((*t.f.checksum(buffer_range{t.a, 0, 8}) == *t.f.checksum(storage_range{1, offset, 8})) == intact);
  }
  BOOST_TEST(print(t.f.injected()) == "read:n=1;read:n=3");
}

BOOST_AUTO_TEST_CASE(stalls_take_longer_or_never_end) {
  bench<simulated> t("stall:n=2,for=5us;stall:n=4");
  BOOST_TEST(t.copy().has_value());
  BOOST_TEST(t.read(0).has_value());
  BOOST_TEST(t.copy().has_value());
  BOOST_TEST(t.f.synchronize(t.s).has_value());
  BOOST_TEST(t.f.now() == 3 * 1000 + 5'000'000);
  BOOST_TEST(t.copy().has_value());
  const auto r = t.f.synchronize(t.s);
  BOOST_TEST((code_of(r) == errc::stalled));
  BOOST_TEST(mentions(r.error(), "reproduce with stall:n=2,for=5us;stall:n=4"));
  BOOST_TEST(t.f.next_time() == never);
}

BOOST_AUTO_TEST_CASE(segments_are_narrow_for_an_interval_on_top_of_the_caller_s_factor) {
  bench<simulated> t("segment:name=dram,factor=0.5,from=2ns,for=2ns;segment:name=dram,factor=0.1,from=3ns,for=9ns");
  BOOST_TEST(t.f.supported().has_value());
  BOOST_TEST(t.f.throttle(2, 0.5).has_value());
  witness w;
  t.f.observe(w.as_observer());
  const auto at = [&](picoseconds time) {
    t.f.advance_to(time);
    return t.m.factors[2];
  };
  BOOST_TEST(at(1999) == 0.5);
  BOOST_TEST(at(2000) == 0.25);
  BOOST_TEST(at(3000) == 0.025);
  BOOST_TEST(at(4000) == 0.05);
  BOOST_TEST(at(20000) == 0.5);
  BOOST_TEST_REQUIRE(w.seen.size() == 2u);
  BOOST_TEST(w.seen[0].start == 2000);
  BOOST_TEST(w.seen[1].start == 3000);
  BOOST_TEST(t.m.factors[0] == 1.0);
}

BOOST_AUTO_TEST_CASE(the_clock_stops_at_faults_only_while_something_is_pending) {
  bench<simulated> t("segment:name=dram,factor=0.5,from=300ps,for=200ps");
  BOOST_TEST(t.f.next_time() == never);
  BOOST_TEST(t.f.launch(t.s, {}).has_value());
  for (const picoseconds expected : std::array<picoseconds, 3>{300, 500, 1000}) {
    BOOST_TEST(t.f.next_time() == expected);
    BOOST_TEST(advance_to_next(t.f));
    BOOST_TEST(t.f.now() == expected);
  }
  BOOST_TEST(!advance_to_next(t.f));
}

BOOST_AUTO_TEST_CASE(a_slow_device_slows_launches_that_are_submitted_meanwhile) {
  bench<simulated> t("slow:device=1,factor=3,from=1ns,for=4ns");
  const auto takes = [&](stream_id s) {
    const auto begin = t.f.now();
    BOOST_TEST(t.f.launch(s, {}).has_value());
    BOOST_TEST(t.f.synchronize(s).has_value());
    return t.f.now() - begin;
  };
  BOOST_TEST(takes(t.u) == 1000);
  BOOST_TEST(takes(t.u) == 3000);
  BOOST_TEST(takes(t.s) == 1000);
  BOOST_TEST(takes(t.u) == 1000);
}

BOOST_AUTO_TEST_CASE(a_lost_device_fails_every_call_that_involves_it) {
  bench<simulated> t("lost:device=1,at=500ps");
  auto& f = t.f;
  const auto e = *f.make_event(), other = *f.make_event();
  BOOST_TEST(f.launch(t.u, {}).has_value());
  BOOST_TEST(f.record(t.u, e).has_value());
  BOOST_TEST(f.record(t.s, other).has_value());
  const auto waited = f.synchronize(t.u);
  BOOST_TEST((code_of(waited) == errc::device_lost));
  BOOST_TEST(f.now() == 500);
  BOOST_TEST(waited.error().subject.view() == "1");
  BOOST_TEST(mentions(waited.error(), "lost:device=1,at=500ps"));
  const auto drop = [](auto) { return done{}; };
  const std::array<result<done>, 11> calls{f.make_stream(1).transform(drop),
                                           f.allocate(1, 1, memory_kind::plain).transform(drop),
                                           t.copy(),
                                           f.copy(t.s, {{t.b, 0, 8}, {t.a, 0, 8}}),
                                           f.copy(t.u, {{t.a, 0, 8}, {t.a, 8, 8}}),
                                           f.read(t.u, {{1, 0, 8}, {t.a, 0, 8}}),
                                           f.launch(t.u, {}),
                                           f.record(t.u, other),
                                           f.wait(t.s, e),
                                           f.ready(e).transform(drop),
                                           f.checksum(buffer_range{t.b, 0, 1}).transform(drop)};
  for (std::size_t i = 0; i < calls.size(); ++i)
    BOOST_TEST_CONTEXT("call " << i) BOOST_TEST((code_of(calls[i]) == errc::device_lost));
  BOOST_TEST(f.deallocate(t.u, t.b).has_value());
  t.m.advance_to(10000);
  BOOST_TEST(t.m.used(1) == 0u);
  BOOST_TEST(f.launch(t.s, {}).has_value());
  BOOST_TEST(f.synchronize(t.s).has_value());
  BOOST_TEST(*f.ready(other));
}

BOOST_AUTO_TEST_CASE(a_lost_disk_fails_reads) {
  bench<simulated> t("lost:device=disk");
  BOOST_TEST((code_of(t.read(0)) == errc::device_lost));
  BOOST_TEST((code_of(t.f.checksum(storage_range{1, 0, 1})) == errc::device_lost));
  BOOST_TEST(t.copy().has_value());
}

BOOST_AUTO_TEST_CASE(what_a_machine_cannot_do_or_does_not_have_is_said) {
  simulated m;
  real r;
  BOOST_TEST((code_of(faulty(m, schedule("lost:device=5")).supported()) == errc::unknown_device));
  const auto segment = faulty(m, schedule("segment:name=x,factor=0.5")).supported();
  BOOST_TEST((code_of(segment) == errc::invalid_argument));
  BOOST_TEST(mentions(segment.error(), "pcie 0 in, pcie 1 in, dram"));
  for (const auto* spec : std::array{"segment:name=dram,factor=0.5", "slow:device=0,factor=2", "stall:n=1"})
    BOOST_TEST((code_of(faulty(r, schedule(spec)).supported()) == errc::unsupported));
  BOOST_TEST(
      faulty(r, schedule("copy:n=1;read:n=1;alloc:n=1;lost:device=0,at=1s;random:rate=0.5")).supported().has_value());
  // A device that is not there is not any device.
  faulty f(m, schedule("alloc:above=1B,device=9"));
  BOOST_TEST(f.allocate(0, 100, memory_kind::plain).has_value());
}

BOOST_AUTO_TEST_CASE(real_machines_lose_devices_at_the_first_call_after_the_time) {
  bench<real> t("lost:device=0,at=1ns");
  BOOST_TEST(t.f.launch(t.s, {}).has_value());
  t.f.advance_to(5000);  // not for real machines
  BOOST_TEST(t.f.launch(t.s, {}).has_value());
  t.m.pass(1000);
  BOOST_TEST((code_of(t.f.launch(t.s, {})) == errc::device_lost));
  bench<real> waits("lost:device=0,at=1ns");
  BOOST_TEST(waits.f.launch(waits.s, {}).has_value());
  BOOST_TEST((code_of(waits.f.synchronize(waits.s)) == errc::device_lost));
}

namespace {

/// Everything that a run of random calls returns and what is in memory at its end.
std::vector<std::uint64_t> outcome_of(faulty<simulated>& f, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::uint64_t> out;
  const auto s = *f.make_stream(0);
  std::vector<buffer_id> buffers;
  for (int i = 0; i < 400; ++i) {
    const auto pick = buffers.empty() ? 0 : random() % 3;
    if (pick == 0) {
      const auto b = f.allocate(0, 64, memory_kind::plain);
      if (b) buffers.push_back(*b);
      out.push_back(b ? 0 : static_cast<std::uint64_t>(b.error().code));
      continue;
    }
    const auto from = buffers[random() % buffers.size()], to = buffers[random() % buffers.size()];
    const auto r = pick == 1 ? f.copy(s, {{from, 0, 8}, {to, 8, 8}}) : f.read(s, {{1, random() % 100, 8}, {to, 0, 8}});
    out.push_back(r ? 0 : static_cast<std::uint64_t>(r.error().code));
  }
  out.push_back(f.synchronize(s) ? 0 : 1);
  out.push_back(static_cast<std::uint64_t>(f.now()));
  for (const auto b : buffers) out.push_back(*f.checksum(buffer_range{b, 0, 64}));
  return out;
}

}  // namespace

BOOST_AUTO_TEST_CASE(random_faults_repeat_with_their_seed_and_with_the_schedule_they_print) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      simulated a, b, c;
      faulty first(a, schedule("random:rate=0.1", seed)), again(b, schedule("random:rate=0.1", seed));
      const auto outcome = outcome_of(first, seed);
      BOOST_TEST(outcome_of(again, seed) == outcome, boost::test_tools::per_element());
      BOOST_TEST(print(first.injected()) == print(again.injected()));
      BOOST_TEST(first.injected().faults().size() > 10u);
      const auto printed = print(first.injected());
      BOOST_TEST(printed.find("random") == std::string::npos);
      faulty explicitly(c, schedule(printed));
      BOOST_TEST(outcome_of(explicitly, seed) == outcome, boost::test_tools::per_element());
      BOOST_TEST(print(explicitly.injected()) == printed);
    }
  }
  simulated a, b;
  faulty one(a, schedule("random:rate=0.1", 1)), two(b, schedule("random:rate=0.1", 2));
  BOOST_TEST((outcome_of(one, 1) != outcome_of(two, 1)));
}

BOOST_AUTO_TEST_CASE(random_faults_stop_when_their_list_is_full_and_it_still_reproduces) {
  simulated a, b;
  faulty f(a, schedule("random:rate=0.3", 4), std::pmr::get_default_resource(), {.faults = 5});
  const auto outcome = outcome_of(f, 4);
  BOOST_TEST(f.injected().faults().size() == 5u);
  BOOST_TEST(f.unlisted() == 0u);
  faulty again(b, schedule(print(f.injected())));
  BOOST_TEST(outcome_of(again, 4) == outcome, boost::test_tools::per_element());
}
