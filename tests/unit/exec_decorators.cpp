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
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "exec_recording_machine.hpp"

import berth.plan;

namespace {

using namespace berth;
using namespace exec_test;

static_assert(Machine<limited<simulated>> && Machine<counted<simulated>> && Machine<traced<simulated>>);
static_assert(Machine<faulty<simulated>> && Machine<joined<simulated>> && Machine<joined<simulated, real>>);
static_assert(Machine<limited<counted<real>>> && Machine<limited<traced<real>>> && Machine<limited<faulty<real>>>);
static_assert(Machine<counted<limited<real>>> && Machine<counted<traced<real>>> && Machine<counted<faulty<real>>>);
static_assert(Machine<traced<limited<real>>> && Machine<traced<counted<real>>> && Machine<traced<faulty<real>>>);
static_assert(Machine<faulty<limited<real>>> && Machine<faulty<counted<real>>> && Machine<faulty<traced<real>>>);
static_assert(Machine<joined<faulty<simulated>, limited<real>>> && Machine<faulty<joined<simulated, simulated>>>);
static_assert(Machine<limited<joined<real>>> && Machine<counted<joined<real>>> && Machine<traced<joined<real>>>);
static_assert(Machine<joined<counted<real>>> && Machine<joined<traced<real>>> && Machine<joined<joined<real>>>);
static_assert(Machine<limited<limited<real>>> && Machine<counted<counted<real>>> && Machine<faulty<faulty<real>>>);
// What a machine can do beyond the concept, its decorators can do too.
static_assert(ThrottledMachine<faulty<traced<counted<limited<simulated>>>>>);
static_assert(ImportingMachine<faulty<traced<counted<limited<simulated>>>>>);
static_assert(ExportingMachine<faulty<traced<counted<limited<simulated>>>>>);
static_assert(!ThrottledMachine<faulty<traced<counted<limited<real>>>>>);

template <class T>
errc code_of(const result<T>& r) {
  BOOST_TEST_REQUIRE(!r.has_value());
  return r.error().code;
}
}  // namespace

BOOST_AUTO_TEST_CASE(handle_tables_agree_with_a_map_whatever_the_numbers_are) {
  const std::uint64_t seed = 20251;
  BOOST_TEST_MESSAGE("seed " << seed);
  std::mt19937_64 random(seed);
  simulated m;
  // Through a decorator: its table of buffers is what this is about.
  counted c(m, std::pmr::get_default_resource(), {.streams = 4, .events = 4, .buffers = 37});
  const auto s = *c.make_stream(0);
  std::unordered_map<std::uint32_t, bytes> live;
  bytes sum = 0;
  for (int i = 0; i < 5000; ++i) {
    if (random() % 2 == 0) {
      const auto size = 1 + random() % 100;
      const auto b = c.allocate(2, size, memory_kind::plain);
      if (live.size() == 37) {
        BOOST_TEST((code_of(b) == errc::capacity));
      } else {
        BOOST_TEST_REQUIRE(b.has_value());
        live[b->index] = size;
        sum += size;
      }
    } else if (!live.empty()) {
      const auto victim = std::next(live.begin(), static_cast<std::ptrdiff_t>(random() % live.size()));
      BOOST_TEST_REQUIRE(c.deallocate(s, {victim->first}).has_value());
      BOOST_TEST((code_of(c.deallocate(s, {victim->first})) == errc::invalid_argument));
      sum -= victim->second;
      live.erase(victim);
    }
    BOOST_TEST_REQUIRE(c.live() == live.size());
    BOOST_TEST_REQUIRE(c.live_bytes() == sum);
  }
}

BOOST_AUTO_TEST_CASE(limited_refuses_beyond_the_budget_and_takes_freed_bytes_back_at_the_call) {
  simulated m;
  const std::array budgets{device_bytes{device_id(0), 100}};
  limited l(m, budgets);
  BOOST_TEST(l.supported().has_value());
  const auto s = *l.make_stream(0);
  const auto a = *l.allocate(0, 60, memory_kind::plain);
  const auto refused = l.allocate(0, 41, memory_kind::plain);
  BOOST_TEST((code_of(refused) == errc::out_of_memory));
  BOOST_TEST(refused.error().subject.view() == "0");
  BOOST_TEST(refused.error().needed == 41u);
  BOOST_TEST(refused.error().available == 40u);
  BOOST_TEST(l.allocate(0, 40, memory_kind::plain).has_value());
  BOOST_TEST(l.allocate(1, GiB, memory_kind::plain).has_value());  // no budget: the machine's own limit
  BOOST_TEST((code_of(l.allocate(1, 4 * GiB, memory_kind::plain)) == errc::out_of_memory));
  BOOST_TEST(l.used(1) == GiB);
  BOOST_TEST(l.launch(s, {}).has_value());
  BOOST_TEST(l.deallocate(s, a).has_value());
  BOOST_TEST(m.used(0) == 100u);  // the stream is not there yet
  BOOST_TEST(l.available(0) == 60u);
  BOOST_TEST(l.allocate(0, 60, memory_kind::plain).has_value());
}

BOOST_AUTO_TEST_CASE(limited_counts_as_the_device_rounds_and_names_unknown_devices) {
  auto t = small_topology();
  t.devices[0].granularity = 64;
  simulated m(t);
  const std::array budgets{device_bytes{device_id(0), 130}};
  limited l(m, budgets);
  BOOST_TEST(l.allocate(0, 1, memory_kind::plain).has_value());
  BOOST_TEST(l.used(0) == 64u);
  BOOST_TEST((code_of(l.allocate(0, 65, memory_kind::plain)) == errc::out_of_memory));
  BOOST_TEST((code_of(l.allocate(0, max_bytes, memory_kind::plain)) == errc::out_of_memory));

  const std::array strange{device_bytes{device_id(7), 1}};
  const std::array twice{device_bytes{device_id(0), 1}, device_bytes{device_id(0), 2}};
  BOOST_TEST((code_of(limited(m, strange).supported()) == errc::unknown_device));
  BOOST_TEST((code_of(limited(m, twice).supported()) == errc::invalid_argument));
}

BOOST_AUTO_TEST_CASE(counted_counts_what_was_granted) {
  simulated m;
  counted c(m);
  const auto s = *c.make_stream(1);
  const auto a = *c.allocate(1, 10, memory_kind::plain), b = *c.allocate(2, 20, memory_kind::pinned);
  BOOST_TEST(c.copy(s, {{b, 0, 10}, {a, 0, 10}}).has_value());
  BOOST_TEST(c.read(s, {{0, 0, 5}, {b, 0, 5}}).has_value());
  BOOST_TEST(c.launch(s, {}).has_value());
  BOOST_TEST((c.counts(1) == device_counts{10, 10, 1, 1, 0, 1, 0, 1}));
  BOOST_TEST((c.counts(2) == device_counts{20, 20, 1, 1, 0, 0, 1, 0}));
  std::array<live_buffer, 1> first;
  BOOST_TEST(c.leaks(first) == 2u);
  BOOST_TEST((first[0] == live_buffer{a, 1, 10}));
  BOOST_TEST(c.deallocate(s, a).has_value());
  BOOST_TEST(c.leaks(first) == 1u);
  BOOST_TEST((first[0] == live_buffer{b, 2, 20}));
  BOOST_TEST(c.counts(1).live == 0u);
  BOOST_TEST(c.counts(1).highest == 10u);
  BOOST_TEST(c.total().frees == 1u);
}

BOOST_AUTO_TEST_CASE(counted_names_buffers_that_are_used_after_they_were_freed) {
  simulated m;
  counted c(m);
  const auto s = *c.make_stream(0);
  const auto a = *c.allocate(0, 10, memory_kind::plain), b = *c.allocate(0, 10, memory_kind::plain);
  BOOST_TEST(c.deallocate(s, a).has_value());
  const auto before = m.calls.size();
  const std::array<result<done>, 5> uses{c.deallocate(s, a), c.copy(s, {{a, 0, 1}, {b, 0, 1}}),
                                         c.copy(s, {{b, 0, 1}, {a, 0, 1}}), c.read(s, {{0, 0, 1}, {a, 0, 1}}),
                                         c.checksum(buffer_range{a, 0, 1}).transform([](auto) { return done{}; })};
  for (const auto& u : uses) {
    BOOST_TEST((code_of(u) == errc::invalid_argument));
    BOOST_TEST(u.error().subject.view() == "buffer 0");
  }
  BOOST_TEST((code_of(c.deallocate(s, {77})) == errc::invalid_argument));
  BOOST_TEST((code_of(c.deallocate(s, {})) == errc::invalid_argument));
  BOOST_TEST(m.calls.size() == before);
}

BOOST_AUTO_TEST_CASE(traced_keeps_activities_and_passes_them_on) {
  simulated m;
  trace t(16);
  witness w;
  {
    traced d(m, t);
    d.observe(w.as_observer());
    const auto s = *d.make_stream(0);
    BOOST_TEST(d.launch(s, launch_of(5)).has_value());
    while (advance_to_next(d)) {
    }
    BOOST_TEST_REQUIRE(t.records().size() == 1u);
    BOOST_TEST(t.records()[0].tag == 5u);
    BOOST_TEST(t.records()[0].end == 1000);
    BOOST_TEST((w.seen == std::vector<activity>(t.records().begin(), t.records().end())));
  }
  const auto s = *m.make_stream(0);
  BOOST_TEST(m.launch(s, {}).has_value());
  m.advance_to(5000);
  BOOST_TEST(t.records().size() == 1u);
  BOOST_TEST(w.seen.size() == 2u);  // the machine has its observer back
}

BOOST_AUTO_TEST_CASE(a_stack_of_decorators_behaves_like_the_machine_when_nothing_is_injected) {
  simulated bare, below;
  trace t(64), plain(64);
  traced reference(bare, plain);
  limited l(below, {});
  counted c(l);
  faulty f(c, fault_schedule());
  traced top(f, t);
  const auto drive = [](auto& m) {
    const auto s = *m.make_stream(0), u = *m.make_stream(1);
    const auto a = *m.allocate(0, 64, memory_kind::plain), b = *m.allocate(1, 64, memory_kind::plain);
    const auto e = *m.make_event();
    (void)m.read(s, {{3, 10, 64}, {a, 0, 64}});
    (void)m.record(s, e);
    (void)m.wait(u, e);
    (void)m.copy(u, {{a, 0, 64}, {b, 0, 64}});
    (void)m.launch(u, launch_of(1));
    BOOST_TEST(!*m.ready(e));
    BOOST_TEST(m.synchronize(u).has_value());
    BOOST_TEST(*m.ready(e));
    BOOST_TEST(*m.checksum(buffer_range{b, 0, 64}) == *m.checksum(storage_range{3, 10, 64}));
    (void)m.deallocate(u, b);
    return m.now();
  };
  BOOST_TEST(drive(reference) == drive(top));
  BOOST_TEST(fingerprint(t) == fingerprint(plain));
  BOOST_TEST(c.leaks() == 1u);
}

BOOST_AUTO_TEST_CASE(decorators_allocate_at_construction_only) {
  simulated m;
  std::pmr::monotonic_buffer_resource upstream;
  struct counting final : std::pmr::memory_resource {
    std::size_t calls = 0;
    void* do_allocate(std::size_t n, std::size_t align) override {
      ++calls;
      return std::pmr::new_delete_resource()->allocate(n, align);
    }
    void do_deallocate(void* p, std::size_t n, std::size_t align) override {
      std::pmr::new_delete_resource()->deallocate(p, n, align);
    }
    bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
  } memory;
  limited l(m, {}, &memory);
  counted c(l, &memory);
  const auto schedule = *parse_faults("random:rate=0.5;stall:n=1,times=9;lost:device=1,at=1us", 3, &memory);
  faulty f(c, schedule, &memory);
  const auto made = memory.calls;
  const auto s = *f.make_stream(0);
  for (int i = 0; i < 200; ++i) {
    const auto b = f.allocate(0, 8, memory_kind::plain);
    if (!b) continue;
    (void)f.read(s, {{0, 8, 8}, {*b, 0, 8}});
    (void)f.copy(s, {{*b, 0, 4}, {*b, 4, 4}});
    (void)f.deallocate(s, *b);
    f.advance_to(f.now() + 100'000'000'000);
  }
  BOOST_TEST(f.injected().faults().size() > 10u);
  BOOST_TEST(memory.calls == made);
}
