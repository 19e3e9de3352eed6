// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <vector>

export module berth.plan:dag_latency;

import berth.model;
import :dag;

export namespace berth {

/// One pass through the graph when nothing overlaps with another pass: an accelerator starts when all inputs of all its
/// nodes are there, and its outputs are there when all its nodes are done (loads as in `dag_loads`); a node on a CPU
/// starts when its own inputs are there, on as many CPUs as are needed. `device[i]` at or above `p.accelerators`
/// means a CPU. Errors: those of `loads_of`, `invalid_plan` if accelerators and CPU nodes wait for each other,
/// `unsupported` for training graphs. O(nodes + edges log edges).
result<double> latency_of(const dag_problem& p, const std::vector<std::uint32_t>& device);

struct dag_latency_split {
  std::vector<std::uint32_t> device;  ///< per node; `p.accelerators` for all nodes on CPUs
  double latency = 0;
};

/// A split with a low latency that respects colours and memory. CPUs are not counted (`p.cpus` is ignored). Not exact:
/// topological orders are cut so that the sum over stages is least; from the best of them, and from the split for
/// throughput, items are moved. Never worse than the split for throughput. Deterministic. Errors: those of `validate`;
/// `unsupported` for training graphs. O(orders (nodes^2 + nodes edges) accelerators + moves (nodes + edges)), the
/// number of moves is bounded.
result<dag_latency_split> split_for_latency(const dag_problem& p);

}  // namespace berth
