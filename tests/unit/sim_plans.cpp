// SPDX-License-Identifier: Apache-2.0
// Plans on the simulated machine against the planner's prices: the same model, two codes.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "plan_random.hpp"

import berth.sim;

BOOST_AUTO_TEST_SUITE(plans)

namespace {

using namespace berth;

constexpr std::uint64_t first_seed = 20'261'121;

struct run_of_plan {
  report measured;
  std::vector<bytes> highest;    ///< per device
  std::vector<bytes> uncounted;  ///< of it, what the plan does not count
  std::size_t operations = 0;    ///< of the longest phase
};

/// Chains without workspace have no memory for activations: it is added to their machine.
topology room_beside(const plan& p, const compiled_plan& programs) {
  auto out = materialize(p.topology());
  for (std::size_t d = 0; d < out.devices.size(); ++d) {
    const auto beside =
        round_up(programs.load.frame.uncounted(static_cast<device_index>(d)), out.devices[d].granularity);
    out.devices[d].memory += beside;
    out.devices[d].free += beside;
  }
  return out;
}

/// Load, prompt and decode rounds with every invariant checked at every event.
/// Nothing for the few random plans that no program can carry out (ties that take more padding than there is).
std::optional<run_of_plan> run(const plan& p, std::uint64_t rounds) {
  const bool pipelined = p.workload.objective == objective::throughput;
  const auto programs = compile_all(p, {memory_kind::pinned, pipelined});
  if (!programs) {
    BOOST_TEST((programs.error().code == errc::invalid_plan), programs.error().detail.view());
    return std::nullopt;
  }
  const auto longest = std::max(programs->prefill.operations.size(), programs->decode.operations.size());
  sim::machine_options room;
  room.bounds = {256, 8192, static_cast<std::uint32_t>(longest * 24 + 1024), {256, 16}};
  room.audit = true;
  const auto topology = room_beside(p, *programs);
  sim::machine machine(topology, room);
  trace t(programs->load.operations.size() + longest * (rounds + 2) + 64);
  traced tracing(machine, t);
  execution_options options;
  options.rounds = rounds;
  execution e(tracing, *programs, options);
  const auto ok = e.run();
  BOOST_REQUIRE_MESSAGE(ok.has_value(), (ok ? "" : std::string(ok.error().detail.view())));
  BOOST_TEST(!machine.broken().has_value());
  BOOST_TEST(t.lost() == 0u);
  run_of_plan out;
  out.measured = make_report(p, t, marks_of(*programs, t, pipelined));
  out.operations = longest;
  for (device_index d = 0; d < p.devices.size(); ++d) {
    out.highest.push_back(machine.highest(d));
    out.uncounted.push_back(round_up(programs->load.frame.uncounted(d), p.devices[d].granularity));
    BOOST_TEST(machine.used(d) == 0u);
  }
  return out;
}

/// Within a picosecond per operation and 1e-9.
bool agree(picoseconds measured, double predicted, std::size_t operations) {
  const double seconds = seconds_from(measured);
  return std::abs(seconds - predicted) <= 1e-12 * static_cast<double>(operations) + 1e-9 * predicted;
}

bool priced(const plan& p) { return p.priced && p.times.prefill < 1e3 && p.times.decode < 1e3 && p.times.period < 1e3; }

}  // namespace

BOOST_AUTO_TEST_CASE(resident_plans_take_what_the_planner_says) {
  plan_test::extent e;
  e.streaming = false;
  std::uint64_t compared = 0, several = 0;
  for (std::uint64_t i = 0; i < plan_test::cases(300); ++i) {
    const auto seed = first_seed + i;
    auto triple = plan_test::random_triple(seed, e);
    triple.workload.objective = objective::latency;
    const auto p = Place<Auto>(triple.model, triple.topology, triple.options(false));
    if (!p || p->streams() || !priced(*p)) continue;
    BOOST_TEST_CONTEXT("seed " << seed) {
      const auto ran = run(*p, 3);
      if (!ran) continue;
      const auto& r = *ran;
      ++compared;
      std::size_t used = 0;
      for (const auto& u : p->uses) used += u.used() > 0 ? 1 : 0;
      several += used > 1 ? 1 : 0;
      BOOST_TEST(agree(r.measured.first_token, p->times.prefill, r.operations),
                 "prompt " << r.measured.first_token << " ps, predicted " << p->times.prefill << " s");
      const auto period = r.measured.cycle_rounds == 0 ? 0 : r.measured.cycle_time / r.measured.cycle_rounds;
      BOOST_TEST(agree(period, p->times.decode, r.operations),
                 "round " << period << " ps, predicted " << p->times.decode << " s");
      for (const auto& u : p->uses)
        if (p->devices[u.device].kind != device_kind::disk)
          BOOST_TEST(r.highest[u.device] == u.used() + r.uncounted[u.device]);
    }
  }
  BOOST_TEST(compared > plan_test::cases(300) / 2);
  BOOST_TEST(several > 20u);
  std::printf("resident plans simulated: %llu, %llu of them on several devices\n",
              static_cast<unsigned long long>(compared), static_cast<unsigned long long>(several));
}

/// What streams to one device, with everything executed there, is the cyclic schedule of docs/streaming.md; with other
/// devices messages and copies may meet on a link, and a round can only take longer.
BOOST_AUTO_TEST_CASE(streamed_rounds_take_the_maximum_cycle_ratio) {
  std::uint64_t alone = 0, shared = 0;
  for (std::uint64_t i = 0; i < plan_test::cases(1200); ++i) {
    const auto seed = first_seed + 1'000'000 + i;
    plan_test::extent e;
    e.most_gpus = i % 2 == 0 ? 1 : 3;
    auto triple = plan_test::random_triple(seed, e);
    triple.workload.objective = objective::latency;
    const auto p = i % 2 == 0 ? Place<Streamed>(triple.model, triple.topology, triple.options(false))
                              : Place<Auto>(triple.model, triple.topology, triple.options(false));
    if (!p || !p->streams() || !priced(*p)) continue;
    BOOST_TEST_CONTEXT("seed " << seed) {
      const auto ran = run(*p, 200);
      if (!ran) continue;
      const auto& m = ran->measured;
      const auto on = p->placements[0].execution;
      // A tied storage is copied from where it lies, with a set-up of its own.
      const bool one = p->ties.empty() && std::all_of(p->placements.begin(), p->placements.end(), [&](const auto& at) {
                         return at.execution == on && at.prompt == no_index;
                       });
      ++(one ? alone : shared);
      const auto period = m.cycle_rounds == 0 ? 0 : m.cycle_time / m.cycle_rounds;
      if (one)
        BOOST_TEST(agree(period, p->times.decode, ran->operations),
                   "period " << m.period() << " s, predicted " << p->times.decode << " s");
      else
        BOOST_TEST(m.period() >= p->times.decode * (1 - 1e-9) - 1e-12 * static_cast<double>(ran->operations));
    }
  }
  BOOST_TEST(alone > plan_test::cases(20));
  BOOST_TEST(shared > plan_test::cases(20));
  std::printf("streamed plans simulated: %llu on one device, %llu on several\n", static_cast<unsigned long long>(alone),
              static_cast<unsigned long long>(shared));
}

BOOST_AUTO_TEST_CASE(pipelined_rounds_of_intervals_take_the_planned_period) {
  plan_test::extent e;
  e.streaming = false;
  std::uint64_t compared = 0;
  for (std::uint64_t i = 0; i < plan_test::cases(200); ++i) {
    const auto seed = first_seed + 2'000'000 + i;
    auto triple = plan_test::random_triple(seed, e);
    triple.workload.objective = objective::throughput;
    const auto p = Place<Intervals>(triple.model, triple.topology, triple.options(false));
    if (!p || p->streams() || !priced(*p)) continue;
    BOOST_TEST_CONTEXT("seed " << seed) {
      const auto ran = run(*p, 300);
      if (!ran) continue;
      const auto& r = *ran;
      ++compared;
      // Stages wait for one another through their activations, so a round may take longer, never less; the ends of the
      // last stage may still be catching up by a fraction of a round.
      BOOST_TEST(r.measured.period() >= p->times.period * 0.99);
    }
  }
  BOOST_TEST(compared > 20u);
}

BOOST_AUTO_TEST_CASE(independent_rounds_fill_all_devices) {
  const auto box = preset("4x3090");
  BOOST_REQUIRE(box.has_value());
  model m;
  for (const auto* name : {"a", "b", "c", "d", "e", "f", "g", "h"}) {
    atom a;
    a.name = name;
    a.weights = 8 * GiB;
    a.workspace = MiB;
    for (auto& w : a.work) w = {8e9, 8e9, 8192};
    m.add(a);
  }
  place_options options;
  options.workload = {4096, 1, 512, 64, objective::throughput};
  const auto p = Place<Intervals>(m, *box, options);
  BOOST_REQUIRE(p.has_value());
  const auto ran = run(*p, 64);
  BOOST_REQUIRE(ran.has_value());
  BOOST_TEST(p->times.period < p->times.decode / 3);  // four stages
  BOOST_TEST(agree(ran->measured.cycle_time / ran->measured.cycle_rounds, p->times.period, ran->operations),
             "period " << ran->measured.period() << " s, predicted " << p->times.period << " s");
}

BOOST_AUTO_TEST_CASE(two_runs_of_a_plan_give_the_same_trace) {
  const plan_test::extent e;
  for (std::uint64_t i = 0; i < plan_test::cases(20); ++i) {
    const auto triple = plan_test::random_triple(first_seed + 3'000'000 + i, e);
    const auto p = Place<Auto>(triple.model, triple.topology, triple.options(false));
    if (!p || !priced(*p)) continue;
    const auto programs = compile_all(*p);
    if (!programs) continue;
    std::optional<std::uint64_t> first;
    for (int again = 0; again < 2; ++again) {
      const auto topology = room_beside(*p, *programs);
      sim::machine machine(topology, {});
      trace t(100'000);
      traced tracing(machine, t);
      execution_options options;
      options.rounds = 8;
      BOOST_REQUIRE(execution(tracing, *programs, options).run().has_value());
      if (!first) first = fingerprint(t);
      BOOST_TEST(fingerprint(t) == *first);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
