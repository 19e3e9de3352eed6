// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <vector>

import berth.plan;

namespace {

using namespace berth;
using ring = std::vector<ring_item>;

picoseconds period_of(const ring& items, std::uint32_t slots) {
  std::vector<picoseconds> scratch(ring_cells(items.size(), slots));
  return ring_period(items, slots, scratch);
}

double cycle_ratio(std::span<const event_arc> arcs, std::size_t events) {
  std::vector<double> values(cycle_values(events));
  std::vector<std::uint32_t> marks(cycle_marks(events, arcs.size()));
  return max_cycle_ratio(arcs, events, values, marks);
}

std::vector<event_arc> event_graph(const ring& items, std::uint32_t slots) {
  const auto m = static_cast<std::uint32_t>(items.size());
  std::vector<event_arc> arcs;
  for (std::uint32_t j = 0; j < m; ++j) {
    const auto next = (j + 1) % m, later = (j + slots) % m;
    const std::uint32_t wraps = j + 1 == m ? 1 : 0;
    arcs.push_back({j, next, static_cast<double>(items[next].copy), wraps});
    arcs.push_back({m + j, m + next, static_cast<double>(items[j].resident_after + items[next].compute), wraps});
    arcs.push_back({j, m + j, static_cast<double>(items[j].compute), 0});
    arcs.push_back({m + j, later, static_cast<double>(items[later].copy), (j + slots) / m});
  }
  return arcs;
}

/// Heaviest closed walk that winds once, from every copy: shares nothing with the rounds of `ring_period`.
picoseconds heaviest_walk(const ring& items, std::uint32_t slots) {
  constexpr auto unreached = std::numeric_limits<picoseconds>::min() / 4;
  const auto m = items.size();
  picoseconds copies = 0, computes = 0;
  for (const auto& i : items) {
    copies += i.copy;
    computes += i.compute + i.resident_after;
  }
  auto best = std::max(copies, computes);
  for (std::size_t start = 0; start < m && slots <= m; ++start) {
    std::vector<picoseconds> ended(m + 1, unreached);
    auto copied = items[start].copy, free_at = unreached;
    for (std::size_t g = 0; g < m; ++g) {
      const auto& item = items[(start + g) % m];
      if (g > 0) copied = std::max(copied, g >= slots ? ended[g - slots] : unreached) + item.copy;
      ended[g] = std::max(free_at, copied) + item.compute;
      free_at = ended[g] + item.resident_after;
    }
    best = std::max(best, std::max(copied, ended[m - slots]));
  }
  return best;
}

/// Mean advance between the last two of many rounds; steady long before for the small numbers used here.
picoseconds settled_advance(const ring& items, std::uint32_t slots) {
  constexpr std::size_t rounds = 600;
  std::vector<picoseconds> ends(rounds), scratch(ring_end_cells(items.size(), slots, rounds));
  ring_round_ends(items, slots, ends, scratch);
  return ends[rounds - 1] - ends[rounds - 2];
}

ring random_ring(std::mt19937_64& random, std::size_t most_items, picoseconds most) {
  ring items(1 + random() % most_items);
  const auto zeros = 1 + random() % 3, rests = random() % 3;
  const auto draw = [&] {
    return random() % zeros != 0 ? 0 : static_cast<picoseconds>(random() % (static_cast<std::uint64_t>(most) + 1));
  };
  for (auto& i : items) i = {draw(), draw(), rests == 0 ? 0 : draw() * static_cast<picoseconds>(rests)};
  return items;
}

std::vector<residency_atom> random_atoms(std::mt19937_64& random, std::size_t most_atoms) {
  std::vector<residency_atom> atoms(1 + random() % most_atoms);
  const auto style = random() % 4, speed = 1 + random() % 3, latency = random() % 4;
  for (auto& a : atoms) {
    a.weights = style == 0 ? 10 : style == 1 ? 6 + random() % 9 : style == 2 ? random() % 20 : random() % 4 ? 8 : 24;
    a.compute = static_cast<picoseconds>(random() % 25);
    a.copy = static_cast<picoseconds>(a.weights * speed + latency);
    a.state = random() % 4 == 0 ? random() % 5 : 0;
    a.workspace = random() % 3;
    a.must_stay = random() % 10 == 0;
  }
  return atoms;
}

bytes total_of(std::span<const residency_atom> atoms) {
  bytes sum = 2;
  for (const auto& a : atoms) sum += a.weights + a.state;
  return sum;
}

picoseconds best_by_enumeration(const residency_problem& p) {
  const auto n = p.atoms.size();
  std::vector<std::uint8_t> streamed(n);
  std::vector<std::uint64_t> scratch(residency_cells(n));
  auto best = never;
  for (std::uint32_t set = 0; set < (1U << n); ++set) {
    bool allowed = true;
    for (std::size_t i = 0; i < n; ++i) {
      streamed[i] = static_cast<std::uint8_t>(set >> i & 1);
      allowed = allowed && !(streamed[i] != 0 && p.atoms[i].must_stay);
    }
    if (allowed && residency_need(p, streamed) <= p.memory)
      best = std::min(best, residency_period(p, streamed, scratch));
  }
  return best;
}

struct chosen {
  result<residency_choice> choice;
  std::vector<std::uint8_t> streamed;
  picoseconds bound;
};

chosen choose(const residency_problem& p, residency_options options = {}) {
  std::vector<std::uint8_t> streamed(p.atoms.size(), 7);
  std::vector<std::uint64_t> scratch(residency_search_cells(p.atoms.size()));
  auto choice = choose_residents(p, streamed, scratch, options);
  return {choice, streamed, residency_bound(p, scratch)};
}

/// Embedding, `blocks` blocks whose sizes vary by +- `percent`, norm, head; times of a 25 GB/s link.
std::vector<residency_atom> decoder(std::mt19937_64& random, int blocks, int percent, double compute_per_copy) {
  std::vector<residency_atom> atoms;
  const auto add = [&](double weights, double compute_share) {
    residency_atom a;
    a.weights = static_cast<bytes>(weights);
    a.copy = 2'800'000 + static_cast<picoseconds>(a.weights * 40);
    a.compute = 1'000'000 + static_cast<picoseconds>(compute_share * static_cast<double>(a.weights * 40));
    atoms.push_back(a);
  };
  add(2.6e8, 0);
  for (int i = 0; i < blocks; ++i)
    add(4e8 * (1 + 0.01 * percent * (static_cast<double>(random() % 2001) / 1000 - 1)), compute_per_copy);
  add(8192, 0);
  add(2.6e8, compute_per_copy);
  return atoms;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(plan_streaming)

BOOST_AUTO_TEST_CASE(one_item_has_its_closed_form) {
  for (picoseconds copy : {0, 3, 50})
    for (picoseconds compute : {0, 4, 40})
      for (picoseconds rest : {0, 5, 60}) {
        BOOST_TEST(period_of({{copy, compute, rest}}, 1) == compute + std::max(copy, rest));
        for (std::uint32_t slots : {2U, 3U, 16U})
          BOOST_TEST(period_of({{copy, compute, rest}}, slots) == std::max(copy, compute + rest));
      }
  BOOST_TEST(period_of({}, 2) == 0);
}

BOOST_AUTO_TEST_CASE(with_one_slot_a_copy_overlaps_the_resident_part_before_it_only) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 500; ++i) {
    const auto items = random_ring(random, 12, 100);
    picoseconds sum = 0;
    for (std::size_t j = 0; j < items.size(); ++j)
      sum += items[j].compute + std::max(items[j].resident_after, items[(j + 1) % items.size()].copy);
    BOOST_TEST(period_of(items, 1) == sum);
  }
}

BOOST_AUTO_TEST_CASE(three_independent_ways_give_the_same_period) {
  for (std::uint64_t seed = 1; seed <= 20'000; ++seed) {
    std::mt19937_64 random(seed);
    constexpr picoseconds scales[]{1, 3, 12, 1'000'000'007};
    const auto items = random_ring(random, seed % 10 == 0 ? 40 : 8, scales[seed % 4]);
    const auto slots = static_cast<std::uint32_t>(1 + random() % (seed % 3 == 0 ? 6 : items.size()));
    const auto period = period_of(items, slots);
    BOOST_TEST_CONTEXT("seed " << seed) {
      BOOST_REQUIRE_EQUAL(period, heaviest_walk(items, slots));
      if (seed % 4 < 2 && items.size() <= 8) BOOST_REQUIRE_EQUAL(period, settled_advance(items, slots));
      if (seed % 8 != 0) continue;
      const auto ratio = cycle_ratio(event_graph(items, slots), 2 * items.size());
      BOOST_REQUIRE_LE(std::abs(ratio - static_cast<double>(period)), 1e-12 * static_cast<double>(period));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_period_that_stops_early_is_a_bound_at_the_limit_or_above) {
  for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
    std::mt19937_64 random(seed);
    const auto items = random_ring(random, 12, 100);
    std::vector<picoseconds> scratch(items.size());
    const auto exact = period_of(items, 2);
    const auto enough = static_cast<picoseconds>(random() % 1500);
    const auto stopped = ring_period(items, 2, scratch, enough);
    BOOST_TEST_CONTEXT("seed " << seed) {
      BOOST_TEST(stopped <= exact);
      BOOST_TEST((stopped == exact || stopped >= enough));
    }
  }
}

BOOST_AUTO_TEST_CASE(cycles_of_general_graphs) {
  BOOST_TEST(cycle_ratio({}, 3) == 0);
  const std::vector<event_arc> chain{{0, 1, 5, 0}, {1, 2, 7, 1}};
  BOOST_TEST(cycle_ratio(chain, 3) == 0);
  // Two components: 12 / 2 behind 9 / 1, reached only one way.
  const std::vector<event_arc> two{{0, 1, 4, 0}, {1, 0, 8, 2}, {1, 2, 100, 1}, {2, 2, 9, 1}};
  BOOST_TEST(cycle_ratio(two, 3) == 9);
  const std::vector<event_arc> dead{{0, 1, 4, 0}, {1, 0, 8, 0}, {2, 2, 9, 1}};
  BOOST_TEST(cycle_ratio(dead, 3) == std::numeric_limits<double>::infinity());
  const std::vector<event_arc> free{{0, 0, 0, 1}};
  BOOST_TEST(cycle_ratio(free, 1) == 0);
}

BOOST_AUTO_TEST_CASE(the_choice_of_residents_equals_full_enumeration) {
  int compared = 0, streaming = 0, impossible = 0;
  for (std::uint64_t seed = 1; seed <= 1200; ++seed) {
    std::mt19937_64 random(seed);
    const auto atoms = random_atoms(random, 11);
    const residency_problem p{atoms, total_of(atoms) * (30 + random() % 75) / 100,
                              static_cast<std::uint32_t>(1 + random() % 3)};
    const auto expected = best_by_enumeration(p);
    const auto got = choose(p);
    BOOST_TEST_CONTEXT("seed " << seed) {
      BOOST_REQUIRE_EQUAL(got.choice.has_value(), expected != never);
      BOOST_TEST(got.bound <= expected);
      if (!got.choice) {
        ++impossible;
        BOOST_TEST((got.choice.error().code == errc::does_not_fit));
        auto larger = p;
        larger.memory = got.choice.error().needed;
        BOOST_TEST(choose(larger).choice.has_value());
        larger.memory -= 1;
        BOOST_TEST(!choose(larger).choice.has_value());
        continue;
      }
      BOOST_TEST(got.choice->period == expected);
      BOOST_TEST(got.choice->proven);
      BOOST_TEST(residency_need(p, got.streamed) <= p.memory);
      std::vector<std::uint64_t> scratch(residency_cells(atoms.size()));
      BOOST_TEST(residency_period(p, got.streamed, scratch) == expected);
      bytes resident = 0;
      for (std::size_t i = 0; i < atoms.size(); ++i) {
        BOOST_TEST(!(atoms[i].must_stay && got.streamed[i] != 0));
        resident += got.streamed[i] != 0 ? 0 : atoms[i].weights;
      }
      BOOST_TEST(got.choice->resident == resident);
      ++compared;
      streaming += std::find(got.streamed.begin(), got.streamed.end(), 1) != got.streamed.end() ? 1 : 0;
    }
  }
  BOOST_TEST(compared >= 300);
  BOOST_TEST(streaming >= 200);
  BOOST_TEST(impossible >= 50);
}

BOOST_AUTO_TEST_CASE(more_memory_never_makes_the_best_choice_slower) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    std::mt19937_64 random(seed);
    const auto atoms = random_atoms(random, 9);
    auto last = never;
    for (bytes memory = 0; memory <= total_of(atoms); memory += 3) {
      const auto got = choose({atoms, memory, 2});
      if (!got.choice) continue;
      BOOST_TEST_CONTEXT("seed " << seed << " memory " << memory) { BOOST_TEST(got.choice->period <= last); }
      last = got.choice->period;
    }
  }
}

BOOST_AUTO_TEST_CASE(large_chains_reach_the_bound_or_come_near_it) {
  for (const int percent : {0, 40}) {
    int cases = 0, reached = 0;
    double gaps = 0;
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
      std::mt19937_64 random(seed);
      const auto atoms = decoder(random, 32, percent, 0.2 + 0.2 * static_cast<double>(random() % 8));
      const residency_problem p{atoms, total_of(atoms) * (25 + random() % 60) / 100,
                                static_cast<std::uint32_t>(2 + random() % 2)};
      const auto got = choose(p);
      BOOST_TEST_CONTEXT("seed " << seed << " percent " << percent) {
        BOOST_REQUIRE(got.choice.has_value());
        BOOST_TEST(got.choice->period >= got.bound);
        BOOST_TEST(residency_need(p, got.streamed) <= p.memory);
        BOOST_TEST(choose(p).streamed == got.streamed);
      }
      ++cases;
      reached += got.choice->period == got.bound ? 1 : 0;
      gaps += static_cast<double>(got.choice->period) / static_cast<double>(got.bound) - 1;
    }
    BOOST_TEST_MESSAGE("sizes +-" << percent << " %: bound reached " << reached << " of " << cases << ", mean gap "
                                  << 100 * gaps / cases << " %");
    BOOST_TEST(reached >= (percent == 0 ? 54 : 30));
    BOOST_TEST(gaps / cases <= (percent == 0 ? 0.005 : 0.02));
  }
}

BOOST_AUTO_TEST_CASE(faults_of_the_caller_are_errors) {
  const std::vector<residency_atom> atoms(3, residency_atom{.weights = 10, .compute = 1, .copy = 4});
  std::vector<std::uint8_t> streamed(3);
  std::vector<std::uint64_t> scratch(residency_search_cells(3));
  BOOST_TEST((choose_residents({atoms, 25, 0}, streamed, scratch).error().code == errc::invalid_argument));
  BOOST_TEST(
      (choose_residents({atoms, 25, 1}, std::span(streamed).first(2), scratch).error().code == errc::invalid_argument));
  BOOST_TEST((choose_residents({atoms, 25, 1}, streamed, std::span(scratch).first(5)).error().code == errc::capacity));
  BOOST_TEST(choose_residents({atoms, 25, 1}, streamed, scratch).has_value());
}

BOOST_AUTO_TEST_SUITE_END()
