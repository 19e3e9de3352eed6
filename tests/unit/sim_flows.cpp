// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <vector>

#include "sim_support.hpp"

import berth.base;
import berth.sim;
import berth.topology;

namespace {

using namespace berth;
using namespace berth::sim;

/// Bytes per picosecond as a capacity.
constexpr double per_ps = 1e12;

struct flow {
  picoseconds start = 0;
  std::int64_t size = 1;
  std::vector<segment_index> route;
  std::int64_t cap = 0;  ///< bytes/ps; 0: none
};
/// Capacities in bytes/ps: all times are then rational with small terms.
struct instance {
  std::vector<std::int64_t> capacities;
  std::vector<flow> flows;
};

std::vector<double> capacities_of(const instance& x) {
  std::vector<double> out;
  for (const auto c : x.capacities) out.push_back(static_cast<double>(c) * per_ps);
  return out;
}

/// Finish times, flows that start at one instant joining in the order of `order`.
std::vector<picoseconds> run(const instance& x, std::vector<std::uint32_t> order,
                             std::pmr::memory_resource* memory = std::pmr::get_default_resource()) {
  const auto n = static_cast<std::uint32_t>(x.flows.size());
  flow_network net(capacities_of(x), {n, 8}, memory);
  std::sort(order.begin(), order.end(), [&, was = order](auto a, auto b) {
    const auto place = [&](auto f) { return std::find(was.begin(), was.end(), f); };
    return x.flows[a].start != x.flows[b].start ? x.flows[a].start < x.flows[b].start : place(a) < place(b);
  });
  std::vector<std::uint32_t> owner(n);
  std::vector<picoseconds> finish(n, -1);
  for (std::size_t next = 0; next < n || net.active() > 0;) {
    const auto t = std::min(next < n ? x.flows[order[next]].start : never, net.next_end());
    BOOST_TEST_REQUIRE(t != never);
    for (flow_network::flow f = 0; net.finish_one(t, f);) finish[owner[f]] = t;
    for (; next < n && x.flows[order[next]].start == t; ++next) {
      const auto& f = x.flows[order[next]];
      const auto joined =
          net.join(static_cast<double>(f.size), f.route, f.cap == 0 ? no_cap : static_cast<double>(f.cap) * per_ps, t);
      BOOST_TEST_REQUIRE(joined.has_value());
      owner[*joined] = order[next];
    }
    net.settle(t);
  }
  return finish;
}

std::vector<std::uint32_t> in_order(const instance& x) {
  std::vector<std::uint32_t> order(x.flows.size());
  std::iota(order.begin(), order.end(), 0u);
  return order;
}
std::vector<picoseconds> run(const instance& x) { return run(x, in_order(x)); }

/// A rational number; `sound` is lost when its terms exceed 127 bits.
struct rational {
  __int128 top = 0, bottom = 1;
  bool sound = true;
};
rational reduced(__int128 top, __int128 bottom, bool sound) {
  __int128 a = top < 0 ? -top : top, b = bottom;
  while (b != 0) {
    const auto r = a % b;
    a = b;
    b = r;
  }
  if (a == 0) a = 1;
  return {top / a, bottom / a, sound};
}
rational whole(std::int64_t n) { return {n, 1, true}; }
rational add(rational a, rational b, int sign) {
  __int128 x = 0, y = 0, top = 0, bottom = 0;
  bool bad = __builtin_mul_overflow(a.top, b.bottom, &x) || __builtin_mul_overflow(b.top, a.bottom, &y);
  bad = bad || __builtin_mul_overflow(a.bottom, b.bottom, &bottom);
  bad = bad || (sign > 0 ? __builtin_add_overflow(x, y, &top) : __builtin_sub_overflow(x, y, &top));
  return bad ? rational{0, 1, false} : reduced(top, bottom, a.sound && b.sound);
}
rational operator+(rational a, rational b) { return add(a, b, 1); }
rational operator-(rational a, rational b) { return add(a, b, -1); }
rational operator*(rational a, rational b) {
  __int128 top = 0, bottom = 0;
  const bool bad = __builtin_mul_overflow(a.top, b.top, &top) || __builtin_mul_overflow(a.bottom, b.bottom, &bottom);
  return bad ? rational{0, 1, false} : reduced(top, bottom, a.sound && b.sound);
}
/// b > 0.
rational operator/(rational a, rational b) { return a * rational{b.bottom, b.top, b.sound}; }
bool operator<(rational a, rational b) { return (a - b).top < 0; }

picoseconds ceiling(rational a) { return static_cast<picoseconds>((a.top + a.bottom - 1) / a.bottom); }

/// Max-min fair rates of the active flows by their definition, one bottleneck after the other.
std::vector<rational> fair_rates(const instance& x, const std::vector<bool>& active) {
  std::vector<rational> rate(x.flows.size());
  std::vector<bool> fixed(x.flows.size());
  for (;;) {
    std::optional<rational> level;
    const auto consider = [&](rational r) { level = !level || r < *level ? r : *level; };
    std::vector<std::optional<rational>> share(x.capacities.size());
    for (std::size_t s = 0; s < x.capacities.size(); ++s) {
      auto left = whole(x.capacities[s]);
      std::int64_t rising = 0;
      for (std::size_t f = 0; f < x.flows.size(); ++f) {
        if (!active[f] || std::count(x.flows[f].route.begin(), x.flows[f].route.end(), s) == 0) continue;
        if (fixed[f])
          left = left - rate[f];
        else
          ++rising;
      }
      if (rising == 0) continue;
      share[s] = left / whole(rising);
      consider(*share[s]);
    }
    for (std::size_t f = 0; f < x.flows.size(); ++f)
      if (active[f] && !fixed[f] && x.flows[f].cap != 0) consider(whole(x.flows[f].cap));
    if (!level) return rate;
    for (std::size_t f = 0; f < x.flows.size(); ++f) {
      if (!active[f] || fixed[f]) continue;
      bool stops = x.flows[f].cap != 0 && !(*level < whole(x.flows[f].cap));
      for (const auto s : x.flows[f].route) stops = stops || !(*level < *share[s]);
      if (!stops) continue;
      fixed[f] = true;
      rate[f] = *level;
    }
  }
}

/// Exact finish times, rounded up; nothing when the terms of the rationals get too long.
std::optional<std::vector<picoseconds>> reference(const instance& x) {
  const auto n = x.flows.size();
  std::vector<rational> left;
  for (const auto& f : x.flows) left.push_back(whole(f.size));
  std::vector<bool> active(n), over(n);
  std::vector<picoseconds> finish(n);
  auto now = whole(0);
  while (std::find(over.begin(), over.end(), false) != over.end()) {
    const auto rate = fair_rates(x, active);
    std::optional<rational> next;
    const auto consider = [&](rational t) { next = !next || t < *next ? t : *next; };
    for (std::size_t f = 0; f < n; ++f) {
      if (active[f]) consider(now + left[f] / rate[f]);
      if (!active[f] && !over[f]) consider(whole(x.flows[f].start));
    }
    for (std::size_t f = 0; f < n; ++f) {
      if (active[f]) left[f] = left[f] - rate[f] * (*next - now);
      if (!left[f].sound || !next->sound) return std::nullopt;
    }
    now = *next;
    for (std::size_t f = 0; f < n; ++f) {
      if (active[f] && left[f].top == 0) {
        active[f] = false;
        over[f] = true;
        finish[f] = ceiling(now);
      } else if (!active[f] && !over[f] && !(now < whole(x.flows[f].start))) {
        active[f] = true;
      }
    }
  }
  return finish;
}

instance random_instance(std::mt19937_64& random, std::size_t most_flows) {
  const auto up_to = [&](std::uint64_t n) { return static_cast<std::int64_t>(1 + random() % n); };
  instance x;
  x.capacities.resize(static_cast<std::size_t>(up_to(4)));
  for (auto& c : x.capacities) c = up_to(12);
  x.flows.resize(static_cast<std::size_t>(up_to(most_flows)));
  const auto spread = random() % 3 == 0 ? 1u : 60u;
  for (auto& f : x.flows) {
    f.start = up_to(spread) - 1;
    f.size = up_to(random() % 2 == 0 ? 20 : 400);
    for (std::uint32_t s = 0; s < x.capacities.size(); ++s)
      if (random() % 2 == 0) f.route.push_back(s);
    if (f.route.empty()) f.route.push_back(static_cast<segment_index>(random() % x.capacities.size()));
    if (random() % 3 == 0) f.cap = up_to(6);
  }
  return x;
}

}  // namespace

BOOST_AUTO_TEST_CASE(one_flow_takes_its_bytes_over_the_narrowest_segment) {
  BOOST_TEST(run({{10, 3, 7}, {{5, 100, {0, 1, 2}, 0}}}) == (std::vector<picoseconds>{5 + 34}));
  BOOST_TEST(run({{10, 3, 7}, {{5, 100, {0, 2}, 2}}}) == (std::vector<picoseconds>{5 + 50}));
}

BOOST_AUTO_TEST_CASE(two_flows_on_one_segment_halve_it_while_both_are_there) {
  // Alone until 10 (40 bytes), then 2 each: the second ends at 10 + 30, the first has 200 - 40 - 60 left at 4.
  BOOST_TEST(run({{4}, {{0, 200, {0}, 0}, {10, 60, {0}, 0}}}) == (std::vector<picoseconds>{40 + 25, 40}));
}

BOOST_AUTO_TEST_CASE(a_capped_flow_leaves_the_rest_to_the_other) {
  BOOST_TEST(run({{10}, {{0, 30, {0}, 3}, {0, 70, {0}, 0}}}) == (std::vector<picoseconds>{10, 10}));
}

BOOST_AUTO_TEST_CASE(a_long_route_gets_the_least_of_its_shares) {
  // Segment 0 is shared by three: 2 each. The short flow of segment 1 gets what the long one leaves: 8.
  const instance x{{6, 10}, {{0, 20, {0, 1}, 0}, {0, 20, {0}, 0}, {0, 20, {0}, 0}, {0, 80, {1}, 0}}};
  BOOST_TEST(run(x) == (std::vector<picoseconds>{10, 10, 10, 10}));
}

BOOST_AUTO_TEST_CASE(bandwidth_is_given_up_at_the_exact_end) {
  // The first ends at 8/3: the second is over at exactly 4. Given up at 3, it would be 25/6, rounded up to 5.
  BOOST_TEST(run({{3}, {{0, 4, {0}, 0}, {0, 8, {0}, 0}}}) == (std::vector<picoseconds>{3, 4}));
}

BOOST_AUTO_TEST_CASE(a_flow_that_ends_when_another_begins_does_not_share_with_it) {
  BOOST_TEST(run({{2}, {{0, 20, {0}, 0}, {10, 20, {0}, 0}}}) == (std::vector<picoseconds>{10, 20}));
}

BOOST_AUTO_TEST_CASE(finish_times_equal_exact_rational_filling) {
  constexpr std::uint64_t seed = 20240611;
  std::mt19937_64 random(seed);
  std::size_t compared = 0;
  constexpr std::size_t instances = 4000;
  for (std::size_t i = 0; i < instances; ++i) {
    const auto x = random_instance(random, i % 2 == 0 ? 4 : 7);
    const auto want = reference(x);
    if (!want) continue;
    ++compared;
    BOOST_TEST_CONTEXT("seed " << seed << " instance " << i) { BOOST_TEST(run(x) == *want); }
  }
  BOOST_TEST(compared > instances * 9 / 10);
}

BOOST_AUTO_TEST_CASE(the_order_of_flows_and_segments_does_not_matter) {
  constexpr std::uint64_t seed = 71;
  std::mt19937_64 random(seed);
  for (std::size_t i = 0; i < 2000; ++i) {
    const auto x = random_instance(random, 12);
    auto order = in_order(x);
    std::shuffle(order.begin(), order.end(), random);
    std::vector<segment_index> moved(x.capacities.size());
    std::iota(moved.begin(), moved.end(), 0u);
    std::shuffle(moved.begin(), moved.end(), random);
    auto y = x;
    for (std::size_t s = 0; s < moved.size(); ++s) y.capacities[moved[s]] = x.capacities[s];
    for (auto& f : y.flows) {
      for (auto& s : f.route) s = moved[s];
      std::shuffle(f.route.begin(), f.route.end(), random);
    }
    BOOST_TEST_CONTEXT("seed " << seed << " instance " << i) { BOOST_TEST(run(x) == run(y, order)); }
  }
}

/// Max-min fair: no segment above capacity, and every flow is at its cap or crosses a full segment on which no other
/// flow is faster.
BOOST_AUTO_TEST_CASE(rates_are_max_min_fair_through_joins_ends_and_throttles) {
  constexpr std::uint64_t seed = 5;
  constexpr double near = 1e-9;
  std::mt19937_64 random(seed);
  for (std::size_t i = 0; i < 300; ++i) {
    const auto x = random_instance(random, 12);
    flow_network net(capacities_of(x), {64, 8}, std::pmr::get_default_resource());
    std::vector<std::pair<flow_network::flow, const flow*>> active;
    picoseconds now = 0;
    for (int step = 0; step < 60; ++step) {
      const auto& f = x.flows[random() % x.flows.size()];
      if (random() % 2 == 0 && active.size() < 64) {
        const auto j =
            net.join(static_cast<double>(f.size), f.route, f.cap == 0 ? no_cap : double(f.cap) * per_ps, now);
        BOOST_TEST_REQUIRE(j.has_value());
        active.push_back({*j, &f});
      }
      if (random() % 4 == 0) {
        const auto s = static_cast<segment_index>(random() % x.capacities.size());
        net.set_capacity(s, double(1 + random() % 9) * per_ps / 2, now);
      }
      net.settle(now);
      for (std::uint32_t s = 0; s < x.capacities.size(); ++s)
        BOOST_TEST(net.used(s) <= net.capacity(s) * (1 + near), "seed " << seed << " instance " << i);
      for (const auto& [number, what] : active) {
        const auto rate = net.rate(number);
        bool held = what->cap != 0 && rate >= double(what->cap) * per_ps * (1 - near);
        for (const auto s : what->route) {
          bool fastest = net.used(s) >= net.capacity(s) * (1 - near);
          for (const auto& [other, its] : active)
            if (std::count(its->route.begin(), its->route.end(), s) != 0)
              fastest = fastest && net.rate(other) <= rate * (1 + near);
          held = held || fastest;
        }
        BOOST_TEST(held, "seed " << seed << " instance " << i << " step " << step);
      }
      now = std::min(now + static_cast<picoseconds>(random() % 20), std::max(now, net.next_end()));
      for (flow_network::flow ended = 0; net.finish_one(now, ended);)
        std::erase_if(active, [&](const auto& a) { return a.first == ended; });
    }
  }
}

BOOST_AUTO_TEST_CASE(a_throttled_segment_goes_on_with_what_is_left) {
  flow_network net(std::array{4 * per_ps}, {1, 1}, std::pmr::get_default_resource());
  const std::array<segment_index, 1> route{0};
  BOOST_TEST_REQUIRE(net.join(100, route, no_cap, 0).has_value());
  net.settle(0);
  BOOST_TEST(net.next_end() == 25);
  net.set_capacity(0, per_ps, 10);
  net.settle(10);
  BOOST_TEST(net.next_end() == 10 + 60);
}

BOOST_AUTO_TEST_CASE(bounds_are_errors_and_nothing_is_allocated_after_construction) {
  closing_memory memory;
  flow_network net(std::array{per_ps, per_ps}, {2, 1}, &memory);
  memory.close();
  const std::array<segment_index, 2> route{0, 1};
  BOOST_TEST((net.join(1, {}, no_cap, 0).error().code == errc::invalid_argument));
  BOOST_TEST((net.join(1, route, no_cap, 0).error().code == errc::capacity));
  for (picoseconds now = 0; now < 1000; now += 10) {
    for (int i = 0; i < 2; ++i) BOOST_TEST(net.join(5, std::span(route).first(1), no_cap, now).has_value());
    BOOST_TEST((net.join(1, std::span(route).first(1), no_cap, now).error().code == errc::capacity));
    net.settle(now);
    BOOST_TEST(net.next_end() == now + 10);
    flow_network::flow ended = 0;
    while (net.finish_one(now + 10, ended)) {
    }
    BOOST_TEST(net.active() == 0);
  }
}
