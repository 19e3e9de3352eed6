// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

export module berth.cuda:measure;

import berth.base;
import berth.topology;
import :errors;
import :kernel_table;
import :machine_options;
import :runtime_table;

export namespace berth::cuda {

/// One measured quantity: the median of its repetitions, and their extremes.
struct gpu_figure {
  double value = 0;
  double low = 0;
  double high = 0;
  int repetitions = 0;
  /// (high - low) / value
  double spread() const { return value > 0 ? (high - low) / value : 0; }
};

/// Dense products by a library of others: c = a * b, matrices of n x n bf16. `open` prepares them for the current
/// device (null: it cannot), `multiply` enqueues one and returns 0, `close` takes what `open` gave.
struct matrix_library {
  void* (*open)(std::size_t n) = nullptr;
  int (*multiply)(void* opened, const void* a, const void* b, void* c, void* workspace, std::size_t workspace_size,
                  void* stream) = nullptr;
  void (*close)(void* opened) = nullptr;
};
/// cuBLASLt where it can be loaded (libcublasLt.so of CUDA 13 or 12; it stays loaded). Nothing otherwise: a machine
/// with only a driver has none.
std::optional<matrix_library> load_matrix_library();

/// What one GPU does. Rates in bytes/s or operations/s, times in seconds. Figures with 0 repetitions were not measured.
struct gpu_figures {
  device_id device;
  int ordinal = 0;
  gpu_figure to_device, from_device;                    ///< 64 MiB from and to pinned memory
  gpu_figure pageable_to_device, pageable_from_device;  ///< the same through the driver's own staging
  gpu_figure memory;                                    ///< our copy kernel, bytes read and bytes written both counted
  gpu_figure gemv_bf16, gemv_int8;  ///< bytes of weights per second that our products with one input read
  gpu_figure products_int8;         ///< operations/s of our LLM.int8 product (dp4a; no tensor cores)
  gpu_figure products_bf16;         ///< FLOP/s of the matrix library
  gpu_figure setup;                 ///< one small copy after the other, from pinned memory
  gpu_figure launch;                ///< one empty kernel after the other
  gpu_figure hop;                   ///< a message of 8 KiB between GPU and a host function, one way
};

/// Copies from one GPU to another.
struct peer_figures {
  device_id from, to;
  bool direct = false;  ///< peer access; else the driver stages in host memory
  gpu_figure rate;      ///< bytes/s
  gpu_figure hop;       ///< s: a message of 8 KiB, one way
};

struct measured_gpus {
  std::vector<gpu_figures> gpus;
  std::vector<peer_figures> peers;
  std::vector<std::string> notes;  ///< what a user should know about the figures, in sentences
};

struct measure_options {
  std::function<picoseconds()> now{};  ///< any clock that never goes back; empty: the steady clock of the system
  double seconds = 5;                  ///< per GPU, copies to its peers included; in (0, 60]
  std::span<const device_ordinal> ordinals{};  ///< GPUs that are not named by their CUDA number
  std::optional<matrix_library> matrices{};
};

/// Measures the CUDA GPUs of a topology, one after the other, with CUDA's events, in plain device memory (at most an
/// eighth of what is free, 512 MiB) and 64 MiB of pinned memory. Each figure repeats for its share of the time, at
/// least three times after a warm-up. Everything taken is given back. Errors: those of the calls; `unavailable` if a
/// clock stands still; `invalid_argument` for `seconds`.
result<measured_gpus> measure_gpus(const runtime_table& cuda, const kernel_table& kernels, const topology_view& machine,
                                   const measure_options& options);

/// Kernels that a decoder block takes; what is measured is one launch, what `device::overhead` means is an atom's.
inline constexpr double kernels_per_atom = 12;

/// `t` with the measured figures as rates that are reached in full (efficiency 1). Memory rate: the fastest of copy and
/// products. bf16: the matrix library's, where it was measured; other types keep what was reached of them. A segment
/// that only one GPU uses gets its measured rate; shared ones are only raised. Errors: `unknown_device`,
/// `invalid_topology`.
result<topology> calibrated(const topology& t, const measured_gpus& m);

}  // namespace berth::cuda
