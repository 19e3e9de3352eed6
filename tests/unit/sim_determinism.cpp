// SPDX-License-Identifier: Apache-2.0
// Times are the same in every build: with any optimisation, under sanitizers, on any processor. The constants were
// written by an optimised build once; a change of rules changes them, a compiler must not.
#include <algorithm>
#include <array>
#include <bit>
#include <boost/test/unit_test.hpp>
#include <cstddef>
#include <cstdint>
#include <ios>
#include <memory_resource>
#include <random>
#include <vector>

#include "sim_random.hpp"
#include "sim_support.hpp"
// Last: it imports.
#include "sim_runner.hpp"

namespace {

using namespace simulated;

/// FNV-1a over whole numbers.
class fingerprint {
 public:
  void add(std::uint64_t v) {
    for (int byte = 0; byte < 8; ++byte) {
      value_ = (value_ ^ (v >> 8 * byte & 0xff)) * 0x100000001b3;
    }
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325;
};

/// Every time and amount of a hundred random programs.
std::uint64_t of_runs(std::uint64_t first) {
  fingerprint all;
  for (auto seed = first; seed < first + 100; ++seed) {
    const auto r = make_run(seed, 60, seed % 2 == 0);
    const auto got = run(r, numbering(r));
    for (const auto& s : got.steps) {
      all.add(static_cast<std::uint64_t>(s.start));
      all.add(static_cast<std::uint64_t>(s.end));
    }
    for (const auto b : got.highest) all.add(b);
    for (const auto i : got.failed) all.add(i);
  }
  return all.value();
}

/// Rates, bit by bit, and ends of many flows that come and go over twelve segments of awkward capacities.
std::uint64_t of_flows(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<double> capacities(12);
  for (auto& c : capacities) c = 1e9 / 3 * static_cast<double>(1 + random() % 200);
  flow_network net(capacities, {64, 12}, std::pmr::get_default_resource());
  fingerprint all;
  picoseconds now = 0;
  for (int step = 0; step < 2000; ++step) {
    if (net.active() < 64 && random() % 2 == 0) {
      std::vector<segment_index> route;
      for (std::uint32_t s = 0; s < capacities.size(); ++s)
        if (random() % 4 == 0) route.push_back(s);
      if (route.empty()) route.push_back(0);
      const auto cap = random() % 3 == 0 ? 1e9 / 7 * static_cast<double>(1 + random() % 50) : no_cap;
      const auto joined = net.join(static_cast<double>(1 + random() % 1'000'000'000), route, cap, now);
      BOOST_TEST_REQUIRE(joined.has_value());
      net.settle(now);
      all.add(std::bit_cast<std::uint64_t>(net.rate(*joined)));
    }
    now = std::min(now + static_cast<picoseconds>(random() % 10'000'000'000), std::max(now, net.next_end()));
    for (flow_network::flow f = 0; net.finish_one(now, f);) {
      all.add(f);
      all.add(static_cast<std::uint64_t>(now));
    }
    net.settle(now);
    all.add(static_cast<std::uint64_t>(net.next_end()));
  }
  return all.value();
}

struct known {
  std::uint64_t seed, value;
};

}  // namespace

BOOST_AUTO_TEST_CASE(programs_take_the_same_times_in_every_build) {
  constexpr std::array<known, 4> stored{{{100000, 0x72c381e69331ebdf},
                                         {200000, 0x632de2b3bd4d7074},
                                         {300000, 0x59dc3317b4d51581},
                                         {400000, 0xe9bf9e3b999b17e0}}};
  for (const auto& k : stored)
    BOOST_TEST(of_runs(k.seed) == k.value, "seed " << k.seed << ": 0x" << std::hex << of_runs(k.seed));
}

BOOST_AUTO_TEST_CASE(flows_have_the_same_rates_and_ends_in_every_build) {
  constexpr std::array<known, 4> stored{
      {{1, 0x5d680d563dfa2463}, {2, 0xab007a276b9d2627}, {3, 0x4f73c92a3bea57d8}, {4, 0xf291070d79c38fca}}};
  for (const auto& k : stored)
    BOOST_TEST(of_flows(k.seed) == k.value, "seed " << k.seed << ": 0x" << std::hex << of_flows(k.seed));
}
