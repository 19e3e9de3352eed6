// SPDX-License-Identifier: Apache-2.0
// A small machine for the tests of decorators: in-order streams without engines, every item takes a fixed time, bytes
// are really moved. Include last: it ends in imports.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

import berth.base;
import berth.topology;
import berth.exec;

namespace exec_test {

using namespace berth;

inline topology small_topology() {
  topology t;
  t.name = "small";
  const auto add = [&](const char* id, device_kind kind, bytes memory) {
    device d;
    d.id = device_id(std::string_view(id));
    d.kind = kind;
    d.memory = d.free = memory;
    t.add(d);
  };
  add("0", device_kind::gpu, 8 * GiB);
  add("1", device_kind::gpu, 4 * GiB);
  add("cpu", device_kind::cpu, 64 * GiB);
  add("disk", device_kind::disk, 0);
  for (const char* name : {"pcie 0 in", "pcie 1 in", "dram"}) t.add(segment{text<48>(name), segment_kind::pcie, 1e10});
  return t;
}

inline std::uint8_t stored_byte(std::uint32_t file, bytes offset) {
  const auto x = (offset + 1) * 0x9e3779b97f4a7c15u + file;
  return static_cast<std::uint8_t>(x >> 40);
}

/// `Simulated`: the clock moves by `advance_to`, and segments can be throttled (all copies feel the narrowest).
/// Otherwise like a real machine: `next_time` is never, the clock moves while `synchronize` blocks, or by `pass`.
template <bool Simulated>
class recording_machine {
 public:
  picoseconds item_time = 1000;
  std::vector<std::string> calls;
  std::vector<double> factors;

  explicit recording_machine(topology t = small_topology())
      : factors(t.segments.size(), 1.0), topology_(std::move(t)), used_(topology_.devices.size(), 0) {}

  topology_view topology() const { return topology_.view(); }
  result<stream_id> make_stream(device_index device) {
    if (device >= topology_.devices.size()) return fail(errc::unknown_device, "device", "no such device");
    streams_.push_back({device, {}});
    return stream_id{static_cast<std::uint32_t>(streams_.size() - 1)};
  }
  result<event_id> make_event() {
    events_.push_back({});
    return event_id{static_cast<std::uint32_t>(events_.size() - 1)};
  }
  result<buffer_id> allocate(device_index device, bytes size, memory_kind) {
    const auto left = topology_.devices[device].memory - used_[device];
    if (size > left) return fail(errc::out_of_memory, topology_.devices[device].id, "full", size, left);
    used_[device] += size;
    buffers_.push_back({device, size, std::make_shared<block>(), false});
    tell({activity_kind::allocate, device, no_index, {}, no_tag, now_, now_, size});
    return buffer_id{static_cast<std::uint32_t>(buffers_.size() - 1)};
  }
  result<buffer_id> import(device_index device, bytes size, memory_kind, std::uint64_t token) {
    calls.push_back("import");
    ++imports;
    // The token is the owner's block: a share of it, as tests run in one process.
    buffers_.push_back({device, size, *reinterpret_cast<std::shared_ptr<block>*>(token), true});
    return buffer_id{static_cast<std::uint32_t>(buffers_.size() - 1)};
  }
  std::uint64_t export_token(buffer_id b) { return reinterpret_cast<std::uint64_t>(&buffers_[b.index].data); }

  result<done> deallocate(stream_id s, buffer_id b) { return add(s, {kind::free, 0, {}, b}); }
  result<done> copy(stream_id s, const copy_request& r) {
    calls.push_back("copy");
    item i{kind::copy, plus(narrowed(item_time), r.delay), {}, {}};
    i.copy = r;
    return add(s, i);
  }
  result<done> read(stream_id s, const read_request& r) {
    calls.push_back("read");
    item i{kind::read, plus(item_time, r.delay), {}, {}};
    i.read = r;
    return add(s, i);
  }
  result<done> launch(stream_id s, const launch_request& r) {
    calls.push_back("launch");
    item i{kind::launch, plus(static_cast<picoseconds>(static_cast<double>(item_time) * r.slowdown), r.delay), {}, {}};
    i.launch = r;
    return add(s, i);
  }
  result<done> record(stream_id s, event_id e) {
    events_[e.index].push_back(false);
    return add(s, {kind::record, 0, e, {}, events_[e.index].size()});
  }
  result<done> wait(stream_id s, event_id e) { return add(s, {kind::wait, 0, e, {}, events_[e.index].size()}); }
  result<bool> ready(event_id e) { return reached(e, events_[e.index].size()); }
  result<done> synchronize(stream_id s) {
    calls.push_back("synchronize");
    while (!streams_[s.index].items.empty()) {
      const auto t = pending();
      if (t == never) return fail(errc::stalled, "stream", "never ends");
      run_until(t);
    }
    return done{};
  }
  result<done> synchronize(event_id e) {
    for (;;) {
      const auto reached_now = ready(e);
      if (!reached_now) return reached_now.propagate();
      if (*reached_now) return done{};
      const auto t = pending();
      if (t == never) return fail(errc::stalled, "event", "never ends");
      run_until(t);
    }
  }
  result<std::uint64_t> checksum(const buffer_range& r) {
    std::uint64_t h = 1;
    for (bytes i = 0; i < r.size; ++i) h = h * 1099511628211u + buffers_[r.buffer.index].data->get(r.offset + i);
    return h;
  }
  result<std::uint64_t> checksum(const storage_range& r) {
    std::uint64_t h = 1;
    for (bytes i = 0; i < r.size; ++i) h = h * 1099511628211u + stored_byte(r.file, r.offset + i);
    return h;
  }
  picoseconds now() const { return now_; }
  picoseconds next_time() const { return Simulated ? pending() : never; }
  void advance_to(picoseconds t) {
    if (Simulated) run_until(t);
  }
  void observe(observer o) { observer_ = o; }
  void* native(stream_id) { return nullptr; }
  std::byte* address(buffer_id) { return nullptr; }
  result<done> throttle(segment_index s, double factor)
    requires Simulated
  {
    factors[s] = factor;
    return done{};
  }

  /// For tests of a real machine: time goes by.
  void pass(picoseconds t) { run_until(now_ + t); }
  bytes used(device_index d) const { return used_[d]; }
  int imports = 0;  ///< live

 private:
  enum class kind { copy, read, launch, record, wait, free };
  struct item {
    kind what = kind::launch;
    picoseconds length = 0;
    event_id event;
    buffer_id buffer;
    std::uint64_t version = 0;
    copy_request copy{};
    read_request read{};
    launch_request launch{};
    picoseconds start = -1;
  };
  struct block {
    std::vector<std::uint8_t> bytes_of;
    std::uint8_t get(bytes i) const { return i < bytes_of.size() ? bytes_of[i] : std::uint8_t{0}; }
    void put(bytes i, std::uint8_t v) {
      if (i >= bytes_of.size()) bytes_of.resize(i + 1);
      bytes_of[i] = v;
    }
  };
  struct stream {
    device_index device;
    std::deque<item> items;
  };
  using event = std::vector<bool>;  ///< per record: reached
  struct buffer {
    device_index device;
    bytes size;
    std::shared_ptr<block> data;
    bool imported;
  };

  static picoseconds plus(picoseconds a, picoseconds b) { return a >= never - b ? never : a + b; }
  picoseconds narrowed(picoseconds t) const {
    return static_cast<picoseconds>(static_cast<double>(t) / *std::min_element(factors.begin(), factors.end()));
  }
  bool reached(event_id e, std::uint64_t record) const { return record == 0 || events_[e.index][record - 1]; }
  void tell(const activity& a) { observer_(a); }
  result<done> add(stream_id s, const item& i) {
    streams_[s.index].items.push_back(i);
    settle();
    return done{};
  }
  picoseconds pending() const {
    auto t = never;
    for (const auto& s : streams_)
      if (!s.items.empty() && s.items.front().start >= 0)
        t = std::min(t, plus(s.items.front().start, s.items.front().length));
    return t;
  }
  void run_until(picoseconds t) {
    for (auto n = pending(); n <= t && n != never; n = pending()) {
      now_ = n;
      settle();
    }
    now_ = std::max(now_, t);
  }
  void settle() {
    for (bool moved = true; moved;) {
      moved = false;
      for (std::uint32_t s = 0; s < streams_.size(); ++s)
        while (!streams_[s].items.empty() && step(s, streams_[s].items.front())) {
          streams_[s].items.pop_front();
          moved = true;
        }
    }
  }
  /// True: the item is over.
  bool step(std::uint32_t s, item& i) {
    if (i.what == kind::wait) return reached(i.event, i.version);
    if (i.what == kind::record) {
      events_[i.event.index][i.version - 1] = true;
      return true;
    }
    if (i.start < 0) i.start = now_;
    if (plus(i.start, i.length) > now_ || i.length == never) return false;
    finish(s, i);
    return true;
  }
  void finish(std::uint32_t s, const item& i) {
    if (i.what == kind::free) {
      auto& b = buffers_[i.buffer.index];
      if (b.imported)
        --imports;
      else
        used_[b.device] -= b.size;
      tell({activity_kind::free, b.device, no_index, {s}, no_tag, now_, now_, b.size});
    } else if (i.what == kind::copy) {
      const auto &from = buffers_[i.copy.from.buffer.index], &to = buffers_[i.copy.to.buffer.index];
      for (bytes k = 0; k < i.copy.to.size; ++k)
        to.data->put(i.copy.to.offset + k, from.data->get(i.copy.from.offset + k));
      tell({activity_kind::copy, to.device, from.device, {s}, i.copy.tag, i.start, now_, i.copy.to.size});
    } else if (i.what == kind::read) {
      const auto& to = buffers_[i.read.to.buffer.index];
      for (bytes k = 0; k < i.read.to.size; ++k)
        to.data->put(i.read.to.offset + k, stored_byte(i.read.from.file, i.read.from.offset + k));
      tell({activity_kind::read, to.device, no_index, {s}, i.read.tag, i.start, now_, i.read.to.size});
    } else {
      i.launch.work({streams_[s].device, nullptr, i.launch.tag});
      tell({activity_kind::launch, streams_[s].device, no_index, {s}, i.launch.tag, i.start, now_, 0});
    }
  }

  berth::topology topology_;
  std::vector<bytes> used_;
  std::vector<stream> streams_;
  std::vector<event> events_;
  std::deque<buffer> buffers_;  // addresses hold: tokens point into it
  observer observer_;
  picoseconds now_ = 0;
};

using simulated = recording_machine<true>;
using real = recording_machine<false>;
static_assert(Machine<simulated> && ThrottledMachine<simulated> && ImportingMachine<simulated>);
static_assert(Machine<real> && !ThrottledMachine<real> && ExportingMachine<real>);

inline launch_request launch_of(op_tag tag, picoseconds delay = 0) {
  launch_request r;
  r.tag = tag;
  r.delay = delay;
  return r;
}

/// What an observer was told.
struct witness {
  std::vector<activity> seen;
  observer as_observer() {
    return {this, [](void* context, const activity& a) { static_cast<witness*>(context)->seen.push_back(a); }};
  }
};

}  // namespace exec_test
