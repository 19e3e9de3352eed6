// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <random>
#include <string>
#include <vector>

import berth;

namespace {

/// A random chain of up to 6 atoms on up to 3 GPUs, some of which lack the FLOP rate that some atoms need.
struct random_machine {
  berth::model model;
  berth::topology machine;

  explicit random_machine(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    const auto pick = [&](std::uint64_t low, std::uint64_t high) { return low + random() % (high - low + 1); };
    const auto n = pick(2, 6), k = pick(1, 3);
    berth::bytes total = 0;
    for (std::uint64_t i = 0; i < n; ++i) {
      berth::atom a;
      const auto name = "a" + std::to_string(i);
      a.name = name;
      a.weights = pick(1, 20);
      a.compute = pick(0, 2) == 0 ? berth::dtype::f32 : berth::dtype::bf16;
      for (auto& w : a.work) w = {double(pick(1, 30)), double(pick(1, 30)), double(pick(0, 5))};
      total += a.weights;
      model.add(a);
    }
    for (std::uint64_t d = 0; d < k; ++d) {
      berth::device g;
      g.id = berth::device_id(static_cast<int>(d));
      g.memory = g.free = pick(total / k, total);
      const auto wide = pick(0, 1) == 0 ? 0.0 : double(pick(1, 10));
      g.peak_flops = {wide, double(pick(1, 10)), 0, 0};
      g.peak_bandwidth = double(pick(1, 10));
      machine.add(g);
    }
    for (berth::device_index a = 0; a < k; ++a)
      for (berth::device_index b = 0; b < k; ++b) {
        if (a == b || pick(0, 5) == 0) continue;
        const auto own = machine.add(
            berth::segment{berth::text<48>("l").append(std::uint64_t{a}).append("-").append(std::uint64_t{b}),
                           berth::segment_kind::fabric, 1e9});
        berth::route r;
        r.from = a;
        r.to = b;
        r.latency = 0.5;
        r.bandwidth = double(pick(1, 10));
        machine.connect(r, std::array{own});
      }
    machine.sort_routes();
  }
};

bool in_intervals(const std::vector<berth::placement>& out) {
  for (std::size_t i = 1; i < out.size(); ++i)
    if (out[i].home != out[i - 1].home)
      for (std::size_t j = 0; j < i; ++j)
        if (out[j].home == out[i].home) return false;
  return true;
}

/// The least value of all interval plans that fit, by trying all.
double enumerated(const berth::problem_view& p) {
  std::vector<std::uint64_t> scratch(berth::evaluator::cells(p));
  const berth::evaluator e(p, scratch);
  std::vector<berth::placement> out(p.loads.size());
  double best = berth::forever;
  std::size_t all = 1;
  for (std::size_t i = 0; i < out.size(); ++i) all *= p.seats.size();
  for (std::size_t number = 0; number < all; ++number) {
    auto rest = number;
    for (auto& o : out) {
      o.home = o.execution = static_cast<berth::seat_index>(rest % p.seats.size());
      rest /= p.seats.size();
    }
    if (in_intervals(out) && e.fits(out)) best = std::min(best, e.value(out));
  }
  return best;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(plan_intervals)

BOOST_AUTO_TEST_CASE(intervals_are_optimal_where_devices_cannot_run_every_atom) {
  int planned = 0;
  for (std::uint64_t seed = 0; seed < 600; ++seed)
    for (const auto o : {berth::objective::latency, berth::objective::throughput}) {
      const random_machine m(seed);
      berth::place_options options;
      options.workload.objective = o;
      options.staging_slots = 0;
      const auto owned = berth::planning_problem::make(m.model, m.machine, options, std::pmr::get_default_resource());
      BOOST_REQUIRE(owned);
      const auto p = owned->view();
      const double best = enumerated(p);
      const auto plan = berth::Place<berth::Intervals>(m.model, m.machine, options);
      BOOST_REQUIRE_MESSAGE(static_cast<bool>(plan) == (best < berth::forever), "seed " << seed);
      if (!plan) continue;
      ++planned;
      BOOST_REQUIRE_MESSAGE(plan->times.value <= best * (1 + 1e-9),
                            "seed " << seed << ": " << plan->times.value << " instead of " << best);
    }
  BOOST_TEST(planned > 300);
}

BOOST_AUTO_TEST_SUITE_END()
