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

/// Steps of the chain programs, over all orders together, before no further order is cut.
constexpr std::uint64_t max_chain_work = 300'000'000;
/// Ideals of the coarser problem that is solved where the real one has too many.
constexpr std::size_t max_coarse_ideals = 10'000;
/// Two maxima closer than this are the same: sums differ by the order of additions.
constexpr double noise = 1e-12;

/// The best split so far over all methods, and what is known about better ones.
class search {
 public:
  search(const dag_items& items, const dag_options& options)
      : items_(items), options_(options), pairs_(options.max_pairs), lower_(work_bound(items)) {}

  void run() {
    first_cut();
    const auto orders = dag_named_orders + options_.orders;
    for (std::uint32_t kind = 0; kind < orders && best_.maximum != dag_unreached; ++kind) {
      if (work_ > max_chain_work) break;
      cut(topological_order(items_, kind), dag_method::chain);
      if (kind + 1 == dag_named_orders || kind + 1 == orders) climb();
    }
    if (best_.maximum <= lower_ * (1 + noise)) {
      proven_ = true;
      return;
    }
    if (options_.max_ideals > 0) prove();
    if (proven_ && items_.memory_matters) prove_without_memory();
    if (!proven_ && options_.max_ideals > 0 && best_.maximum != dag_unreached && refine()) climb();
  }

  const dag_stages& best() const { return best_; }
  dag_method method() const { return method_; }
  bool proven() const { return proven_; }
  double lower_bound() const { return proven_ ? best_.maximum : lower_; }

 private:
  /// Larger than any load.
  double everything() const {
    double sum = 1;
    for (std::size_t i = 0; i < items_.count(); ++i) sum += items_.accelerator_time[i] + items_.cpu_time[i];
    for (const auto c : items_.net_cost) sum += c;
    return sum;
  }

  /// Any split, as a limit for what follows. A tight limit makes the program fast, so it is raised step by step.
  void first_cut() {
    const auto order = topological_order(items_, 0);
    for (double limit = lower_ * 1.25; best_.maximum == dag_unreached; limit *= 2) {
      const bool last = limit == 0 || limit >= everything();
      keep(cut_order(items_, order, last ? everything() : limit, work_), dag_method::chain);
      if (last) break;
    }
    for (std::uint32_t kind = 1; kind < dag_named_orders && best_.maximum == dag_unreached; ++kind)
      keep(cut_order(items_, topological_order(items_, kind), everything(), work_), dag_method::chain);
  }

  bool keep(dag_stages found, dag_method how) {
    if (found.maximum >= best_.maximum) return false;
    best_ = std::move(found);
    method_ = how;
    return true;
  }
  bool cut(const std::vector<dag_index>& order, dag_method how) {
    return keep(cut_order(items_, order, best_.maximum, work_), how);
  }

  /// Moves, then a new cut of orders that keep the stages together, as long as that helps.
  void climb() {
    for (std::uint32_t round = 0; round < 8 && best_.maximum != dag_unreached; ++round) {
      auto moved = best_;
      improve(items_, moved, 16);
      bool better = keep(moved, dag_method::moves);
      for (std::uint32_t kind = 0; kind < 6 && work_ < max_chain_work; ++kind)
        better = cut(stage_order(items_, moved, kind), dag_method::moves) || better;
      if (!better) return;
    }
  }

  /// A split of merged items as one of these items.
  dag_stages spread(const dag_stages& of_merged, const dag_items& merged) const {
    dag_stages out;
    out.is_cpu = of_merged.is_cpu;
    out.maximum = of_merged.maximum;
    out.stage.resize(items_.count());
    for (std::size_t n = 0; n < items_.item_of_node.size(); ++n)
      out.stage[items_.item_of_node[n]] = of_merged.stage[merged.item_of_node[n]];
    return out;
  }

  /// Searches below limits that rise from the lower bound to the best split: a low limit leaves few ideals and pairs
  /// to look at, and what is found there is an optimum.
  void prove() {
    const double start = lower_, end = best_.maximum == dag_unreached ? everything() : best_.maximum * (1 - noise);
    for (const double part : {1.0 / 32, 1.0 / 16, 0.125, 0.25, 0.5, 1.0}) {
      const double limit = part == 1.0 ? end : start + (end - start) * part;
      const auto small = merged_by_limit(items_, limit);
      const auto found = search_ideals(small, limit, options_.max_ideals, pairs_);
      const bool better = found.best.maximum != dag_unreached && keep(spread(found.best, small), dag_method::ideals);
      if (!found.complete) return;
      proven_ = better || part == 1.0;
      if (proven_) return;
      lower_ = limit;
    }
  }

  /// Merging idle items is without loss only where memory does not bind: does the value stand without the cap?
  void prove_without_memory() {
    lower_ = work_bound(items_);
    auto free = items_;
    free.accelerator_memory = max_bytes;
    const double limit = best_.maximum == dag_unreached ? everything() : best_.maximum * (1 - noise);
    const auto found = search_ideals(merged_by_limit(free, limit), limit, options_.max_ideals, pairs_);
    proven_ = found.complete && found.best.maximum == dag_unreached;
  }

  /// Too many ideals: solves the problem in which the items of the dearest nets are merged, as few as will do.
  bool refine() {
    auto costs = items_.net_cost;
    std::sort(costs.begin(), costs.end());
    costs.erase(std::unique(costs.begin(), costs.end()), costs.end());
    std::size_t low = 0, high = costs.size();  // merging from costs[low] on is enough; from costs[high] on is not
    while (high - low > 1) {
      const auto middle = low + (high - low) / 2;
      (has_few_ideals(merged_by_cost(items_, costs[middle]), max_coarse_ideals) ? low : high) = middle;
    }
    if (costs.empty()) return false;
    const auto coarse = merged_by_cost(items_, costs[low]);
    auto pairs = options_.max_pairs / 2;
    const auto found = search_ideals(coarse, best_.maximum * (1 - noise), max_coarse_ideals, pairs);
    return found.best.maximum != dag_unreached && keep(spread(found.best, coarse), dag_method::ideals);
  }

  const dag_items& items_;
  const dag_options& options_;
  std::uint64_t work_ = 0, pairs_;
  dag_stages best_;
  dag_method method_ = dag_method::chain;
  double lower_;
  bool proven_ = false;
};

failure no_split(const dag_problem& p) {
  bytes total = 0;
  for (const auto& n : p.nodes) total += n.size;
  return fail(errc::does_not_fit, "split",
              text<192>("no pipeline was found that respects the memory of the accelerators and the nodes that only a "
                        "CPU can run; needed are all sizes, available all accelerators"),
              total,
              static_cast<bytes>(std::min<unsigned __int128>(
                  static_cast<unsigned __int128>(p.accelerator_memory) * p.accelerators, max_bytes)));
}

}  // namespace

result<dag_split> split_dag(const dag_problem& p, const dag_options& options) {
  if (auto valid = validate(p); !valid) return valid.propagate();
  dag_split best;
  best.loads.maximum = dag_unreached;
  // Idle items stay apart only where merging them may have cost something.
  for (const bool merge_idle : {true, false}) {
    const auto items = items_of(p, merge_idle);
    if (static_cast<std::size_t>(items.accelerators + 1) * (items.cpus + 1) * (items.count() + 1) > max_dag_cells)
      return fail(errc::capacity, "devices", "too many nodes for so many accelerators and CPUs");
    search s(items, options);
    s.run();
    if (s.best().maximum != dag_unreached) {
      auto found = split_of(p, items, s.best());
      found.method = s.method();
      found.proven = s.proven();
      found.lower_bound = found.proven ? found.loads.maximum : std::min(s.lower_bound(), found.loads.maximum);
      if (found.loads.maximum < best.loads.maximum || found.proven) best = std::move(found);
    }
    if (best.proven || !items.memory_matters) break;
  }
  if (best.loads.maximum == dag_unreached) return no_split(p);
  return best;
}

}  // namespace berth
