// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

export module berth.plan:dag;

import berth.model;

export namespace berth {

/// An operator or layer of a model whose parts form a graph instead of a chain.
struct dag_node {
  std::int64_t id = 0;  ///< as the file numbers it; unique
  std::string name;     ///< informative
  double accelerator_time = 0;
  double cpu_time = 0;
  bytes size = 0;                     ///< memory taken on an accelerator; CPUs are not limited
  double output_cost = 0;             ///< time to move the output between an accelerator and host memory
  std::optional<std::int64_t> color;  ///< nodes of one colour run on one device
  bool backward = false;              ///< part of the backward pass of a training step
  bool on_accelerator = true;         ///< false: only a CPU can run it
};

/// Positions in `dag_problem::nodes`: the output of `from` is an input of `to`.
struct dag_edge {
  std::uint32_t from = 0;
  std::uint32_t to = 0;
};

/// Nodes of one model on `accelerators` equal accelerators and `cpus` equal CPUs. Times share one unit, whatever it is.
/// Devices are numbered accelerators first, then CPUs.
struct dag_problem {
  std::vector<dag_node> nodes;
  std::vector<dag_edge> edges;
  bytes accelerator_memory = 0;  ///< bytes of each accelerator
  std::uint32_t accelerators = 0;
  std::uint32_t cpus = 0;

  std::uint32_t devices() const { return accelerators + cpus; }
};

/// What a split costs.
struct dag_loads {
  /// Per device. Accelerator: times of its nodes + output cost of every outside node that feeds it + output cost of
  /// every own node that feeds the outside, each once. CPU: times of its nodes.
  std::vector<double> load;
  std::vector<bytes> memory;         ///< sum of node sizes per device
  std::vector<std::uint32_t> nodes;  ///< number of nodes per device
  double maximum = 0;
};

/// How the best split was found.
enum class dag_method : std::uint8_t {
  chain,   ///< cut of one topological order
  moves,   ///< a chain cut, improved by moves between devices
  ideals,  ///< dynamic program over all downward closed sets
};

/// "chain", "moves" or "ideals".
constexpr std::string_view name_of(dag_method m) {
  return m == dag_method::chain ? "chain" : m == dag_method::moves ? "moves" : "ideals";
}

struct dag_split {
  std::vector<std::uint32_t> device;  ///< per node
  dag_loads loads;
  /// No split has a smaller maximum (relative 1e-9): equal to `loads.maximum` if `proven`.
  double lower_bound = 0;
  dag_method method = dag_method::chain;
  bool proven = false;
};

struct dag_options {
  /// Topological orders to cut, in addition to those whose number is fixed by the work they take.
  std::uint32_t orders = 24;
  /// Downward closed sets, and pairs of them, that the exact program may look at; 0 turns it off.
  std::uint32_t max_ideals = 200'000;
  std::uint64_t max_pairs = 40'000'000;
};

/// Most nodes that are accepted.
inline constexpr std::size_t max_dag_nodes = 20'000;

/// Checks what every other function here takes for granted: some device, times and costs finite and not negative,
/// edges between different existing nodes, no cycle, no edge from the backward to the forward part. Errors:
/// `invalid_argument`, `overflow` when sizes add up to more than 63 bits, `inconsistent_model` for cycles and edges
/// (naming a node), `capacity`. O(nodes + edges).
result<done> validate(const dag_problem& p);

/// The loads of a split, `device[i]` for node i. Errors: `invalid_plan` for a list of another length, an unknown
/// device or an accelerator that cannot run one of its nodes. Memory and contiguity are not looked at: the loads of
/// a plan that somebody else made are defined anyhow. O(nodes + edges log edges).
result<dag_loads> loads_of(const dag_problem& p, const std::vector<std::uint32_t>& device);

/// True if the split is a pipeline: nodes of one colour together, no accelerator above its memory, and the devices
/// can be put in an order such that every forward edge stays or goes forward (so no path leaves a device and comes
/// back) and every backward edge of a node without a forward partner of its colour stays or goes back. The error
/// says which rule is broken: `invalid_plan`, or `does_not_fit` with bytes. O(nodes + edges log edges).
result<done> check_pipeline(const dag_problem& p, const std::vector<std::uint32_t>& device);

/// Minimises the maximum load over all pipelines (see `check_pipeline`). Several topological orders are cut exactly,
/// moves between devices improve the best, and where the downward closed sets are few enough a dynamic program over
/// them proves the optimum (Tarnawski et al., Efficient Algorithms for Device Placement of DNN Graph Operators,
/// NeurIPS 2020). Deterministic. Errors: those of `validate`, and `does_not_fit` when no split was found that respects
/// the memory. O(orders (nodes^2 + nodes edges)) + the stated bounds of the exact program.
result<dag_split> split_dag(const dag_problem& p, const dag_options& options = {});

}  // namespace berth
