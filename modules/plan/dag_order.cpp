// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <queue>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

module berth.plan;

import :dag_items;

namespace berth {
namespace {

/// Longest path that ends (forward) or starts (backward) at each item; in accelerator time or in items.
std::vector<double> longest_paths(const dag_items& items, bool backward, bool hops) {
  std::vector<double> out(items.count());
  for (dag_index k = 0; k < items.count(); ++k) {
    const auto i = backward ? static_cast<dag_index>(items.count() - 1 - k) : k;
    double longest = 0;
    for (const auto j : backward ? items.successors[i] : items.predecessors[i]) longest = std::max(longest, out[j]);
    out[i] = longest + (hops ? 1 : items.accelerator_time[i]);
  }
  return out;
}

/// Hash of a number, to break ties differently for each seed (the finaliser of SplitMix64).
std::uint64_t scrambled(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// Smallest priority first among the items whose inputs are done; ties by item.
std::vector<dag_index> by_priority(const dag_items& items, const dag_rows& next, const dag_rows& previous,
                                   const std::vector<double>& priority) {
  using entry = std::pair<double, dag_index>;
  std::priority_queue<entry, std::vector<entry>, std::greater<>> ready;
  std::vector<std::size_t> inputs(items.count());
  for (dag_index i = 0; i < items.count(); ++i)
    if ((inputs[i] = previous[i].size()) == 0) ready.emplace(priority[i], i);
  std::vector<dag_index> out;
  while (!ready.empty()) {
    const auto i = ready.top().second;
    ready.pop();
    out.push_back(i);
    for (const auto j : next[i])
      if (--inputs[j] == 0) ready.emplace(priority[j], j);
  }
  return out;
}

/// Depth first: the item that became ready last comes first; `turned` visits the branches of a fork the other way.
std::vector<dag_index> depth_first(const dag_items& items, const dag_rows& next, const dag_rows& previous,
                                   bool turned) {
  std::vector<std::size_t> inputs(items.count());
  std::vector<dag_index> ready, out;
  for (dag_index k = 0; k < items.count(); ++k) {
    const auto i = turned ? k : static_cast<dag_index>(items.count() - 1 - k);
    if ((inputs[i] = previous[i].size()) == 0) ready.push_back(i);
  }
  while (!ready.empty()) {
    const auto i = ready.back();
    ready.pop_back();
    out.push_back(i);
    const auto row = next[i];
    for (std::size_t k = 0; k < row.size(); ++k) {
      const auto j = row[turned ? k : row.size() - 1 - k];
      if (--inputs[j] == 0) ready.push_back(j);
    }
  }
  return out;
}

/// Keeps the cost of the cut behind each item low: the next item is the one that leaves the cheapest cut, ties (and,
/// with a seed, differences below `blur`) by a rank that changes with the seed.
class cheapest_cut {
 public:
  cheapest_cut(const dag_items& items, const dag_rows& next, const dag_rows& previous, std::uint64_t seed)
      : items_(items), next_(next), previous_(previous), seed_(seed), inside_(items.net_cost.size()) {}

  std::vector<dag_index> run() {
    std::vector<std::size_t> inputs(items_.count());
    std::vector<dag_index> ready, out;
    for (dag_index i = 0; i < items_.count(); ++i)
      if ((inputs[i] = previous_[i].size()) == 0) ready.push_back(i);
    while (!ready.empty()) {
      // The newest item wins ties, so that paths are followed to their end.
      std::size_t best = ready.size();
      std::pair<double, double> least;
      for (std::size_t k = ready.size(); k > 0; --k) {
        const std::pair key(change(ready[k - 1]), seed_ == 0 ? 0.0 : rank(ready[k - 1]));
        if (best == ready.size() || key < least) {
          best = k - 1;
          least = key;
        }
      }
      const auto i = ready[best];
      ready.erase(ready.begin() + static_cast<std::ptrdiff_t>(best));
      out.push_back(i);
      for (const auto net : items_.nets_of[i]) ++inside_[net];
      for (const auto j : next_[i])
        if (--inputs[j] == 0) ready.push_back(j);
    }
    return out;
  }

 private:
  /// Cost that the cut gains when `i` comes next; blurred by up to a factor of two with a seed.
  double change(dag_index i) const {
    double cost = 0;
    for (const auto net : items_.nets_of[i]) {
      if (inside_[net] == 0) cost += items_.net_cost[net];
      if (inside_[net] + 1 == items_.nets[net].size()) cost -= items_.net_cost[net];
    }
    return seed_ == 0 ? cost : cost * (1 + rank(i));
  }
  double rank(dag_index i) const {
    return static_cast<double>(scrambled(seed_ * 0x10001 + i) >> 11) / static_cast<double>(std::uint64_t{1} << 53);
  }

  const dag_items& items_;
  const dag_rows& next_;
  const dag_rows& previous_;
  std::uint64_t seed_;
  std::vector<dag_index> inside_;
};

std::vector<dag_index> reversed(std::vector<dag_index> order) {
  std::reverse(order.begin(), order.end());
  return order;
}

std::vector<double> negated(std::vector<double> v) {
  for (auto& x : v) x = -x;
  return v;
}

std::vector<dag_index> varied(const dag_items& items, std::uint32_t kind) {
  const auto seed = kind - dag_named_orders + 1;
  if (seed % 3 == 0) return cheapest_cut(items, items.successors, items.predecessors, seed).run();
  if (seed % 3 == 1) return reversed(cheapest_cut(items, items.predecessors, items.successors, seed).run());
  std::vector<double> priority(items.count());
  for (dag_index i = 0; i < priority.size(); ++i) priority[i] = static_cast<double>(scrambled(seed * 0x10001 + i));
  return by_priority(items, items.successors, items.predecessors, priority);
}

}  // namespace

std::vector<dag_index> topological_order(const dag_items& items, std::uint32_t kind) {
  const auto &next = items.successors, &previous = items.predecessors;
  switch (kind) {
    case 0:
      return cheapest_cut(items, next, previous, 0).run();
    case 1:
      return reversed(cheapest_cut(items, previous, next, 0).run());
    case 2:
      return depth_first(items, next, previous, false);
    case 3:
      return reversed(depth_first(items, previous, next, false));
    case 4:
      return depth_first(items, next, previous, true);
    case 5:
      return reversed(depth_first(items, previous, next, true));
    case 6:
      return by_priority(items, next, previous, longest_paths(items, false, true));
    case 7:
      return by_priority(items, next, previous, negated(longest_paths(items, true, true)));
    case 8:
      return by_priority(items, next, previous, longest_paths(items, false, false));
    case 9:
      return by_priority(items, next, previous, negated(longest_paths(items, true, false)));
    default:
      return varied(items, kind);
  }
}

std::vector<dag_index> stage_order(const dag_items& items, const dag_stages& stages, std::uint32_t kind) {
  // Sorting by stage first keeps a topological order topological.
  const auto order = topological_order(items, kind);
  std::vector<std::pair<dag_index, dag_index>> keys;
  for (dag_index at = 0; at < order.size(); ++at) keys.emplace_back(stages.stage[order[at]], at);
  std::sort(keys.begin(), keys.end());
  std::vector<dag_index> out;
  for (const auto& [stage, at] : keys) out.push_back(order[at]);
  return out;
}

}  // namespace berth
