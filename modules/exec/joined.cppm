// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

export module berth.exec:joined;

import berth.base;
import berth.topology;
import :handles;
import :requests;
import :activity;
import :machine;
import :forwarded;
import :bounds;
import :joined_queue;
import :joined_lanes;

export namespace berth {

/// Which machine a device belongs to, and what it is there.
struct part_of {
  std::size_t machine = 0;
  device_index device = no_index;
};

/// Copies from a device of machine `from` to one of machine `to` are executed by machine `carrier`. It imports what is
/// not its own, and its topology lists the foreign device under the id that it has in the whole.
struct bridge {
  std::size_t from = 0, to = 0;
  std::size_t carrier = 0;
};

/// Several machines as one. Every device of the whole belongs to one of them; streams and buffers stay on the machine
/// that made them. What must wait for an event of another machine is queued here, in the order of its stream, and
/// submitted when the event is ready: every call that is not const sees to that first, and so does the clock at every
/// step, so that a simulated machine submits at the very instant. Nothing blocks except `synchronize`.
///
/// An operation that fails when it is submitted from the queue spoils its stream: later operations on it are dropped
/// (buffers are still freed), calls on it and events recorded on it fail with the same error, until `synchronize` has
/// returned it. Clocks: `now` is the largest, `next_time` the smallest of the machines'; `advance_to` takes all along.
/// The machines must not be used directly meanwhile. Files have the same numbers on all machines that read.
/// The object stays where it is: the machines point to it when they are observed.
template <Machine... Ms>
  requires(sizeof...(Ms) > 0)
class joined : detail::joined_lanes<Ms...> {
  using base = detail::joined_lanes<Ms...>;
  using base::each, base::topology_of, base::drive, base::submit, base::run_on;
  static constexpr std::size_t machines = sizeof...(Ms);

 public:
  /// `parts` has one entry per device of the whole. Everything that is passed as a view or a reference must outlive
  /// this, except `parts` and `bridges`.
  explicit joined(topology_view whole, std::span<const part_of> parts, std::span<const bridge> bridges,
                  std::tuple<Ms&...> ms, std::pmr::memory_resource* memory = std::pmr::get_default_resource(),
                  const machine_bounds& bounds = {})
      : base(ms, memory, bounds),
        whole_(whole),
        parts_(parts.begin(), parts.end(), memory),
        bridges_(bridges.begin(), bridges.end(), memory),
        events_(memory),
        buffers_(bounds.buffers, buffer_place{}, memory),
        free_buffers_(memory),
        supported_(check_parts()) {
    events_.reserve(bounds.events);
    free_buffers_.reserve(bounds.buffers);
    for (std::uint32_t i = bounds.buffers; i > 0; --i) free_buffers_.push_back(i - 1);
    for (std::size_t i = 0; i < machines; ++i) relays_[i] = {this, i};
  }
  ~joined() {
    if (outer_.see != nullptr) observe({});
  }
  joined(const joined&) = delete;
  joined& operator=(const joined&) = delete;

  /// Whether the parts cover the whole: else `invalid_topology` with the device that has no owner or shares one with
  /// another; `invalid_argument` for a bridge of a machine that does not exist. Nothing can be made then.
  result<done> supported() const { return supported_; }

  topology_view topology() const { return whole_; }

  result<stream_id> make_stream(device_index device) {
    if (auto ok = check_device(device); !ok) return ok.propagate();
    const auto& p = parts_[device];
    const auto made = base::add_lane(static_cast<std::uint32_t>(p.machine), p.device, no_handle);
    if (!made) return made.propagate();
    return stream_id{*made};
  }
  result<event_id> make_event() {
    if (!supported_) return supported_.propagate();
    if (events_.size() == base::bounds_.events) return detail::beyond_bound("events", base::bounds_.events);
    events_.push_back(no_handle);
    return event_id{static_cast<std::uint32_t>(events_.size() - 1)};
  }

  result<buffer_id> allocate(device_index device, bytes size, memory_kind kind) {
    if (auto ok = check_device(device); !ok) return ok.propagate();
    drive();
    if (free_buffers_.empty()) return detail::beyond_bound("buffers", base::bounds_.buffers);
    const auto& p = parts_[device];
    const auto made =
        base::template on<buffer_id>(p.machine, [&](auto& m) { return m.allocate(p.device, size, kind); });
    if (!made) return made;
    const auto i = free_buffers_.back();
    free_buffers_.pop_back();
    buffers_[i] = {static_cast<std::uint32_t>(p.machine), *made, device, size, kind, {}};
    return buffer_id{i};
  }
  /// Imports of the buffer end first, then it is freed by its owner.
  result<done> deallocate(stream_id stream, buffer_id buffer) {
    if (auto ok = check_stream(stream); !ok) return ok;
    if (auto ok = check_buffer(buffer); !ok) return ok;
    auto& b = buffers_[buffer.index];
    for (std::uint32_t m = 0; m < machines; ++m) {
      if (b.imports[m].index == no_handle) continue;
      if (auto ok = run_on(stream.index, m, foreign_device(m, b.device), detail::free_op{b.imports[m]}); !ok) return ok;
      b.imports[m] = {};
    }
    auto ok = run_on(stream.index, b.machine, parts_[b.device].device, detail::free_op{b.inner});
    if (!ok) return ok;
    b = {};
    free_buffers_.push_back(buffer.index);
    return ok;
  }

  result<done> copy(stream_id stream, const copy_request& r) {
    if (auto ok = check_stream(stream); !ok) return ok;
    if (auto ok = check_buffer(r.from.buffer); !ok) return ok;
    if (auto ok = check_buffer(r.to.buffer); !ok) return ok;
    auto& from = buffers_[r.from.buffer.index];
    auto& to = buffers_[r.to.buffer.index];
    const auto carrier = carrier_of(from, to);
    if (!carrier) return carrier.propagate();
    auto request = r;
    const auto source = on_carrier(from, *carrier), target = on_carrier(to, *carrier);
    if (!source) return source.propagate();
    if (!target) return target.propagate();
    request.from.buffer = *source;
    request.to.buffer = *target;
    // A stream for it: on the target when that is the carrier's own, else on the source.
    const auto& own = to.machine == *carrier ? to : from;
    const auto device = own.machine == *carrier ? parts_[own.device].device : foreign_device(*carrier, to.device);
    return run_on(stream.index, *carrier, device, request);
  }
  result<done> read(stream_id stream, const read_request& r) {
    if (auto ok = check_stream(stream); !ok) return ok;
    if (auto ok = check_buffer(r.to.buffer); !ok) return ok;
    const auto& to = buffers_[r.to.buffer.index];
    auto request = r;
    request.to.buffer = to.inner;
    return run_on(stream.index, to.machine, parts_[to.device].device, request);
  }
  result<done> launch(stream_id stream, const launch_request& r) {
    if (auto ok = check_stream(stream); !ok) return ok;
    auto request = r;
    auto& m = request.memory;
    for (auto* range : {&m.weights, &m.state, &m.workspace, &m.in, &m.out}) {
      if (range->buffer == buffer_id{}) continue;
      if (auto ok = check_buffer(range->buffer); !ok) return ok;
      range->buffer = buffers_[range->buffer.index].inner;
    }
    return submit(stream.index, request);
  }

  result<done> record(stream_id stream, event_id event) {
    if (auto ok = check_stream(stream); !ok) return ok;
    if (auto ok = check_event(event); !ok) return ok;
    const auto m = base::record_mark(stream.index);
    if (!m) return m.propagate();
    base::release(std::exchange(events_[event.index], *m));
    return done{};
  }
  result<done> wait(stream_id stream, event_id event) {
    if (auto ok = check_stream(stream); !ok) return ok;
    if (auto ok = check_event(event); !ok) return ok;
    if (events_[event.index] == no_handle) return done{};
    return submit(stream.index, base::wait_for(events_[event.index]));
  }
  result<bool> ready(event_id event) {
    if (auto ok = check_event(event); !ok) return ok.propagate();
    drive();
    return events_[event.index] == no_handle ? result<bool>(true) : base::reached(events_[event.index]);
  }

  /// Steps the machines until the stream is done; where no clock can be moved it blocks in the machine that holds the
  /// stream up.
  result<done> synchronize(stream_id stream) {
    if (auto ok = check_stream(stream); !ok) return ok;
    return base::finish(stream.index);
  }
  result<done> synchronize(event_id event) {
    if (auto ok = check_event(event); !ok) return ok;
    const auto mark = events_[event.index];
    return mark == no_handle ? result<done>(done{}) : base::finish_mark(mark);
  }

  result<std::uint64_t> checksum(const buffer_range& range) {
    if (auto ok = check_buffer(range.buffer); !ok) return ok.propagate();
    drive();
    const auto& b = buffers_[range.buffer.index];
    const buffer_range there{b.inner, range.offset, range.size};
    return base::template on<std::uint64_t>(b.machine, [&](auto& m) { return m.checksum(there); });
  }
  /// By the machine that the disk belongs to; without a disk, by the first.
  result<std::uint64_t> checksum(const storage_range& range) {
    if (!supported_) return supported_.propagate();
    const auto disk = whole_.first(device_kind::disk);
    return base::template on<std::uint64_t>(disk ? parts_[*disk].machine : 0,
                                            [&](auto& m) { return m.checksum(range); });
  }

  using base::now, base::next_time, base::advance_to;

  void observe(observer o) {
    outer_ = o;
    std::size_t i = 0;
    each([&](auto& m) {
      m.observe(o.see == nullptr ? observer{} : observer{&relays_[i], &joined::see});
      ++i;
    });
  }
  std::byte* address(buffer_id buffer) {
    if (!check_buffer(buffer)) return nullptr;
    const auto& b = buffers_[buffer.index];
    std::byte* at = nullptr;
    std::size_t i = 0;
    each([&](auto& m) {
      if (i++ == b.machine) at = m.address(b.inner);
    });
    return at;
  }
  void* native(stream_id stream) {
    if (!check_stream(stream)) return nullptr;
    const auto& l = base::lanes_[stream.index];
    void* handle = nullptr;
    std::size_t i = 0;
    each([&](auto& m) {
      if (i++ == l.machine) handle = m.native(l.stream);
    });
    return handle;
  }

 private:
  struct buffer_place {
    std::uint32_t machine = 0;
    buffer_id inner;  ///< no handle: not live
    device_index device = no_index;
    bytes size = 0;
    memory_kind kind = memory_kind::plain;
    std::array<buffer_id, machines> imports{};  ///< per machine
  };
  struct relay {
    joined* self = nullptr;
    std::size_t machine = 0;
  };

  static void see(void* context, const activity& a) {
    const auto& r = *static_cast<const relay*>(context);
    auto told = a;
    told.device = r.self->whole_device(r.machine, a.device);
    told.from = r.self->whole_device(r.machine, a.from);
    told.stream = r.self->whole_stream(r.machine, a.stream);
    r.self->outer_(told);
  }
  /// The device of the whole that a machine's device is: its own, or the foreign one of that id.
  device_index whole_device(std::size_t machine, device_index local) const {
    for (std::size_t d = 0; d < parts_.size(); ++d)
      if (parts_[d].machine == machine && parts_[d].device == local) return static_cast<device_index>(d);
    const auto t = topology_of(machine);
    return local < t.devices.size() ? whole_.find(t.devices[local].id).value_or(no_index) : no_index;
  }
  stream_id whole_stream(std::size_t machine, stream_id inner) const {
    for (const auto& l : base::lanes_)
      if (l.machine == machine && l.stream == inner) return stream_id{l.parent};
    return {};
  }

  result<done> check_parts() const {
    if (parts_.size() != whole_.devices.size())
      return fail(errc::invalid_topology, whole_.name, "parts must say for every device which machine it belongs to",
                  whole_.devices.size(), parts_.size());
    for (std::size_t d = 0; d < parts_.size(); ++d) {
      const auto& p = parts_[d];
      const auto& id = whole_.devices[d].id;
      if (p.machine >= machines || p.device >= topology_of(p.machine).devices.size())
        return fail(errc::invalid_topology, id, "belongs to no device of the machines");
      for (std::size_t e = 0; e < d; ++e)
        if (parts_[e].machine == p.machine && parts_[e].device == p.device)
          return fail(errc::invalid_topology, id,
                      text<96>("is the same device as ").append(whole_.devices[e].id.view()));
    }
    for (const auto& b : bridges_)
      if (std::max({b.from, b.to, b.carrier}) >= machines)
        return fail(errc::invalid_argument, "bridge", "names a machine that does not exist");
    return done{};
  }
  result<done> check_device(device_index device) const {
    if (!supported_) return supported_;
    if (device >= parts_.size())
      return fail(errc::unknown_device, text<64>("device ").append(device), "the topology has no such device");
    return done{};
  }
  static failure unknown(std::string_view what, std::uint32_t index) {
    return fail(errc::invalid_argument, text<64>(what).append(" ").append(index),
                "this machine has none of this number");
  }
  result<done> check_stream(stream_id s) const {
    if (!base::is_stream(s)) return unknown("stream", s.index);
    return done{};
  }
  result<done> check_event(event_id e) const {
    if (e.index >= events_.size()) return unknown("event", e.index);
    return done{};
  }
  result<done> check_buffer(buffer_id b) const {
    if (b.index >= buffers_.size() || buffers_[b.index].inner.index == no_handle) return unknown("buffer", b.index);
    return done{};
  }

  failure no_bridge(const buffer_place& from, const buffer_place& to, std::string_view why) const {
    return fail(
        errc::unsupported,
        text<64>(whole_.devices[from.device].id.view()).append(" -> ").append(whole_.devices[to.device].id.view()),
        why);
  }
  result<std::uint32_t> carrier_of(const buffer_place& from, const buffer_place& to) const {
    if (from.machine == to.machine) return from.machine;
    for (const auto& b : bridges_) {
      if (b.from != from.machine || b.to != to.machine) continue;
      const auto c = static_cast<std::uint32_t>(b.carrier);
      for (const auto* end : std::array{&from, &to})
        if (end->machine != c && foreign_device(c, end->device) == no_index)
          return no_bridge(from, to, "the machine that carries such copies does not know the foreign device");
      return c;
    }
    return no_bridge(from, to, "the devices belong to different machines and no bridge leads from one to the other");
  }
  /// What a machine calls a device of another: the one of the same id that is not one of its own parts.
  device_index foreign_device(std::size_t machine, device_index device) const {
    const auto local = topology_of(machine).find(whole_.devices[device].id);
    if (!local) return no_index;
    for (const auto& p : parts_)
      if (p.machine == machine && p.device == *local) return no_index;
    return *local;
  }
  /// The buffer as the carrier knows it; imported the first time.
  result<buffer_id> on_carrier(buffer_place& b, std::uint32_t carrier) {
    if (b.machine == carrier) return b.inner;
    if (b.imports[carrier].index != no_handle) return b.imports[carrier];
    const auto token = base::template on<std::uint64_t>(b.machine, [&]<class M>(M& m) -> result<std::uint64_t> {
      if constexpr (ExportingMachine<M>)
        return m.export_token(b.inner);
      else
        return no_bridge(b, b, "the machine of this buffer cannot show its memory to others");
    });
    if (!token) return token.propagate();
    const auto there = foreign_device(carrier, b.device);
    const auto made = base::template on<buffer_id>(carrier, [&]<class M>(M& m) -> result<buffer_id> {
      if constexpr (ImportingMachine<M>)
        return m.import(there, b.size, b.kind, *token);
      else
        return no_bridge(b, b, "the machine that is to carry the copy cannot import memory");
    });
    if (made) b.imports[carrier] = *made;
    return made;
  }

  topology_view whole_;
  std::pmr::vector<part_of> parts_;  // per device of the whole
  std::pmr::vector<bridge> bridges_;
  std::pmr::vector<std::uint32_t> events_;  // per event: its latest mark
  std::pmr::vector<buffer_place> buffers_;
  std::pmr::vector<std::uint32_t> free_buffers_;
  std::array<relay, machines> relays_{};
  observer outer_;
  result<done> supported_;
};

}  // namespace berth
