// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

module berth.plan;

namespace berth {
namespace {

/// The best split so far over all methods.
class search {
 public:
  search(const dag_items& items, const dag_options& options) : items_(items), options_(options) {}

  void run() {
    const auto orders = order_count();
    for (std::uint32_t kind = 0; kind < orders; ++kind) {
      cut(topological_order(items_, kind), dag_method::chain);
      if (kind + 1 == dag_named_orders || kind + 1 == orders) climb();
    }
    if (bound_reached()) return;
    prove();
  }

  const dag_stages& best() const { return best_; }
  dag_method method() const { return method_; }
  bool proven() const { return proven_; }

 private:
  /// A large graph gets fewer orders, since each takes time that grows with its square.
  std::uint32_t order_count() const {
    const double work = static_cast<double>(items_.count()) * static_cast<double>(items_.count() + 1) *
                        static_cast<double>(items_.accelerators + 1) * (items_.cpus + 1);
    const double affordable = max_chain_work / std::max(work, 1.0);
    const auto all = dag_named_orders + options_.orders;
    return affordable >= all ? all : std::max<std::uint32_t>(3, static_cast<std::uint32_t>(affordable));
  }

  void keep(dag_stages&& found, dag_method how) {
    if (found.maximum >= best_.maximum) return;
    best_ = std::move(found);
    method_ = how;
  }
  void cut(const std::vector<dag_index>& order, dag_method how) { keep(cut_order(items_, order, best_.maximum), how); }

  /// Moves, then a new cut of orders that keep the stages together, as long as that helps.
  void climb() {
    for (std::uint32_t round = 0; round < 8 && best_.maximum != dag_unreached; ++round) {
      const double before = best_.maximum;
      auto moved = best_;
      improve(items_, moved, 16);
      keep(dag_stages(moved), dag_method::moves);
      for (std::uint32_t kind = 0; kind < 6; ++kind) cut(stage_order(items_, moved, kind), dag_method::moves);
      if (best_.maximum >= before) return;
    }
  }

  bool bound_reached() {
    proven_ = best_.maximum <= work_bound(items_) * (1 + 1e-12);
    return proven_;
  }

  void prove() {
    const auto small = merged_by_cost(items_, best_.maximum);
    auto found = search_ideals(small, best_.maximum * (1 - 1e-12), options_);
    proven_ = found.complete;
    if (found.best.maximum >= best_.maximum) return;
    dag_stages of_items;
    of_items.is_cpu = found.best.is_cpu;
    of_items.maximum = found.best.maximum;
    of_items.stage.resize(items_.count());
    for (std::size_t n = 0; n < items_.item_of_node.size(); ++n)
      of_items.stage[items_.item_of_node[n]] = found.best.stage[small.item_of_node[n]];
    keep(std::move(of_items), dag_method::ideals);
  }

  const dag_items& items_;
  const dag_options& options_;
  dag_stages best_;
  dag_method method_ = dag_method::chain;
  bool proven_ = false;
};

}  // namespace

result<dag_split> split_dag(const dag_problem& p, const dag_options& options) {
  if (auto valid = validate(p); !valid) return valid.propagate();
  const auto items = items_of(p);
  search s(items, options);
  s.run();
  auto out = split_of(p, items, s.best());
  out.method = s.method();
  out.proven = s.proven();
  return out;
}

}  // namespace berth
