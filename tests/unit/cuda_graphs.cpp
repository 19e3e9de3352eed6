// SPDX-License-Identifier: Apache-2.0
// Rounds recorded as a CUDA graph do what rounds that are submitted one by one do.
#include <boost/test/unit_test.hpp>

#include <cstdint>
#include <memory_resource>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "streamed_programs.hpp"

import berth;
import berth.cuda;

namespace {

using berth::errc;

template <class T>
T must(berth::result<T> r) {
  BOOST_REQUIRE_MESSAGE(r.has_value(), (r ? "" : std::string(r.error().detail.view())));
  return *std::move(r);
}

/// Rounds after which all rings are where they were.
std::uint64_t rounds_of_a_cycle() {
  std::uint64_t n = 1;
  const auto& p = programs().decode;
  for (std::size_t r = 0; r < p.frame.rings.size(); ++r)
    if (p.copies[r] > 0) n = std::lcm(n, p.frame.rings[r].slots / std::gcd(p.frame.rings[r].slots, p.copies[r]));
  return n;
}

/// Load and prompt, on a machine with callables that check what they get.
struct loaded_run {
  loaded_run(fake_cuda::runtime& cuda)
      : work(cuda, the_plan().atoms.size()),
        machine(cuda.table(), the_plan().topology(), rehearsal::small_machine()),
        handles(must(berth::bind(machine, programs().load.frame, std::pmr::get_default_resource()))) {
    run(berth::program_phase::load, 1);
    run(berth::program_phase::prefill, 1);
  }
  void run(berth::program_phase phase, std::uint64_t n) {
    berth::runner_options o;
    o.rounds = n;
    o.work = work.source();
    berth::runner r(machine, programs().of(phase), handles, o);
    must(r.run());
  }
  berth::stream_id last() const { return handles.streams[programs().decode.last_stream]; }
  berth::cuda::graph record(std::uint64_t n) {
    berth::runner_options o;
    o.rounds = o.ahead = n;
    o.drain = false;
    o.work = work.source();
    berth::runner r(machine, programs().decode, handles, o);
    must(machine.begin_capture(last()));
    must(r.run());
    return must(machine.end_capture());
  }
  void drain() {
    for (const auto s : handles.streams) must(machine.synchronize(s));
  }

  rehearsal::callables work;
  berth::cuda::machine machine;
  berth::frame_handles handles;
};

rehearsal::log submitted(std::uint64_t n, std::uint64_t seed, bool peers) {
  fake_cuda::runtime cuda(rehearsal::runtime_options(seed, peers));
  loaded_run r(cuda);
  r.run(berth::program_phase::decode, n);
  return r.work.seen;
}

}  // namespace

BOOST_AUTO_TEST_CASE(replayed_rounds_compute_what_submitted_rounds_compute) {
  const auto cycle = rounds_of_a_cycle();
  BOOST_TEST_MESSAGE("rounds of a cycle: " << cycle);
  for (const bool peers : {true, false}) {
    const auto expected = submitted(5 * cycle, 0, peers);
    BOOST_TEST(expected.wrong_weights == 0u);
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
      BOOST_TEST_CONTEXT("seed " << seed << (peers ? "" : ", no peers")) {
        fake_cuda::runtime cuda(rehearsal::runtime_options(seed, peers));
        {
          loaded_run r(cuda);
          r.run(berth::program_phase::decode, cycle);
          auto g = r.record(cycle);
          for (int i = 0; i < 4; ++i) must(r.machine.launch(g, r.last()));
          r.drain();
          BOOST_TEST((r.work.seen == expected));
        }
        BOOST_TEST(cuda.live().total() == 0u);
        for (const auto& what : cuda.misuse()) BOOST_ERROR(what);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(submitted_and_replayed_rounds_can_follow_each_other_without_waiting) {
  const auto cycle = rounds_of_a_cycle();
  const auto expected = submitted(8 * cycle, 0, false);
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      fake_cuda::runtime cuda(rehearsal::runtime_options(seed, false));
      loaded_run r(cuda);
      berth::runner_options o;
      o.rounds = cycle;
      o.drain = false;
      o.ahead = 8 * cycle;
      o.work = r.work.source();
      berth::runner eager(r.machine, programs().decode, r.handles, o);
      must(eager.run());
      auto g = r.record(cycle);
      for (int i = 0; i < 3; ++i) {
        must(r.machine.launch(g, r.last()));
        eager.add_rounds(cycle);
        must(eager.run());
      }
      must(r.machine.launch(g, r.last()));
      r.drain();
      BOOST_TEST((r.work.seen == expected));
      for (const auto& what : cuda.misuse()) BOOST_ERROR(what);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_replay_is_one_launch_and_one_record_and_never_waits_or_allocates) {
  fake_cuda::runtime cuda(rehearsal::runtime_options(3, false));
  loaded_run r(cuda);
  r.run(berth::program_phase::decode, rounds_of_a_cycle());
  auto g = r.record(rounds_of_a_cycle());
  must(r.machine.launch(g, r.last()));
  const auto before = cuda.calls();
  const auto live = cuda.live();
  for (int i = 0; i < 10; ++i) must(r.machine.launch(g, r.last()));
  BOOST_TEST(cuda.calls() - before == 20u);
  BOOST_TEST(cuda.live().total() == live.total());
  r.drain();
}

BOOST_AUTO_TEST_CASE(submitted_rounds_neither_allocate_nor_synchronize_in_steady_state) {
  fake_cuda::runtime cuda(rehearsal::runtime_options(3, false));
  loaded_run r(cuda);
  r.run(berth::program_phase::decode, rounds_of_a_cycle());
  berth::runner_options o;
  o.rounds = o.ahead = 3;
  o.drain = false;
  o.work = r.work.source();
  berth::runner again(r.machine, programs().decode, r.handles, o);
  must(again.run());
  again.add_rounds(3);
  const auto count = [&] {
    std::uint64_t n = 0;
    for (const auto* call : {"cudaMalloc", "cudaFree", "cudaHostAlloc", "cudaFreeHost", "cudaStreamSynchronize",
                             "cudaEventSynchronize", "cudaStreamCreateWithFlags", "cudaEventCreateWithFlags"})
      n += cuda.calls(call);
    return n;
  };
  const auto before = count();
  const auto all = cuda.calls();
  for (int i = 0; i < 5; ++i) {
    r.drain();  // of the test: its waiting is not counted
    const auto now = count();
    must(again.step());
    again.add_rounds(1);
    BOOST_TEST(count() == now);
  }
  BOOST_TEST(cuda.calls() > all);
  BOOST_TEST(count() > before);  // the counter does count
  r.drain();
}

BOOST_AUTO_TEST_CASE(what_a_graph_has_no_place_for_is_refused_and_the_capture_goes_on) {
  fake_cuda::runtime cuda(rehearsal::runtime_options(0, true));
  berth::cuda::machine m(cuda.table(), the_plan().topology(), rehearsal::small_machine());
  const auto s = must(m.make_stream(0));
  const auto e = must(m.make_event());
  const auto x = must(m.allocate(0, 512, berth::memory_kind::plain));
  const auto y = must(m.allocate(0, 512, berth::memory_kind::plain));
  must(m.begin_capture(s));
  BOOST_TEST(m.capturing());
  const auto refused = [](const auto& r, errc code) {
    BOOST_REQUIRE(!r.has_value());
    BOOST_TEST((r.error().code == code));
  };
  refused(m.allocate(0, 512, berth::memory_kind::plain), errc::unsupported);
  refused(m.deallocate(s, x), errc::unsupported);
  refused(m.synchronize(s), errc::unsupported);
  refused(m.ready(e), errc::unsupported);
  refused(m.make_stream(0), errc::unsupported);
  refused(m.begin_capture(s), errc::unsupported);
  refused(m.read(s, {{0, 0, 512}, {x, 0, 512}}), errc::unsupported);  // its slots were never needed before
  must(m.copy(s, {{x, 0, 512}, {y, 0, 512}}));
  must(m.record(s, e));
  auto g = must(m.end_capture());
  BOOST_TEST(!m.capturing());
  BOOST_TEST(must(m.ready(e)));  // the graph was not launched
  must(m.launch(g, s));
  BOOST_TEST(!must(m.ready(e)));
  must(m.synchronize(e));
  BOOST_TEST(must(m.ready(e)));
  refused(m.end_capture(), errc::invalid_argument);
  auto taken = std::move(g);
  refused(m.launch(g, s), errc::invalid_argument);
  for (const auto& what : cuda.misuse()) BOOST_ERROR(what);
}

BOOST_AUTO_TEST_CASE(a_capture_that_fails_anywhere_leaves_a_machine_that_works) {
  const auto cycle = rounds_of_a_cycle();
  std::uint64_t failed = 0;
  for (std::uint64_t n = 1;; ++n) {
    fake_cuda::runtime cuda(rehearsal::runtime_options(n, false));
    {
      loaded_run r(cuda);
      r.run(berth::program_phase::decode, cycle);
      berth::runner_options o;
      o.rounds = o.ahead = cycle;
      o.drain = false;
      o.retries = 0;
      o.work = r.work.source();
      berth::runner recorded(r.machine, programs().decode, r.handles, o);
      const auto before = cuda.calls();
      cuda.fail_any(n, fake_cuda::status::invalid_value);
      const auto begun = r.machine.begin_capture(r.last());
      const auto ran = begun ? recorded.run() : begun;
      auto g = r.machine.end_capture();
      const bool reached = cuda.calls() - before >= n;
      if (reached) {
        BOOST_TEST((!g.has_value() || !ran.has_value()), n);
        ++failed;
      }
      BOOST_TEST(!r.machine.capturing());
      if (!reached) break;  // the scripted failure is still to come
      r.drain();
      r.run(berth::program_phase::decode, cycle);
      BOOST_TEST(r.work.seen.wrong_weights == 0u);
    }
    BOOST_TEST(cuda.live().total() == 0u, n);
    for (const auto& what : cuda.misuse()) BOOST_ERROR(what);
  }
  BOOST_TEST(failed > 30u);
}
