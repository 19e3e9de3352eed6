// SPDX-License-Identifier: Apache-2.0
module;

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <memory_resource>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

export module berth.cuda:machine;

import berth.base;
import berth.topology;
import berth.exec;
import :runtime_table;
import :errors;
import :machine_options;
import :machine_state;
import :graph;

export namespace berth::cuda {

/// The GPUs, the CPU and the disk of a topology on CUDA. A device has what the topology calls free, and no more than
/// the driver gives. Streams of GPUs are CUDA streams; streams of the CPU are CUDA streams of the first GPU, whose
/// launches are host functions, so that GPUs and CPU order each other without the caller's thread. `launch` on a GPU
/// calls the work at once, with the CUDA stream to put its kernels on and the GPU current; on the CPU the work is
/// called by a thread of the driver, must not call CUDA, and has no native stream. Reads fill pinned slots by host
/// functions.
///
/// One caller, one thread; nothing blocks except `synchronize`, `checksum`, `allocate` (as cudaMalloc does) and ends of
/// life. Only GPUs that get a stream or memory are touched; their context is made then, and calls leave the GPU that
/// they worked on current. Frees take effect when their stream got there and a later call notices.
///
/// Errors: see `errors.cppm`. After `device_lost` every call fails with that. A storage that fails to read is found
/// when the stream, or an event behind the read, is asked or waited for; that stream fails from then on.
class machine {
 public:
  /// Makes no CUDA call. The table, and what the topology points to, must outlive the machine.
  machine(const runtime_table& cuda, topology_view t, const machine_options& options,
          std::pmr::memory_resource* memory = std::pmr::get_default_resource());
  machine(const machine&) = delete;
  machine& operator=(const machine&) = delete;
  /// Waits for what is under way and gives everything back, also after errors.
  ~machine();

  topology_view topology() const { return topology_; }
  result<stream_id> make_stream(device_index device);
  result<event_id> make_event();
  /// CPU memory is pinned where asked, else (and where pinning fails, with a `warning`) pageable: copies of it pass
  /// through staging.
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
  result<std::uint64_t> checksum(const buffer_range& r);
  result<std::uint64_t> checksum(const storage_range& r);
  picoseconds now() const;
  picoseconds next_time() { return never; }
  void advance_to(picoseconds) {}
  /// Streams' activities are told with the GPUs' clocks (resolution about half a microsecond), when a later call
  /// notices that they are over; not those of captures and graphs.
  void observe(observer o) { observer_ = o; }
  void* native(stream_id stream) { return stream.index < streams_.size() ? streams_[stream.index].native : nullptr; }
  std::byte* address(buffer_id buffer) { return check(buffer) ? buffers_[buffer.index].data : nullptr; }

  /// From now on items of all streams are recorded instead of run; other streams join when they are first used. What
  /// was recorded or submitted before is waited for when the graph is launched. Allocating, freeing, asking and waiting
  /// are refused until `end_capture`. `origin` is any stream; staged transfers need their slots, so let what is
  /// recorded run once before.
  result<done> begin_capture(stream_id origin);
  /// What was recorded. Every host function that it has is kept by the graph. An error ends the capture too.
  result<graph> end_capture();
  bool capturing() const { return capture_ != nullptr; }
  /// Appends the graph to a stream: it begins after everything submitted before to the streams that it was recorded
  /// from, and these continue after it. Events recorded in it stand for its end from now on. No allocation, no waiting.
  result<done> launch(graph& g, stream_id stream);

  /// The latest thing that works less well than asked, such as memory that could not be pinned.
  const std::optional<error>& warning() const { return warning_; }
  /// Memory of a device that is taken now, rounded as the device does.
  bytes used(device_index device) const { return used_[owner_of(device)]; }
  /// The CUDA number of a GPU of the topology, or nothing.
  std::optional<int> ordinal(device_index device) const;

 private:
  using stream_state = detail::stream_state;
  using mark = detail::mark;

  device_index owner_of(device_index d) const {
    return topology_.devices[d].shares_memory_of == no_index ? d : topology_.devices[d].shares_memory_of;
  }
  std::string_view name_of(device_index d) const {
    return d < topology_.devices.size() ? topology_.devices[d].id.view() : "CUDA";
  }
  // machine.cpp
  result<done> check(stream_id stream) const;
  result<done> check(event_id event) const;
  result<done> check(buffer_id buffer) const;
  result<done> check(const buffer_range& r) const;
  result<done> usable(std::string_view what) const;
  result<done> done_by(status s, const failed_call& at);
  failure failed_by(status s, const failed_call& at);
  result<done> enter(device_index gpu);
  result<done> touch(device_index gpu);
  result<done> connect_peers(device_index gpu);
  result<device_index> gpu_for(device_index device);
  result<stream_state*> new_stream(device_index device, device_index gpu, void* adopted);
  // memory.cpp
  result<done> reserve(device_index device, bytes size, bytes& taken);
  result<std::byte*> take_gpu_memory(device_index device, bytes size);
  result<std::byte*> take_host_memory(bytes size, memory_kind kind, detail::place& where);
  void give_back(const detail::buffer_state& b);
  // order.cpp
  result<done> use(stream_state& s);
  result<done> join(stream_state& s);
  result<done> record(stream_state& s, mark& m);
  result<done> wait(stream_state& s, mark& m);
  result<done> wait_for_end(stream_state& s, detail::graph_state& g);
  void set_aside(mark& m);
  result<done> failure_before(const mark& m) const;
  // transfers.cpp
  result<detail::host_work*> new_host_work();
  result<done> submit(stream_state& s, detail::host_work& w);
  template <class Item>
  result<done> detour(stream_state& s, device_index gpu, Item item);
  bool is_on(const stream_state& s, device_index gpu) const { return gpus_[s.gpu].ordinal == gpus_[gpu].ordinal; }
  result<done> copy_native(stream_state& s, device_index gpu, std::byte* to, const std::byte* from, bytes size);
  result<done> copy_host(stream_state& s, std::byte* to, const std::byte* from, bytes size);
  result<done> copy_gpus(stream_state& s, const detail::buffer_state& from, const detail::buffer_state& to,
                         const copy_request& r);
  result<done> copy_staged(stream_state& s, device_index a, const std::byte* from, device_index b, std::byte* to,
                           bytes size);
  result<done> copy_pageable(stream_state& s, const detail::buffer_state& from, const detail::buffer_state& to,
                             const copy_request& r);
  result<done> copy_any(stream_state& s, const detail::buffer_state& from, const detail::buffer_state& to,
                        const copy_request& r);
  result<done> read_host(stream_state& s, stream_state& reader, const storage_range& from, std::byte* to);
  result<done> read_staged(stream_state& s, const storage_range& from, device_index gpu, std::byte* to);
  memory_view view_of(const buffer_range& r) const;
  result<done> run_on_gpu(stream_state& s, const launch_request& r, const work_call& call);
  result<stream_state*> helper_of(device_index gpu);
  result<detail::staging_ring*> ring_of(device_index gpu);
  result<done> make_ring(device_index gpu);
  void abandon();
  // timing.cpp
  result<void*> begin_item(stream_state& s);
  result<done> end_item(stream_state& s, void* start, activity what);
  result<void*> take_timer(device_index gpu);
  result<done> start_clock(device_index gpu);
  result<picoseconds> time_of(device_index gpu, void* event);
  result<done> sweep();
  result<bool> find_over();
  result<done> settle();
  // capture.cpp
  result<done> join_all();
  result<done> wait_before(detail::graph_state& g, stream_state& s);
  static void release_graph(void* self, detail::graph_state& g);
  void forget(const detail::graph_state& g);
  void destroy_graph(detail::graph_state& g);

  const runtime_table& cuda_;
  topology_view topology_;
  machine_options options_;
  std::pmr::memory_resource* memory_;
  std::pmr::vector<adopted_stream> adopted_;
  std::chrono::steady_clock::time_point start_;
  std::pmr::deque<detail::gpu_state> gpus_;  // by position in the topology
  std::pmr::vector<std::uint8_t> peers_;     // [from][to]: copies need no staging
  std::pmr::vector<bytes> used_;
  std::pmr::deque<stream_state> streams_;
  std::pmr::deque<mark> events_;
  std::pmr::vector<detail::buffer_state> buffers_;
  std::pmr::vector<std::uint32_t> unused_buffers_;
  detail::host_work_pool host_work_;
  std::pmr::vector<detail::pending> pending_, told_;  // in flight; over, about to be told
  std::pmr::vector<detail::graph_state*> graphs_;     // null: free slot
  std::unique_ptr<detail::graph_state> capture_;
  std::uint32_t origin_ = detail::none;
  mark fork_;  // where streams join a capture
  std::uint64_t captures_ = 0;
  std::uint64_t records_ = 0;
  std::uint64_t sweeps_ = 0;
  std::optional<error> lost_;
  std::optional<error> warning_;
  observer observer_{};
};

static_assert(Machine<machine>);

}  // namespace berth::cuda
