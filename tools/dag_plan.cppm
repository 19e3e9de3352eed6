// SPDX-License-Identifier: Apache-2.0
// `berth plan` for a graph of operators instead of a model.
module;

#include <optional>

export module berth.tool:dag_plan;

import :commands;

export namespace tool {

/// Splits the graph in `a.model` and writes the answer; returns the exit code. Nothing if the file is no device
/// placement workload (docs/dag.md): then it is for the other readers. Standard input is never one.
std::optional<int> run_dag_plan(const plan_arguments& a);

}  // namespace tool
