// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <string>
#include <string_view>

export module berth.formats:dag_json;

import berth.plan;
import :json;

export namespace berth {

/// True for an object with "nodes", "edges" and "maxFPGAs": a device placement workload (docs/dag.md).
bool is_dag(const json::value& document);

/// Reads a device placement workload as published with "Efficient Algorithms for Device Placement of DNN Graph
/// Operators": `maxSizePerFPGA` (bytes), `maxFPGAs`, `maxCPUs`, `nodes` (`id`, `supportedOnFpga`, `cpuLatency`,
/// `fpgaLatency`, `isBackwardNode`, `size`, optionally `colorClass` and `name`) and `edges` (`sourceId`, `destId`,
/// `cost`, the same on all edges out of one node). Other members are left alone. Sizes with a fraction are rounded up,
/// the memory of an accelerator down.
/// Errors: `malformed` with the node or edge for a missing member, a wrong type, a number that is negative or too
/// large, an id given twice, an edge of an unknown node, differing costs; those of `validate`. Linear.
result<dag_problem> read_dag(const json::value& document, std::string_view what);

/// "0", "1", ... for accelerators; "cpu", or "cpu0", "cpu1", ... where there are several.
std::string dag_device_id(const dag_problem& p, std::uint32_t device);

/// A `berth.dag_plan/1` document (docs/dag.md); nodes by the ids of the workload, in its order.
json::value write_dag_split(const dag_problem& p, const dag_split& split);

}  // namespace berth
