// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <boost/test/unit_test.hpp>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "exec_run.hpp"

using namespace berth;

namespace {

/// The report of rounds that end at these times; the prompt ends at 0.
report of_ends(const std::vector<picoseconds>& ends) {
  small_run r;
  r.marks.round_ends.assign(ends.begin(), ends.end());
  return make_report(small_plan(1), r.trace, r.marks);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(exec_report)

BOOST_AUTO_TEST_CASE(a_streamed_run_has_its_known_answers) {
  const auto p = small_plan(2);
  const auto r = streamed_run(4);
  const auto out = make_report(p, r.trace, r.marks);
  BOOST_TEST(out.load_time == 100);
  BOOST_TEST(out.first_token == 50);
  BOOST_TEST(out.first_round == 40);
  BOOST_TEST(out.cycle_time == 40);
  BOOST_TEST(out.cycle_rounds == 1u);
  BOOST_TEST(out.periodic);
  BOOST_TEST(out.steady_rounds == 2u);
  BOOST_TEST(out.steady_from == 230);
  BOOST_TEST(out.steady_until == 310);
  BOOST_TEST(out.end == 310);
  BOOST_TEST(out.tokens_per_second == 2 / 40e-12);
  BOOST_TEST(out.total == 50 + 10 * 40);
  BOOST_TEST(out.extrapolated);
  BOOST_TEST(out.exposed_copy == 20);
  BOOST_TEST(out.faults == 0u);
  BOOST_TEST(out.lost == 0u);
  BOOST_REQUIRE_EQUAL(out.devices.size(), 3u);
  const auto& gpu = out.devices[0];
  BOOST_TEST(gpu.compute.decode == 0.5);
  BOOST_TEST(gpu.compute.overall == (50 + 4 * 20) / 310.0);
  BOOST_TEST(gpu.copy_in.decode == 0.75);
  BOOST_TEST(gpu.copy_in.overall == (100 + 4 * 30) / 310.0);
  BOOST_TEST(gpu.copy_out.overall == 0);
  BOOST_TEST(gpu.peak == 500u);
  BOOST_TEST(gpu.planned == 207u);
  BOOST_TEST(gpu.budget == 900u);
  BOOST_TEST(gpu.state == 7u);
  BOOST_TEST((out.devices[2].compute == engine_use{}));
  BOOST_REQUIRE_EQUAL(out.segments.size(), 5u);
  BOOST_TEST(out.segments[0].total == 100u + 4 * 30);
  BOOST_TEST(out.segments[0].per_round == 30u);
  BOOST_TEST(out.segments[0].use == 0.75);
  BOOST_TEST(out.segments[2].total == out.segments[0].total);
  BOOST_TEST(out.segments[2].use == 0.375);
  BOOST_TEST(out.segments[1].total == 0u);
  BOOST_TEST((out.bottleneck.kind == bottleneck_kind::copy_in));
  BOOST_TEST(out.bottleneck.share == 0.75);
  BOOST_TEST(out.bottleneck.words.view() == "copies into 0 over in 0");
}

BOOST_AUTO_TEST_CASE(as_many_rounds_as_asked_for_are_not_extrapolated) {
  auto p = small_plan(2);
  p.workload.generate = 3;
  const auto r = streamed_run(4);
  const auto out = make_report(p, r.trace, r.marks);
  BOOST_TEST(!out.extrapolated);
  BOOST_TEST(out.total == 50 + 3 * 40);
}

BOOST_AUTO_TEST_CASE(the_period_is_the_shortest_exact_cycle_of_the_last_half) {
  const auto plain = of_ends({100, 110, 120, 130, 140, 150});
  BOOST_TEST(plain.first_round == 100);
  BOOST_TEST((plain.periodic && plain.cycle_time == 10 && plain.cycle_rounds == 1 && plain.steady_rounds == 3));
  // 3, 4, 3, 4: a cycle of two rounds; 3.5 ps per round.
  const auto two = of_ends({50, 60, 70, 90, 93, 97, 100, 104});
  BOOST_TEST((two.periodic && two.cycle_time == 7 && two.cycle_rounds == 2 && two.steady_rounds == 4));
  BOOST_TEST(two.period() == 7e-12 / 2);
  // Half of seven rounds are four; three of them make a cycle that is seen once only, so there is none.
  const auto none = of_ends({50, 60, 70, 71, 73, 76, 80});
  BOOST_TEST((!none.periodic && none.cycle_time == 10 && none.cycle_rounds == 4 && none.steady_rounds == 4));
  BOOST_TEST(none.period() == 2.5e-12);
  const auto one = of_ends({50});
  BOOST_TEST((!one.periodic && one.cycle_time == 50 && one.steady_rounds == 1));
  const auto no_rounds = of_ends({});
  BOOST_TEST((no_rounds.period() == 0 && no_rounds.tokens_per_second == 0 && no_rounds.steady_rounds == 0));
  BOOST_TEST((no_rounds.bottleneck.kind == bottleneck_kind::none && no_rounds.bottleneck.words.view() == "nothing"));
}

BOOST_AUTO_TEST_CASE(random_cycles_are_found) {
  for (std::uint64_t seed = 1; seed <= 500; ++seed) {
    std::mt19937_64 random(seed);
    const auto cycle = 1 + random() % 4;
    std::vector<picoseconds> steps, ends;
    for (std::size_t i = 0; i < cycle; ++i) steps.push_back(static_cast<picoseconds>(1 + random() % 1000));
    picoseconds at = 0;
    for (std::size_t i = 0; i < 4 * cycle + random() % 20; ++i) ends.push_back(at += steps[i % cycle]);
    picoseconds length = 0;
    for (const auto s : steps) length += s;
    const auto out = of_ends(ends);
    BOOST_TEST_CONTEXT("seed " << seed) {
      BOOST_TEST(out.periodic);
      // A shorter cycle may be in the steps by chance; it has the same mean.
      BOOST_TEST(static_cast<std::uint64_t>(out.cycle_time) * cycle ==
                 static_cast<std::uint64_t>(length) * out.cycle_rounds);
      BOOST_TEST(out.steady_rounds % out.cycle_rounds == 0u);
    }
  }
}

BOOST_AUTO_TEST_CASE(copies_of_several_devices_are_exposed_once) {
  small_run r;
  r.marks.sizes = {0, 0, 4};
  r.marks.operations.assign(4, {});
  r.copy(2, 0, 0, 0, 10, 10);
  r.copy(2, 1, 1, 5, 20, 10);                              // 0-20 covered once
  r.launch(1, 2, 8, 12);                                   // hides 8-12
  r.launch(0, 3, 18, 30);                                  // hides 18-20
  r.add(activity_kind::message, 1, 0, no_tag, 20, 40, 1);  // a message is no weight copy
  r.marks.round_ends.push_back(40);
  const auto out = make_report(small_plan(1), r.trace, r.marks);
  BOOST_TEST(out.exposed_copy == 20 - 4 - 2);
}

BOOST_AUTO_TEST_CASE(transfers_without_a_route_go_by_way_of_the_cpu) {
  small_run r;
  r.copy(0, 1, no_tag, 0, 10, 6);                              // out 0, dram, dram, in 1
  r.add(activity_kind::read, 0, 3, no_tag, 10, 20, 4);         // ssd, dram, dram, in 0
  r.add(activity_kind::read, 2, no_index, no_tag, 20, 30, 3);  // the disk, although nobody says so
  r.marks.round_ends.push_back(40);
  const auto out = make_report(small_plan(1), r.trace, r.marks);
  const std::array<bytes, 5> expected{4, 6, 2 * 6 + 2 * 4 + 3, 6, 4 + 3};
  for (std::size_t s = 0; s < expected.size(); ++s) {
    BOOST_TEST(out.segments[s].total == expected[s]);
    BOOST_TEST(out.segments[s].per_round == expected[s]);
  }
  BOOST_TEST(out.devices[0].copy_out.decode == 0.25);
  BOOST_TEST(out.devices[1].copy_in.decode == 0.25);
  BOOST_TEST(out.devices[2].copy_in.decode == 0.25);
}

BOOST_AUTO_TEST_CASE(what_the_cpu_computes_crosses_its_memory) {
  small_run r;
  r.marks.sizes = {0, 0, 1};
  r.marks.operations.push_back({0, 60});
  for (int i = 0; i < 2; ++i) {
    r.launch(2, 0, 40 * i, 40 * i + 40);
    r.marks.round_ends.push_back(40 * i + 40);
  }
  const auto out = make_report(small_plan(1), r.trace, r.marks);
  BOOST_TEST(out.segments[2].total == 120u);
  BOOST_TEST(out.segments[2].per_round == 60u);
  BOOST_TEST(out.segments[2].use == 0.75);
  BOOST_TEST(out.bottleneck.words.view() == "compute of cpu");
}

BOOST_AUTO_TEST_CASE(shared_host_memory_is_named) {
  small_run r;
  // Two copies share the memory: each alone could be twice as fast.
  r.copy(2, 0, no_tag, 0, 9, 9);
  r.copy(2, 1, no_tag, 0, 9, 9);
  r.launch(0, no_tag, 9, 10);
  r.marks.round_ends.push_back(10);
  auto p = small_plan(1);
  p.segments[2].capacity = 1.9e12;
  const auto out = make_report(p, r.trace, r.marks);
  BOOST_TEST(out.segments[2].use == 18 / 19.0, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(out.bottleneck.words.view() == "host memory (dram)");
}

BOOST_AUTO_TEST_CASE(devices_in_turn_limit_together) {
  small_run r;
  r.launch(0, no_tag, 0, 5);
  r.add(activity_kind::message, 1, 0, no_tag, 5, 6, 1);
  r.launch(1, no_tag, 6, 10);
  r.marks.round_ends.push_back(10);
  const auto out = make_report(small_plan(2), r.trace, r.marks);
  BOOST_TEST((out.bottleneck.kind == bottleneck_kind::compute_in_turn));
  BOOST_TEST(out.bottleneck.share == 0.9);
  BOOST_TEST(out.bottleneck.words.view() == "compute, one device after the other");
}

BOOST_AUTO_TEST_CASE(memory_is_the_highest_of_what_was_held) {
  small_run r;
  r.add(activity_kind::allocate, 1, no_index, no_tag, 0, 0, 100);
  r.add(activity_kind::allocate, 1, no_index, no_tag, 1, 1, 50);
  r.add(activity_kind::free, 1, no_index, no_tag, 2, 2, 100);
  r.add(activity_kind::allocate, 1, no_index, no_tag, 3, 3, 80);
  r.add(activity_kind::fault, 1, no_index, no_tag, 4, 4, 900);
  const auto out = make_report(small_plan(1), r.trace, r.marks);
  BOOST_TEST(out.devices[1].peak == 150u);
  BOOST_TEST(out.devices[0].peak == 0u);
  BOOST_TEST(out.faults == 1u);
}

BOOST_AUTO_TEST_CASE(tags_may_repeat_or_go_on) {
  run_marks marks;
  marks.load_end = 10;
  marks.prefill_end = 20;
  marks.round_ends = {30, 40};
  marks.sizes = {1, 2, 2};
  for (std::uint32_t i = 0; i < 5; ++i) marks.operations.push_back({i, 0});
  const auto asked = [&](const std::vector<op_tag>& tags) {
    activity_marker marker(marks);
    std::vector<std::array<std::uint32_t, 4>> out;
    for (const auto t : tags) {
      const auto m = marker.next({activity_kind::launch, 0, no_index, {}, t, 0, 35, 0});
      out.push_back({static_cast<std::uint32_t>(m.phase), m.round, m.operation, m.atom});
    }
    return out;
  };
  const std::vector<std::array<std::uint32_t, 4>> expected{{0, 0, 0, 0}, {1, 0, 1, 2}, {2, 0, 0, 3},
                                                           {2, 0, 1, 4}, {2, 1, 0, 3}, {2, 1, 1, 4}};
  BOOST_TEST((asked({0, 2, 3, 4, 3, 4}) == expected));
  BOOST_TEST((asked({0, 2, 3, 4, 5, 6}) == expected));
  const auto untagged = asked({no_tag})[0];
  BOOST_TEST((untagged == std::array<std::uint32_t, 4>{2, 1, 0, no_index}));
}

BOOST_AUTO_TEST_CASE(a_full_trace_says_what_is_missing) {
  trace t(1);
  t.add({activity_kind::launch, 0, no_index, {}, no_tag, 0, 5, 0});
  t.add({activity_kind::launch, 0, no_index, {}, no_tag, 5, 9, 0});
  const auto out = make_report(small_plan(1), t, run_marks());
  BOOST_TEST(out.lost == 1u);
}

BOOST_AUTO_TEST_SUITE_END()
