// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

module berth.plan;

import :dag_items;

namespace berth {
namespace {

/// A split with the loads of its stages, which moves change by the nets they touch.
class moving_split {
 public:
  moving_split(const dag_items& items, dag_stages& stages)
      : items_(items), s_(stages), inside_(items.net_cost.size() * stages.is_cpu.size()), loads_(stages.is_cpu.size()) {
    const auto all = std::move(s_.stage);
    s_.stage.assign(items.count(), none);
    for (dag_index i = 0; i < items.count(); ++i) put(i, all[i]);
    s_.maximum = value().first;
  }

  /// Tries to move `i` and what must come along to the stage before or behind. True if that was better and was kept.
  bool try_move(dag_index i, bool behind) {
    const auto from = s_.stage[i];
    if (behind ? from + 1 == loads_.size() : from == 0) return false;
    const auto to = behind ? from + 1 : from - 1;
    block_.assign(1, i);
    for (std::size_t k = 0; k < block_.size(); ++k)
      for (const auto j : behind ? items_.successors[block_[k]] : items_.predecessors[block_[k]])
        if (s_.stage[j] == from && std::find(block_.begin(), block_.end(), j) == block_.end()) {
          if (block_.size() == max_block) return false;
          block_.push_back(j);
        }
    const auto before = value();
    for (const auto j : block_) put(j, to);
    if (better(value(), before)) return true;
    for (const auto j : block_) put(j, from);
    return false;
  }

  /// Maximum load and sum of squares; an overfull or unable accelerator has an infinite load.
  std::pair<double, double> value() const {
    double maximum = 0, squares = 0;
    for (std::size_t k = 0; k < loads_.size(); ++k) {
      const double load = load_of(k);
      maximum = std::max(maximum, load);
      squares += load * load;
    }
    return {maximum, squares};
  }

 private:
  static constexpr std::size_t max_block = 64;

  struct stage_sums {
    double accelerator = 0, cpu = 0, nets = 0;
    bytes size = 0;
    std::uint32_t cpu_only = 0;
  };

  static bool better(const std::pair<double, double>& a, const std::pair<double, double>& b) {
    // Differences in the last bits come from the order of additions.
    constexpr double noise = 1e-12;
    if (a.first < b.first * (1 - noise)) return true;
    return a.first <= b.first && a.second < b.second * (1 - noise);
  }

  double load_of(std::size_t stage) const {
    const auto& l = loads_[stage];
    if (s_.is_cpu[stage] != 0) return l.cpu;
    if (l.cpu_only > 0 || l.size > items_.accelerator_memory) return dag_unreached;
    return l.accelerator + l.nets;
  }

  void put(dag_index i, dag_index to) {
    const auto from = s_.stage[i];
    s_.stage[i] = to;
    auto& gains = loads_[to];
    gains.accelerator += items_.accelerator_time[i];
    gains.cpu += items_.cpu_time[i];
    gains.size += items_.size[i];
    gains.cpu_only += items_.on_accelerator[i] == 0 ? 1 : 0;
    if (from != none) {
      auto& loses = loads_[from];
      loses.accelerator -= items_.accelerator_time[i];
      loses.cpu -= items_.cpu_time[i];
      loses.size -= items_.size[i];
      loses.cpu_only -= items_.on_accelerator[i] == 0 ? 1 : 0;
    }
    for (const auto net : items_.nets_of[i]) {
      const auto pins = items_.nets[net].size();
      auto& there = inside_[net * loads_.size() + to];
      if (++there == 1) gains.nets += items_.net_cost[net];
      if (there == pins) gains.nets -= items_.net_cost[net];
      if (from == none) continue;
      auto& here = inside_[net * loads_.size() + from];
      if (here == pins) loads_[from].nets += items_.net_cost[net];
      if (--here == 0) loads_[from].nets -= items_.net_cost[net];
    }
  }

  const dag_items& items_;
  dag_stages& s_;
  std::vector<dag_index> inside_;  ///< items per net and stage
  std::vector<stage_sums> loads_;
  std::vector<dag_index> block_;
};

}  // namespace

void improve(const dag_items& items, dag_stages& stages, std::uint32_t rounds) {
  moving_split split(items, stages);
  for (std::uint32_t round = 0; round < rounds; ++round) {
    bool moved = false;
    for (dag_index i = 0; i < items.count(); ++i) {
      moved = split.try_move(i, true) || moved;
      moved = split.try_move(static_cast<dag_index>(items.count() - 1 - i), false) || moved;
    }
    if (!moved) break;
  }
  stages.maximum = split.value().first;
}

}  // namespace berth
