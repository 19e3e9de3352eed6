// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "plan_problem.hpp"

using namespace berth;

namespace {

bool within_limits(const problem_view& p, std::span<const placement> out) {
  for (seat_index s = 0; s < p.seats.size(); ++s)
    if (home_load(p, out, s) + staging_load(p, out, s) > p.seats[s].limit) return false;
  return true;
}

/// True if any assignment of atoms to GPUs, contiguous or not, keeps within the limits.
bool fits_on_gpus(const problem_view& p) {
  const auto gpus = gpu_count(p);
  std::vector<placement> out(p.loads.size());
  std::function<bool(std::uint32_t)> rest = [&](std::uint32_t i) {
    if (i == p.loads.size()) return true;
    for (seat_index s = 0; s < gpus; ++s) {
      if (home_load(p, out, s) + added_weights(p, out, i, s) > p.seats[s].limit) continue;
      out[i] = {s, s};
      if (rest(i + 1)) return true;
      out[i] = {};
    }
    return false;
  };
  return rest(0);
}

template <class S>
void never_spills_in_vain(const S& strategy) {
  int spilled = 0, kept = 0;
  for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
    const owned_problem owned(make_shape(seed, 7, 3, seed % 4 == 0));
    const auto p = owned.view();
    std::vector<placement> out(p.loads.size());
    std::vector<std::uint64_t> scratch(strategy.scratch_cells(p));
    const auto solved = strategy.solve(p, out, scratch);
    BOOST_TEST_CONTEXT(strategy.name() << " seed " << seed) {
      if (!solved) {
        BOOST_TEST((solved.error().code == errc::does_not_fit));
        BOOST_TEST(!fits_on_gpus(p));
        continue;
      }
      BOOST_TEST(within_limits(p, out));
      const auto gpus = gpu_count(p);
      const bool all_on_gpus = std::all_of(out.begin(), out.end(), [&](const auto& o) { return o.home < gpus; });
      if (!all_on_gpus) BOOST_TEST(!fits_on_gpus(p));
      all_on_gpus ? ++kept : ++spilled;
    }
  }
  BOOST_TEST(kept > 200);
  BOOST_TEST(spilled > 20);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(plan_strategies)

BOOST_AUTO_TEST_CASE(nothing_is_offloaded_while_any_placement_on_the_gpus_exists) {
  never_spills_in_vain(Sequential{});
  never_spills_in_vain(Balanced{});
  never_spills_in_vain(BalancedLow0{});
}

BOOST_AUTO_TEST_CASE(sequential_fills_in_order_and_back_fills_only_when_it_must) {
  random_shape s;
  s.loads = {6, 6, 3};
  s.budgets = {9, 9};
  const owned_problem roomy(s);
  std::vector<placement> out(3);
  std::vector<std::uint64_t> scratch(Sequential{}.scratch_cells(roomy.view()));
  BOOST_REQUIRE(Sequential{}.solve(roomy.view(), out, scratch).has_value());
  BOOST_TEST(out[2].home == 1u);  // contiguous: no hole is needed
  s.loads = {6, 8, 3};
  const owned_problem tight(s);
  BOOST_REQUIRE(Sequential{}.solve(tight.view(), out, scratch).has_value());
  BOOST_TEST(out[2].home == 0u);  // the hole on GPU 0 is the only room
}

BOOST_AUTO_TEST_CASE(a_reserve_exists_only_when_something_streams_and_only_for_what_streams) {
  random_shape s;
  s.loads = {40, 10, 10, 10, 10};
  s.budgets = {80};
  s.cpu = 1000;
  const owned_problem fits(s);
  std::vector<placement> out(5);
  std::vector<std::uint64_t> scratch(64);
  scratch.resize(Sequential{}.scratch_cells(fits.view()));
  BOOST_REQUIRE(Sequential{}.solve(fits.view(), out, scratch).has_value());
  BOOST_TEST(staging_load(fits.view(), out, 0) == 0u);  // exactly full, nothing kept back
  s.budgets = {79};
  const owned_problem short_by_one(s);
  BOOST_REQUIRE(Sequential{}.solve(short_by_one.view(), out, scratch).has_value());
  BOOST_TEST(staging_load(short_by_one.view(), out, 0) == 20u);  // two slots of a small atom, not of the large one
  BOOST_TEST(out[0].home == 0u);
  BOOST_TEST(home_load(short_by_one.view(), out, 0) == 50u);
}

BOOST_AUTO_TEST_CASE(a_gpu_too_small_for_slots_leaves_the_rest_to_the_cpu) {
  random_shape s;
  s.loads = {10, 10};
  s.budgets = {15};
  s.cpu = 100;
  const owned_problem owned(s);
  std::vector<placement> out(2);
  std::vector<std::uint64_t> scratch(Sequential{}.scratch_cells(owned.view()));
  BOOST_REQUIRE(Sequential{}.solve(owned.view(), out, scratch).has_value());
  BOOST_TEST((out[0] == placement{0, 0}));
  BOOST_TEST((out[1] == placement{1, 1}));
}

BOOST_AUTO_TEST_CASE(a_tied_storage_counts_once_per_device) {
  random_shape s;
  s.loads = {10, 5, 0};
  s.budgets = {15, 1};
  s.tied = true;  // the head (10) is the embedding's storage
  s.loads.back() = 10;
  owned_problem owned(s);
  owned.loads = {10, 5, 10};
  owned.atoms[2].weights = 10;
  owned.ties = {{0, 0, 10}, {0, 2, 10}};
  std::vector<placement> out(3);
  std::vector<std::uint64_t> scratch(Balanced{}.scratch_cells(owned.view()));
  BOOST_REQUIRE(Balanced{}.solve(owned.view(), out, scratch).has_value());
  BOOST_TEST(home_load(owned.view(), out, 0) == 15u);
}

BOOST_AUTO_TEST_CASE(the_current_device_is_cuda_then_npu_then_xpu_then_the_cpu) {
  random_shape s;
  s.loads = {1};
  s.budgets = {10, 10, 10};
  s.cpu = 10;
  owned_problem owned(s);
  std::vector<placement> out(1);
  const auto chosen = [&] {
    BOOST_REQUIRE(CurrentDevice{}.solve(owned.view(), out, {}).has_value());
    return out[0].home;
  };
  owned.seats[0].api = accelerator_api::xpu;
  owned.seats[1].api = accelerator_api::npu;
  BOOST_TEST(chosen() == 2u);
  owned.seats[2].api = accelerator_api::mps;
  BOOST_TEST(chosen() == 1u);
  owned.seats[1].api = accelerator_api::mps;
  BOOST_TEST(chosen() == 0u);
  owned.seats[0].api = accelerator_api::mps;
  BOOST_TEST(chosen() == 3u);
}

BOOST_AUTO_TEST_CASE(pins_hold_and_the_rest_is_within_the_limits) {
  int solved = 0;
  for (std::uint64_t seed = 1; seed <= 500; ++seed) {
    const owned_problem owned(make_shape(seed, 7, 3, true));
    const auto p = owned.view();
    const std::vector<map_entry> pins{{"a0", device_id(static_cast<int>(seed % owned.seats.size() % gpu_count(p)))}};
    const Pin<Balanced> strategy{pins, {}};
    std::vector<placement> out(p.loads.size());
    std::vector<std::uint64_t> scratch(strategy.scratch_cells(p));
    if (!strategy.solve(p, out, scratch)) continue;
    ++solved;
    BOOST_TEST_CONTEXT("seed " << seed) {
      BOOST_TEST(p.seats[out[0].home].id.view() == pins[0].device.view());
      BOOST_TEST(within_limits(p, out));
    }
  }
  BOOST_TEST(solved > 200);
}

BOOST_AUTO_TEST_SUITE_END()
