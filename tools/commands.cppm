// SPDX-License-Identifier: Apache-2.0
// The subcommands: each takes what was parsed and returns the exit code.
module;

#include <string>
#include <vector>

export module berth.tool:commands;

export namespace tool {

struct plan_arguments {
  std::string model;
  std::string topology;
  std::string gpu;
  std::string strategy;
  std::string compat;
  std::string max_memory;
  std::string reserve;
  std::string offload_folder;
  std::string dtype;
  std::vector<std::string> tensor_dtypes;
  std::string quantize;
  std::string int8_skip;
  std::string no_split;
  std::vector<std::string> pins;
  std::string complete;
  bool offload_buffers = false;
  bool fallback_allocation = false;
  unsigned staging_slots = 2;
  std::string format = "table";
  std::string output;
};
int run_plan(const plan_arguments& a);

struct inspect_arguments {
  std::string model;
  std::string format = "table";
  std::string output;
};
int run_inspect(const inspect_arguments& a);

struct topology_arguments {
  std::string topology = "auto";
  std::string gpu;
  bool list = false;
  std::string format = "table";
  std::string output;
};
int run_topology(const topology_arguments& a);

struct check_arguments {
  std::string plan;
  std::string model;
};
int run_check(const check_arguments& a);

}  // namespace tool
