// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <span>

export module berth.cuda:machine_options;

import berth.base;
import berth.topology;
import berth.exec;

export namespace berth::cuda {

/// Which CUDA device a GPU of the topology is.
struct device_ordinal {
  device_id device;
  int ordinal = 0;
};

/// A stream of the caller's that the machine uses instead of making one, and does not destroy.
struct adopted_stream {
  device_id device;
  void* stream = nullptr;  ///< cudaStream_t, of the device's context
};

/// Pinned memory that disk reads, copies from and to pageable memory and copies between GPUs without peer access pass
/// through, per GPU, taken when the first of them comes.
struct staging_options {
  bytes size = 64 * MiB;
  std::uint32_t slots = 4;
};

/// What the machine keeps track of at once; what exceeds one fails with `capacity` before anything is called.
struct machine_bounds {
  std::uint32_t streams = 256;
  std::uint32_t events = 8192;
  std::uint32_t buffers = 4096;
  std::uint32_t host_work = 4096;  ///< host functions that have not run
  std::uint32_t pending = 8192;    ///< frees, and activities that are timed, that are not over
};

/// Spans are copied by the machine.
struct machine_options {
  berth::storage storage{};                    ///< what `read` and `checksum(storage_range)` read
  std::span<const device_ordinal> ordinals{};  ///< GPUs that are not named by their CUDA number
  std::span<const adopted_stream> streams{};   ///< handed out by `make_stream` before new ones are made
  staging_options staging{};
  cuda::machine_bounds bounds{};
  /// Never choose a device: work in the context that is current in the calling thread, which belongs to the only GPU
  /// that is used.
  bool current_context = false;
  bool timing = true;  ///< tell an observer of streams' activities, with CUDA events around each
};

}  // namespace berth::cuda
