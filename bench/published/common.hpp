// SPDX-License-Identifier: Apache-2.0
// What the parts of berth_bench_published share: chains and machines, the rows of both tables, and `predict`.
// Include last: it imports.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "rows.hpp"

import berth;
import berth.formats;

namespace published {

// --- models and machines (machine.cpp) ---

/// How weights are stored. `q4_k_m` is llama.cpp's mixture of Q4_K, Q5_K and Q6_K blocks.
enum class format { native, q4_k_m };

/// One atom as the library costs it, its parts kept apart so that a calibration can weigh them.
struct work {
  std::string name;
  berth::atom_kind kind = berth::atom_kind::other;
  berth::dtype compute = berth::dtype::f16;
  berth::bytes weights = 0;
  double read = 0;       ///< weight bytes that one pass reads
  double unpacked = 0;   ///< bytes moved when quantized matrices are unpacked to 16 bits: read once, written once
  double products = 0;   ///< FLOPs of matrix products in prefill
  double attention = 0;  ///< FLOPs of attention in prefill
  double state = 0;      ///< state bytes that a decode step moves
  std::array<double, 2> out{};
  double step_flops = 0;  ///< FLOPs of a decode step
  bool tied = false;
};
struct costed_chain {
  std::vector<work> atoms;
  double hidden = 0;
  std::uint64_t layers = 0;
};

/// The chain of a model for a workload. Costed twice: without tokens, only weights remain.
costed_chain chain_of(std::string_view name, std::string_view dtype, format stored, const berth::workload& w);

/// Where times come from. Fits ask thousands of times and take the planner's prices; every printed prediction is a run
/// on the simulated machine. For resident plans both agree to a picosecond per operation.
enum class source { planner, simulator };

/// What may be fitted on a machine. Bandwidths in bytes/s, times in seconds.
struct rates {
  double bandwidth = 0;          ///< of GPU memory, weights
  double flops = 0;              ///< matrix products
  double overhead = 0;           ///< per atom
  double state_reads = 1;        ///< traffic of a cache read in decode over its size
  double half_width = 0;         ///< hidden width at which products reach half of their limit; `flops` is at 4096
  double attention_share = 1;    ///< rate of attention in prefill over that of products
  double hop = 0;                ///< per message between GPUs
  double hop_bandwidth = 1e12;   ///< of such a message
  double launches = 0;           ///< kernels per block in prefill; a GPU's queue takes 1024
  double start = 0;              ///< what starting the pipeline of micro-batches costs, as a share of one pass
  double host_to_device = 1e12;  ///< CPU to GPU 0
  double disk = 1e12;            ///< disk to CPU
  source times = source::planner;
};

/// `gpus` equal GPUs, a CPU and a disk. Memory is no limit: the rows ran.
berth::topology machine_of(std::size_t gpus, const rates& r);

/// Where each atom lives.
using places = std::vector<berth::device_id>;

/// The one place where times come from: a model in a given placement. Parts on the CPU or the disk stream to the first
/// GPU.
berth::plan_times predict(const berth::model& m, const berth::topology& machine, const places& at,
                          const berth::workload& w, std::uint32_t staging_slots, source times);

// --- llama.cpp, split by layers (split.cpp) ---

struct split_row {
  std::string gpu, host, model;
  std::size_t gpus = 1;
  format stored = format::native;
  bool decode = false;
  std::uint64_t tokens = 0, micro_batch = 512;
  double measured = 0;
  double file_gib = 0;  ///< of the GGUF file
  costed_chain chain;
  bool fitted = false;
  double predicted = 0, plain = 0;  ///< tokens/s; `plain` without unpacking

  std::string test() const { return (decode ? "tg" : "pp") + std::to_string(tokens); }
  double error() const { return predicted / measured - 1; }
};

std::vector<split_row> read_split(const table& t);
/// Rates per GPU from the rows marked `fitted`.
std::map<std::string, rates> fit_split(const std::vector<split_row>& rows);
/// Tokens per second of a row. Decode: one stream, tokens 0 to n. Prefill: micro-batches, each counted as the average
/// one, because later ones attend to more. `unpack`: quantized matrices are unpacked for each micro-batch.
double tokens_per_second(const split_row& row, const rates& r, bool unpack = true);

// --- offloading (offload.cpp) ---

struct offload_row {
  std::string set, model, dtype, framework, placement, metric, printed;
  std::size_t gpus = 1;
  std::uint64_t batch = 1, prompt = 0, generate = 0;
  double measured = 0, predicted = 0;
  std::string fitted;    ///< what was fitted on this row
  std::string left_out;  ///< why it is not predicted
  costed_chain chain;

  bool scored() const { return left_out.empty(); }
  bool within(double low, double high) const {
    const double ratio = predicted / measured;
    return (ratio >= low && ratio <= high) || std::abs(predicted - measured) <= half_digit(printed);
  }
};

/// Constants of the machines that hold the offloading rows. Bytes/s and seconds.
struct constants {
  double v100_host = 1.1e10, v100_disk = 6e9, t4_host = 1.1e10, titan_host = 6e9, titan_disk = 2e9;
  double eager = 5e-4;        ///< per atom where PyTorch modules run one by one under accelerate's hooks
  double titan_load = 1.5e9;  ///< checkpoint to memory
  source times = source::planner;
};

inline constexpr double t4_disk = 2e9;  ///< as the FlexGen paper states; not fitted

std::vector<offload_row> read_offload(const table& t);
/// One constant per machine and kind, each on one row, which it marks.
constants fit_offload(std::vector<offload_row>& rows);
/// The figure of a row: seconds per token, tokens/s or seconds to load.
double offload_value(const offload_row& row, const constants& c);

}  // namespace published
