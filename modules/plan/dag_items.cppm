// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

// Internal: what the solvers of :dag work on.
module berth.plan:dag_items;

import berth.model;
import :dag;

namespace berth {

using dag_index = std::uint32_t;
inline constexpr double dag_unreached = std::numeric_limits<double>::infinity();

/// Rows of indices of different length, in one array.
class dag_rows {
 public:
  dag_rows() = default;
  /// Row and value of each entry; values are sorted within a row and equal ones kept once.
  dag_rows(std::size_t rows, std::vector<std::pair<dag_index, dag_index>> entries);

  std::span<const dag_index> operator[](std::size_t row) const {
    return std::span(values_).subspan(start_[row], start_[row + 1] - start_[row]);
  }
  std::size_t rows() const { return start_.size() - 1; }

 private:
  std::vector<std::size_t> start_{0};
  std::vector<dag_index> values_;
};

/// The problem after nodes that stay together became one item. Items are numbered in a topological order of
/// `successors`; a pipeline gives each device a set of items such that no device's items precede an earlier device's.
///
/// A net stands for the output of one node (equal nets are added up): the items that make or use it. An accelerator
/// pays a net once if some of the net's items lie on it and some do not, which is the load rule of `dag_loads`.
struct dag_items {
  std::vector<double> accelerator_time, cpu_time;
  std::vector<bytes> size;
  std::vector<std::uint8_t> on_accelerator;
  dag_rows successors, predecessors;
  dag_rows nets;     ///< net -> items, at least two
  dag_rows nets_of;  ///< item -> nets
  std::vector<double> net_cost;
  std::vector<dag_index> item_of_node;
  bytes accelerator_memory = 0;
  std::uint32_t accelerators = 0, cpus = 0;  ///< at most as many as there are items
  /// Every optimum of the problem with unlimited memory is still there, but maybe not with the given memory.
  bool memory_matters = false;

  std::size_t count() const { return size.size(); }
};

/// Most cells of a table over devices used and prefixes or ideals; 16 bytes each.
inline constexpr std::size_t max_dag_cells = 8'000'000;

/// The edges along which stages must not go back; see `check_pipeline`.
std::vector<std::pair<dag_index, dag_index>> precedence_edges(const dag_problem& p);

/// One item per node.
dag_items plain_items(const dag_problem& p);

/// Items of a valid problem: colours and cycles between them merged and, if `merge_idle`, items without any time merged
/// into their only neighbour. O((nodes + edges) log) for each of the few rounds.
dag_items items_of(const dag_problem& p, bool merge_idle);

/// Merges items with equal labels, then whatever lies on a cycle. Labels are items.
dag_items merged(const dag_items& items, const std::vector<dag_index>& label);

/// Merges what a split with a maximum load below `limit` cannot separate: items of a net that costs too much.
dag_items merged_by_limit(const dag_items& items, double limit);

/// Merges the items of every net that costs at least `cost`: a coarser problem, whose splits are splits of this one.
dag_items merged_by_cost(const dag_items& items, double cost);

/// Sums over one set of items that grows, and shrinks in the reverse order.
class dag_set {
 public:
  struct sums {
    double accelerator = 0, cpu = 0, nets = 0;
    bytes size = 0;
    std::uint32_t cpu_only = 0;
  };
  explicit dag_set(const dag_items& items) : items_(items), inside_(items.net_cost.size()) {}

  void add(dag_index item);
  /// Takes back the last `add`, given the sums before it (so that nothing is lost to rounding).
  void undo(dag_index item, const sums& before);
  const sums& now() const { return sums_; }

  /// Load on an accelerator, infinite if it cannot hold the set; and a bound on that of every larger set.
  double accelerator_load() const { return fits() ? sums_.accelerator + sums_.nets : dag_unreached; }
  double accelerator_bound() const { return fits() ? sums_.accelerator : dag_unreached; }
  double cpu_load() const { return sums_.cpu; }

 private:
  bool fits() const { return sums_.cpu_only == 0 && sums_.size <= items_.accelerator_memory; }

  const dag_items& items_;
  std::vector<dag_index> inside_;  ///< per net
  sums sums_;
};

/// A sequence of devices (true: a CPU) and the position of each item's device in it.
struct dag_stages {
  std::vector<std::uint8_t> is_cpu;
  std::vector<dag_index> stage;
  double maximum = dag_unreached;
};

/// Device of each node, and the problem's own loads.
dag_split split_of(const dag_problem& p, const dag_items& items, const dag_stages& stages);

/// A topological order of the items; `kind` chooses the rule, kinds above the named rules vary the last one.
std::vector<dag_index> topological_order(const dag_items& items, std::uint32_t kind);
inline constexpr std::uint32_t dag_named_orders = 10;

/// A topological order that keeps the stages of a split one after the other, `kind` as above within a stage.
std::vector<dag_index> stage_order(const dag_items& items, const dag_stages& stages, std::uint32_t kind);

/// The best cut of one topological order into stages with a maximum below `limit`; `maximum` is infinite if there is
/// none. Exact for the order. Adds the steps it took to `work`: O(items^2 (devices + nets of an item)).
dag_stages cut_order(const dag_items& items, const std::vector<dag_index>& order, double limit, std::uint64_t& work);

/// Moves items, alone or with what must follow, to other stages while that lowers the maximum (or, at the same
/// maximum, the sum of squares). At most `rounds` passes.
void improve(const dag_items& items, dag_stages& stages, std::uint32_t rounds);

/// No split has a smaller maximum: work over all devices, and the largest item.
double work_bound(const dag_items& items);

/// Accelerator time that `cpus` CPUs can take over within `limit` each, splitting items at will.
double cpu_share(const dag_items& items, std::uint32_t cpus, double limit);

struct dag_search {
  dag_stages best;        ///< maximum below the limit, or infinite
  bool complete = false;  ///< nothing below the limit was overlooked
};
/// Exact: the best split below `limit` among all, by a dynamic program over downward closed sets. Gives up (not
/// complete) when there are more than `max_ideals`, or when `pairs`, from which it takes every pair it looks at, is 0.
dag_search search_ideals(const dag_items& items, double limit, std::size_t max_ideals, std::uint64_t& pairs);

bool has_few_ideals(const dag_items& items, std::size_t most);

}  // namespace berth
