// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <span>
#include <vector>

export module berth.sim:machine;

import berth.base;
import berth.topology;
import berth.exec;
import :flows;
import :simulator;
import :contents;

export namespace berth::sim {

/// What a simulated machine assumes beyond its topology, and what it is bounded by.
struct machine_options {
  simulator_bounds bounds{};
  std::uint32_t buffers = 4096;
  std::uint32_t places = 65'536;  ///< of memory whose contents are known
  std::uint32_t copy_in_engines = 1;
  std::uint32_t copy_out_engines = 1;
  /// Copies from or to pageable host memory: set-up in seconds, and the share of the link that they reach.
  double pageable_setup = 76e-6;
  double pageable_share = 0.5;
  bool audit = false;               ///< check all invariants at every event
  content_table* shared = nullptr;  ///< of machines that exchange buffers; null: its own
};

/// A machine in virtual time over a topology: engines, max-min fair links, memory with granularity, host memory, disk.
/// The devices' `free` memory is what there is. A launch lasts as the planner prices it: overhead + max(flops / rate,
/// bytes / memory rate); on a device whose memory others use as well (DRAM) its bytes also cross that segment. A
/// transfer lasts as its route says: latency of a message, or set-up of a copy, then its bytes at the max-min fair
/// rate. Copies need one copy engine per GPU end; messages none. Where no disk can be reached storage is host memory.
/// Deterministic: the same calls give the same times, on every machine and compiler. Allocates at construction only.
class machine {
 public:
  machine(topology_view t, const machine_options& options,
          std::pmr::memory_resource* memory = std::pmr::get_default_resource());
  machine(const machine&) = delete;
  machine& operator=(const machine&) = delete;

  topology_view topology() const { return topology_; }
  result<stream_id> make_stream(device_index device);
  result<event_id> make_event();
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
  result<std::uint64_t> checksum(const storage_range& r) { return content_table::checksum(r); }
  picoseconds now() const { return simulator_.now(); }
  picoseconds next_time() { return simulator_.next_time(); }
  void advance_to(picoseconds t) { simulator_.advance_to(t); }
  void observe(observer o) { observer_ = o; }
  void* native(stream_id) { return nullptr; }
  std::byte* address(buffer_id) { return nullptr; }

  /// From now on the segment carries `factor` times what the topology says, 0 < factor.
  result<done> throttle(segment_index segment, double factor);
  /// Makes a buffer of another machine known here: it takes no memory. `token` is that machine's `export_token`.
  result<buffer_id> import(device_index device, bytes size, memory_kind kind, std::uint64_t token);
  std::uint64_t export_token(buffer_id buffer) const { return buffers_[buffer.index].content; }

  bytes used(device_index device) const { return simulator_.used(owner_of(device)); }
  bytes highest(device_index device) const { return simulator_.highest(owner_of(device)); }
  picoseconds busy(device_index device, engine_kind kind) const { return simulator_.busy({device, kind}); }
  /// Bytes that crossed a segment so far.
  double carried(segment_index segment) const { return simulator_.carried(segment); }
  std::uint64_t events_processed() const { return simulator_.events_processed(); }
  const std::optional<error>& broken() const { return simulator_.broken(); }

 private:
  struct buffer_state {
    device_index device = no_index;
    bytes size = 0;   ///< as asked
    bytes taken = 0;  ///< rounded up; 0: imported
    memory_kind kind = memory_kind::plain;
    std::uint64_t content = 0;
    bool live = false;
  };
  /// How bytes get from one device to another, directly or through host memory.
  struct path {
    picoseconds latency = never;  ///< of a message; `never`: there is no way
    picoseconds setup = never;
    double cap = 0;
    std::uint32_t first = 0, count = 0;  ///< in `hops_`
  };
  /// What an operation under way will be told as.
  struct under_way {
    activity what;
    std::uint64_t content = 0;  ///< of the target; 0: none
    bytes offset = 0;
    storage_range from;
    bool known = false;  ///< `from` is what arrives
    std::uint64_t source = 0;
    bytes source_offset = 0;
  };

  device_index owner_of(device_index d) const {
    return topology_.devices[d].shares_memory_of == no_index ? d : topology_.devices[d].shares_memory_of;
  }
  void find_paths();
  device_index storage_of(device_index target) const;
  void add_path(path& p, const route& r);
  const path& path_of(device_index from, device_index to) const {
    return paths_[std::size_t{from} * topology_.devices.size() + to];
  }
  result<done> check(stream_id stream) const;
  result<done> check(event_id event) const;
  result<done> check(buffer_id buffer) const;
  result<done> check(const buffer_range& r) const;
  failure out_of_memory(device_index device, bytes asked, bytes needed, bytes left) const;
  result<work_memory<memory_view>> sizes(const work_memory<buffer_range>& m) const;
  result<done> transfer(stream_id stream, const path& p, transfer_kind kind, bool pageable, picoseconds delay,
                        under_way& u);
  std::uint32_t keep(const under_way& u);
  static void on_step(void* self, const step& s);
  void arrived(const under_way& u);

  topology_view topology_;
  machine_options options_;
  content_table own_contents_;
  content_table* contents_;
  simulator simulator_;
  std::pmr::vector<path> paths_;
  std::pmr::vector<segment_index> hops_;
  std::pmr::vector<device_index> stream_devices_;
  std::uint32_t events_ = 0;
  std::pmr::vector<buffer_state> buffers_;
  std::pmr::vector<std::uint32_t> unused_buffers_;
  std::pmr::vector<under_way> under_way_;
  std::pmr::vector<std::uint32_t> unused_;
  observer observer_;
};

static_assert(Machine<machine>);
static_assert(ThrottledMachine<machine>);

}  // namespace berth::sim
