// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>

export module berth.exec:requests;

import berth.base;
import berth.topology;
import :handles;

export namespace berth {

/// Names an operation in traces and errors: the number that the submitter gave it.
using op_tag = std::uint32_t;
inline constexpr op_tag no_tag = 0xffffffffu;

/// Where a launch finds and leaves what it works on; ranges of size 0 where there is nothing. `in` is the activation
/// that the atom before has left (or that arrived from its device), `out` the place for its own: the same bytes unless
/// the activation leaves the device, so results are written when the input is no longer needed. Both lie in
/// `workspace`, whose other bytes are scratch.
template <class Memory>
struct work_memory {
  Memory weights{};    ///< the atom's weights: where they stay, or their staging slot
  Memory state{};      ///< its KV cache or recurrent state
  Memory workspace{};  ///< what atoms of a device use one after the other
  Memory in{}, out{};

  friend constexpr bool operator==(const work_memory&, const work_memory&) = default;
};
/// Bytes in memory. Simulated machines have none: `data` is null.
struct memory_view {
  std::byte* data = nullptr;
  bytes size = 0;
};

/// What a callable of a launch is told.
struct work_call {
  device_index device = no_index;
  void* native_stream = nullptr;  ///< CUDA: the cudaStream_t; simulator and host: null
  op_tag tag = no_tag;
  work_memory<memory_view> memory{};
};
/// A callable as a value: no allocation, no ownership. `run` may be null: nothing to do.
struct work {
  void* context = nullptr;
  void (*run)(void* context, const work_call& call) = nullptr;

  void operator()(const work_call& call) const {
    if (run != nullptr) run(context, call);
  }
};

/// Work on the compute engine of a stream's device: the callable, and what it costs. Real machines use the callable,
/// simulated ones the cost: the device's overhead + max(flops / rate of `compute`, touched / memory rate).
struct launch_request {
  berth::work work{};
  double flops = 0;
  double touched = 0;           ///< bytes of device memory read and written
  dtype compute = dtype::bf16;  ///< arithmetic, which decides the rate
  picoseconds delay = 0;        ///< extra time on a simulated machine (faults)
  double slowdown = 1;          ///< factor on the time on a simulated machine (faults)
  op_tag tag = no_tag;
  work_memory<buffer_range> memory{};  ///< what the callable is to see
};

/// How a copy travels: by a copy engine, one at a time per direction; or as a message that a kernel writes to the other
/// device (activations: small, latency counts), which needs no copy engine but shares the links.
enum class transfer_kind : std::uint8_t { copy, message };

/// A copy between two buffers, in the order of a stream; sizes are equal.
struct copy_request {
  buffer_range from{}, to{};
  transfer_kind kind = transfer_kind::copy;
  picoseconds delay = 0;  ///< extra time on a simulated machine (faults)
  op_tag tag = no_tag;
};

/// A read from storage into a buffer, in the order of a stream. Without a route from the disk to the device the bytes
/// pass through host memory.
struct read_request {
  storage_range from{};
  buffer_range to{};
  picoseconds delay = 0;  ///< extra time on a simulated machine (faults)
  op_tag tag = no_tag;
};

}  // namespace berth
