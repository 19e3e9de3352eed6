// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <vector>

export module berth.host:machine;

import berth.base;
import berth.topology;
import berth.exec;
import :mapped_memory;
import :stream_queues;

export namespace berth::host {

/// What a machine of host memory is made with, and what it is bounded by.
struct machine_options {
  berth::storage storage{};  ///< where reads come from
  /// Threads that carry out what streams have to do. 0: none; `ready` does one item of it on the caller's thread and
  /// `synchronize` does what it waits for.
  int threads = 0;
  std::uint32_t streams = 256;
  std::uint32_t events = 65'536;
  std::uint32_t buffers = 4096;  ///< live, or freed on a stream that has not got there
  std::uint32_t items = 65'536;  ///< submitted and not completed, of all streams
};

/// A machine whose devices, whatever they are in its topology, are memory and threads of this computer: it carries a
/// plan out with real bytes, real copies and real work. The devices' `free` memory is what there is of it (rounded by
/// granularity, shared pools counted once, as on the simulated machine); it is taken from the system page by page when
/// it is first touched. Routes, rates and delays of the topology mean nothing here.
///
/// Work and storage are called on the machine's threads, or on the caller's if it has none; they must not throw and
/// must not call the machine. Observers are called on the caller's thread, within later calls of the machine, in the
/// order of the ends; times are of the steady clock. Memory that a stream has freed is given back within the next call.
///
/// Errors of what runs (`read` from storage) come from `ready` and `synchronize` of whatever is behind it: the stream
/// carries nothing out any more and keeps the error, also for events recorded on it and streams that wait for these.
/// Other streams, and new ones, are not concerned. `capacity` where a bound is reached.
class machine {
 public:
  /// The topology must outlive the machine.
  machine(topology_view t, const machine_options& options,
          std::pmr::memory_resource* memory = std::pmr::get_default_resource());
  machine(const machine&) = delete;
  machine& operator=(const machine&) = delete;
  /// Waits for what is being carried out; what has not begun never will. All memory is given back.
  ~machine() = default;

  topology_view topology() const { return topology_; }
  result<stream_id> make_stream(device_index device);
  result<event_id> make_event();
  /// Pinned memory of a CPU is locked; where the system does not allow that, it is pageable, see `warnings`.
  result<buffer_id> allocate(device_index device, bytes size, memory_kind kind);
  result<done> deallocate(stream_id stream, buffer_id buffer);
  result<done> copy(stream_id stream, const copy_request& r);
  result<done> read(stream_id stream, const read_request& r);
  result<done> launch(stream_id stream, const launch_request& r);
  result<done> record(stream_id stream, event_id event);
  result<done> wait(stream_id stream, event_id event);
  result<bool> ready(event_id event);
  result<done> synchronize(stream_id stream);
  result<done> synchronize(event_id event);
  /// XXH3 of the bytes (64 bits). What writes to them must have completed.
  result<std::uint64_t> checksum(const buffer_range& r);
  /// Reads the stored bytes, 1 MiB at a time. Errors: those of the storage.
  result<std::uint64_t> checksum(const storage_range& r);
  picoseconds now() const { return queues_.now(); }
  picoseconds next_time() const { return never; }
  void advance_to(picoseconds) {}
  void observe(observer o);
  void* native(stream_id) { return nullptr; }
  /// Aligned to a page; null for a buffer of size 0 or one that is not live.
  std::byte* address(buffer_id buffer);

  /// As many as asked for, or what the system gave.
  int threads() const { return queues_.threads(); }
  bytes used(device_index device) const { return pools_[owner_of(device)].used; }
  bytes highest(device_index device) const { return pools_[owner_of(device)].highest; }
  /// What does not go as it was asked for, one sentence per cause with how to mend it.
  std::span<const text<256>> warnings() const { return std::span(warnings_).first(warning_count_); }

 private:
  struct buffer_state {
    device_index device = no_index;
    bytes size = 0;   ///< as asked
    bytes taken = 0;  ///< rounded up
    mapped_memory memory;
    std::uint32_t uses = 0;  ///< tasks under way that need the memory
    bool live = false;
    bool freed = false;  ///< its stream got there
  };
  struct pool {
    bytes used = 0, highest = 0;
  };

  device_index owner_of(device_index d) const {
    return topology_.devices[d].shares_memory_of == no_index ? d : topology_.devices[d].shares_memory_of;
  }
  device_index storage_device(device_index target) const;
  result<done> check(stream_id stream) const;
  result<done> check(event_id event) const;
  result<done> check(buffer_id buffer) const;
  result<done> check(const buffer_range& r) const;
  failure out_of_memory(device_index device, bytes asked, bytes needed, bytes left) const;
  result<bytes> take(device_index device, bytes size);
  result<memory_view> view(const buffer_range& r, task& t);
  result<done> submit(stream_id stream, const task& t);
  picoseconds catch_up();
  void over(const task& t, bool carried_out);
  void give_back(std::uint32_t buffer);
  void pin(buffer_state& b);
  void warn(const text<256>& what);
  static result<done> perform(void* self, const task& t);

  topology_view topology_;
  berth::storage storage_;
  std::pmr::vector<device_index> stream_devices_;
  std::pmr::vector<pool> pools_;  // per device
  std::pmr::vector<buffer_state> buffers_;
  std::pmr::vector<std::uint32_t> unused_buffers_;
  std::pmr::vector<std::byte> chunk_;  // of stored checksums
  observer observer_;
  std::array<text<256>, 2> warnings_;
  std::size_t warning_count_ = 0;
  bool pageable_ = false;  // a warning says so
  stream_queues queues_;   // last: its threads end before what they work on
};

static_assert(Machine<machine>);

}  // namespace berth::host
