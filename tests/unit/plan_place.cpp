// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory_resource>
#include <new>
#include <string>
#include <vector>

#include "plan_problem.hpp"

using namespace berth;

namespace {

/// Counts what goes through the global heap, so that "allocates nothing" is observed and not believed.
std::size_t heap_allocations = 0;

}  // namespace

void* operator new(std::size_t size) {
  ++heap_allocations;
  if (void* p = std::malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace {

model layered(int blocks, bytes each, bytes embedding, bool tied) {
  model m;
  const auto padding = [](bytes size) { return round_up(size, 256) - size; };
  m.add("embed", atom_kind::embedding, embedding, padding(embedding));
  for (int i = 0; i < blocks; ++i) m.add("layers." + std::to_string(i), atom_kind::block, each, padding(each));
  m.add("head", atom_kind::head, embedding, padding(embedding));
  if (tied) m.set_ties({{0, 0, embedding}, {0, static_cast<std::uint32_t>(blocks + 1), embedding}});
  return m;
}

topology machine(const std::string& name) {
  auto t = preset(name);
  BOOST_REQUIRE(t.has_value());
  return *std::move(t);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(plan_place)

BOOST_AUTO_TEST_CASE(into_allocates_nothing) {
  const owned_problem owned(make_shape(12, 7, 4, true));
  const auto p = owned.view();
  std::vector<placement> out(p.loads.size());
  const auto solve = [&](const auto& place) {
    std::vector<std::uint64_t> scratch(place.strategy.scratch_cells(p));
    const auto before = heap_allocations;
    const auto r = place.into(p, out, scratch);
    BOOST_TEST(heap_allocations == before);
    return r.has_value();
  };
  BOOST_TEST(solve(Place<Balanced>));
  BOOST_TEST(solve(Place<Sequential>));
  BOOST_TEST(solve(Place<BalancedLow0>));
}

BOOST_AUTO_TEST_CASE(too_little_scratch_is_an_error_and_writes_nothing) {
  const owned_problem owned(make_shape(12, 7, 4, true));
  const auto p = owned.view();
  std::vector<placement> out(p.loads.size());
  std::vector<std::uint64_t> scratch(Balanced{}.scratch_cells(p) - 1);
  const auto r = Place<Balanced>.into(p, out, scratch);
  BOOST_REQUIRE(!r.has_value());
  BOOST_TEST((r.error().code == errc::capacity));
  BOOST_TEST((out.front() == placement{}));
}

BOOST_AUTO_TEST_CASE(a_plan_allocates_from_the_callers_memory_only) {
  const auto m = layered(32, 400 * MiB, GiB, false);
  const auto t = machine("2x4090");
  std::vector<std::byte> arena(4 << 20);
  std::pmr::monotonic_buffer_resource memory(arena.data(), arena.size(), std::pmr::null_memory_resource());
  const auto before = heap_allocations;
  const auto p = Place<Balanced>(m, t, {}, &memory);
  BOOST_TEST(heap_allocations == before);
  BOOST_REQUIRE(p.has_value());
  BOOST_TEST(check(*p).empty());
}

BOOST_AUTO_TEST_CASE(plans_of_every_strategy_pass_the_check_on_presets) {
  for (const auto* name : {"1x3090", "2x4090", "8xa100-80g", "cpu-only", "gh200"})
    for (const bool tied : {false, true}) {
      const auto m = layered(24, 300 * MiB + 17, 900 * MiB + 3, tied);
      const auto t = machine(name);
      const auto holds = [&](const auto& place) {
        const auto p = place(m, t);
        BOOST_TEST_CONTEXT(name << " " << place.strategy.name()) {
          if (p)
            BOOST_TEST(check(*p).empty());
          else
            BOOST_TEST((p.error().code == errc::does_not_fit || p.error().code == errc::unknown_device),
                       p.error().subject.view() << ": " << p.error().detail.view());
        }
      };
      holds(Place<Balanced>);
      holds(Place<BalancedLow0>);
      holds(Place<Sequential>);
      holds(Place<CpuOnly>);
      holds(Place<CurrentDevice>);
      holds(place_fn{Single{0}});
    }
}

BOOST_AUTO_TEST_CASE(the_check_finds_every_kind_of_damage) {
  const auto m = layered(8, 100 * MiB, 50 * MiB, true);
  const auto t = machine("2x4090");
  const auto damaged = [&](auto&& harm, std::string_view expected) {
    auto p = Place<Balanced>(m, t);
    BOOST_REQUIRE(p.has_value());
    harm(*p);
    const auto found = check(*p);
    BOOST_TEST_CONTEXT(expected) {
      BOOST_REQUIRE(!found.empty());
      const bool named = std::any_of(found.begin(), found.end(), [&](const auto& e) {
        return std::string(e.subject.view()).append(" ").append(e.detail.view()).find(expected) != std::string::npos;
      });
      BOOST_TEST(named, found.front().detail.view());
    }
  };
  damaged([](plan& p) { p.placements[3].home = no_index; }, "layers.2 has no home");
  damaged([](plan& p) { p.placements[3].home = p.placements[3].execution = p.placements[3].home == 0 ? 1 : 0; },
          "add up to");
  damaged([](plan& p) { p.loads[2] -= 1; }, "its load is");
  damaged([](plan& p) { p.atoms[2].weights += 1; }, "layers.1");
  damaged([](plan& p) { p.uses[0].weights += 5; }, "of weights");
  damaged([](plan& p) { p.uses[0].budget = MiB; }, "more than its budget");
  damaged([](plan& p) { p.uses[0].staging += 1; }, "staging");
  damaged([](plan& p) { p.ties[0].size += 1; }, "shares a storage");
  damaged([](plan& p) { p.atoms[1].name = p.atoms[2].name; }, "listed twice");
  damaged([](plan& p) { p.placements[1].execution = p.placements[1].home == 0 ? 1 : 0; }, "streamed");
}

BOOST_AUTO_TEST_CASE(a_tie_larger_than_its_atom_is_refused) {
  model m;
  m.add("embed", atom_kind::embedding, 10, 0);
  m.add("head", atom_kind::head, 10, 0);
  m.set_ties({{0, 0, 11}, {0, 1, 11}});
  const auto p = Place<Balanced>(m, machine("2x4090"));
  BOOST_REQUIRE(!p.has_value());
  BOOST_TEST((p.error().code == errc::invalid_argument));
}

BOOST_AUTO_TEST_CASE(gaps_in_device_numbers_and_unknown_ids) {
  auto t = machine("2x4090");
  t.devices[1].id = device_id(5);
  const auto m = layered(8, 100 * MiB, 50 * MiB, false);
  const std::vector<device_bytes> both{{device_id(0), GiB}, {device_id(5), GiB}};
  place_options options;
  options.max_memory = both;
  const auto p = Place<Balanced>(m, t, options);
  BOOST_REQUIRE(p.has_value());
  BOOST_TEST((p->device_of("head") == 5 || p->device_of("embed") == 5));
  const std::vector<device_bytes> wrong{{device_id(1), GiB}};
  options.max_memory = wrong;
  BOOST_TEST((Place<Balanced>(m, t, options).error().code == errc::unknown_device));
}

BOOST_AUTO_TEST_CASE(a_reserve_is_kept_free) {
  const auto m = layered(8, 100 * MiB, 50 * MiB, false);
  const auto t = machine("2x4090");
  const std::vector<device_bytes> limits{{device_id(0), GiB}, {device_id(1), GiB}};
  const std::vector<device_bytes> reserve{{device_id(0), 800 * MiB}};
  place_options options;
  options.max_memory = limits;
  options.reserve = reserve;
  const auto p = Place<Sequential>(m, t, options);
  BOOST_REQUIRE(p.has_value());
  BOOST_TEST(p->use_of(device_id(0))->used() <= 224 * MiB);
}

BOOST_AUTO_TEST_SUITE_END()
