// SPDX-License-Identifier: Apache-2.0
// The subcommands: each takes what was parsed and returns the exit code.
module;

#include <cstdint>
#include <string>
#include <vector>

export module berth.tool:commands;

export namespace tool {

/// What every command that plans needs to know: the model, the machine and what the model is asked to do.
struct question {
  std::string model;
  std::string topology;
  std::string gpu;
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
  unsigned staging_slots = 2;
  std::string context;  ///< token counts as written, "8k"; empty: the default
  std::string batch;
  std::string prompt;
  std::string generate;
  std::string objective;
  std::string placement = "any";
  std::string granularity = "auto";
};

struct plan_arguments : question {
  std::string strategy;
  std::string compat;
  bool offload_buffers = false;
  bool fallback_allocation = false;
  bool explain = false;
  std::string format = "table";
  std::string output;
};
int run_plan(const plan_arguments& a);

struct compare_arguments : question {
  std::string format = "table";
  std::string output;
};
int run_compare(const compare_arguments& a);

struct fit_arguments : question {
  std::string search = "context";  ///< context, batch or machine
  std::string machines;            ///< presets to choose from; empty: all
  double min_tokens_per_second = 0;
  double max_first_token = 0;  ///< s; 0: no limit
  bool allow_offload = false;
  std::string format = "table";
  std::string output;
};
int run_fit(const fit_arguments& a);

struct simulate_arguments : question {
  std::string strategy;
  std::string host_memory = "pinned";
  std::uint64_t rounds = 0;  ///< decode rounds that are run; 0: as many as tokens are generated, within reason
  std::string faults;
  std::uint64_t seed = 1;
  std::uint64_t repeat = 1;
  std::string sweep;  ///< "context=2k..128k"
  std::vector<std::string> fail_on;
  std::string max_first_token;  ///< "2s"
  double min_tokens_per_second = 0;
  std::string baseline;     ///< a berth.report/1 file that this run is compared with
  double max_slowdown = 0;  ///< percent over the baseline
  std::string trace;        ///< files to write
  std::string page;
  std::string program;
  std::string format = "table";
  std::string output;
};
int run_simulate(const simulate_arguments& a);
/// The same for every value of --sweep.
int run_sweep(const simulate_arguments& a);

struct inspect_arguments {
  std::string model;
  std::string format = "table";
  std::string output;
};
int run_inspect(const inspect_arguments& a);

struct quantize_arguments {
  std::string model;
  std::string folder;
  std::string max_shard_size = "5GiB";
  std::string int8_skip;
  std::string format = "table";
};
int run_quantize(const quantize_arguments& a);

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

struct calibrate_arguments {
  std::string topology = "auto";
  std::string gpu;
  std::string folder;  ///< empty: the current one
  double seconds = 5;
  std::string format = "table";
  std::string output;  ///< the topology goes here; the table never does
};
int run_calibrate(const calibrate_arguments& a);

struct load_arguments {
  std::string model;
  std::string plan;
  std::string machine = "auto";  ///< auto, host or cuda
  bool verify = false;
  std::uint64_t rounds = 0;  ///< decode rounds with stand-in work; 0: load only
  int readers = 4;
  std::string offload_folder;
  std::string trace;
  std::string format = "table";
  std::string output;
};
int run_load(const load_arguments& a);

}  // namespace tool
