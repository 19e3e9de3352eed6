// SPDX-License-Identifier: Apache-2.0
// What a machine keeps of its streams, events, memory and host functions. Internal.
module;

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory_resource>
#include <vector>

export module berth.cuda:machine_state;

import berth.base;
import berth.topology;
import berth.exec;

namespace berth::cuda::detail {

inline constexpr std::uint32_t none = 0xffffffffu;

/// A mark that streams of any GPU can record: CUDA events belong to a GPU, so there is one per GPU that recorded it.
/// Records inside of captures use events of their own, so that the record outside, which still counts until the graph
/// is launched, is not lost.
struct mark {
  enum class kind : std::uint8_t { never, eager, graph };
  struct events {
    std::pmr::vector<void*> natives;  ///< by position of the GPU; null until it records
    void* latest = nullptr;
    std::uint32_t stream = none;  ///< that recorded it
    std::uint64_t serial = 0;     ///< of the record; of `inside`: of the capture

    events(std::size_t gpus, std::pmr::memory_resource* memory) : natives(gpus, nullptr, memory) {}
  };
  mark(std::size_t gpus, std::pmr::memory_resource* memory) : outside(gpus, memory), inside(gpus, memory) {}

  events outside, inside;
  kind state = kind::never;    ///< of `outside`; `graph`: the end of a launched graph that recorded it
  std::uint32_t graph = none;  ///< of `graph`
};

/// What a host function could not do. Written by the thread that ran it, read when `set`.
struct late_failure {
  std::atomic<bool> set{false};
  error why;

  /// The first one stays.
  void put(const error& e) {
    if (set.load(std::memory_order_acquire)) return;
    why = e;
    set.store(true, std::memory_order_release);
  }
};

/// A host function in a stream: a launch on the CPU, a copy within host memory, or a read from storage.
struct host_work {
  berth::work callable{};
  work_call call{};
  const std::byte* from = nullptr;  ///< of a copy
  std::byte* to = nullptr;          ///< of a copy and of a read
  bytes size = 0;
  const berth::storage* store = nullptr;  ///< of a read
  storage_range stored{};
  late_failure* failed = nullptr;
  std::atomic<bool> busy{false};

  void run();
};
/// What CUDA calls.
void run_host_work(void* context);

/// Host functions outside of captures: a fixed pool. The driver's threads mark what has run; it is collected when the
/// list of unused ones is empty.
class host_work_pool {
 public:
  host_work_pool(std::uint32_t bound, std::pmr::memory_resource* memory) : all_(bound, memory), unused_(memory) {
    unused_.reserve(bound);
  }
  /// Null: all are in streams.
  host_work* take();

 private:
  std::pmr::deque<host_work> all_;
  std::pmr::vector<host_work*> unused_;
};

struct stream_state {
  device_index device = no_index;  ///< as asked for
  device_index gpu = no_index;     ///< whose native stream it is
  std::uint32_t index = none;      ///< in the machine's list
  void* native = nullptr;
  bool adopted = false;
  bool helper = false;         ///< the machine's own
  std::uint64_t items = 0;     ///< submitted outside of captures
  std::uint32_t after = none;  ///< a launched graph that its next item has to wait for
  std::uint64_t joined = 0;    ///< the capture that it takes part in
  std::uint64_t swept = 0;     ///< the sweep in which an item of it was found unfinished
  mark tail;                   ///< for those that wait for all of it
  late_failure failed;

  stream_state(std::uint32_t i, device_index d, device_index g, std::size_t gpus, std::pmr::memory_resource* memory)
      : device(d), gpu(g), index(i), tail(gpus, memory) {}
};

enum class place : std::uint8_t { gpu, pinned, pageable };

struct buffer_state {
  device_index device = no_index;
  bytes size = 0;   ///< as asked
  bytes taken = 0;  ///< rounded up
  std::byte* data = nullptr;
  place where = place::gpu;
  bool live = false;
};

struct staging_slot {
  std::byte* data = nullptr;
  mark filled, free;
  explicit staging_slot(std::size_t gpus, std::pmr::memory_resource* memory)
      : filled(gpus, memory), free(gpus, memory) {}
};

/// Pinned slots of a GPU, used in turn.
struct staging_ring {
  explicit staging_ring(std::pmr::memory_resource* memory) : slots(memory) {}
  void* memory = nullptr;
  bytes slot_size = 0;
  std::pmr::deque<staging_slot> slots;
  std::size_t next = 0;
};

/// A GPU of the topology, by its position there.
struct gpu_state {
  explicit gpu_state(std::pmr::memory_resource* memory) : ring(memory), timers(memory) {}
  int ordinal = -1;  ///< -1: not a GPU, or one without a number
  bool touched = false;
  std::uint32_t helper = none;  ///< stream for the other half of staged transfers
  staging_ring ring;
  std::pmr::vector<void*> timers;  ///< unused events, with timing if the machine times
  void* base = nullptr;            ///< an event whose time is known
  picoseconds base_time = 0;
};

/// Something whose end has to be noticed: an activity to tell of, memory to give back, or both.
struct pending {
  activity what;
  device_index gpu = no_index;
  void* start = nullptr;  ///< timers; no `start`: an instant
  void* end = nullptr;
  buffer_state memory{};  ///< `live`: to be freed
  bool over = false;
};

/// A recorded graph, with everything that it needs as long as it may run.
struct graph_state {
  graph_state(std::size_t gpus, std::pmr::memory_resource* memory) : end(gpus, memory) {}

  void* executable = nullptr;
  std::uint32_t slot = none;    ///< in the machine's list
  std::deque<host_work> work;   ///< of its host functions
  std::vector<mark*> recorded;  ///< whose latest record is its end once it was launched
  /// What a launch has to wait for: earlier items of the streams that took part, and marks that
  /// were recorded outside. `seen` says up to where `by` has waited already.
  struct before_stream {
    std::uint32_t stream = none;
    std::uint64_t seen = 0;
    std::uint32_t by = none;
  };
  struct before_mark {
    mark* what = nullptr;
    std::uint64_t seen = 0;
    std::uint32_t by = none;
  };
  std::vector<before_stream> streams;
  std::vector<before_mark> marks;
  mark end;
  void* machine = nullptr;  ///< null once that is gone
  void (*release)(void* machine, graph_state& g) = nullptr;
};

}  // namespace berth::cuda::detail
