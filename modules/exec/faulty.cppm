// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <string_view>
#include <vector>

export module berth.exec:faulty;

import berth.base;
import berth.topology;
import :handles;
import :requests;
import :activity;
import :machine;
import :forwarded;
import :bounds;
import :fault_schedule;
import :fault_injector;

export namespace berth {

/// A machine on which things go wrong by a schedule. Errors say in `detail` what was injected and the schedule that
/// reproduces the run so far (cut when it is long; `injected()` has all of it). The observer is told of each fault when
/// it is injected: of one with a call, at the call; of one with a time, when the clock gets there.
///
/// Machine time decides at the call: a launch submitted while its device is slow takes longer, whenever it runs. On a
/// simulated machine the clock stops at each begin and end on the way; real machines are looked at with every call.
/// After a device is lost, every call with it, with a stream or a buffer of it, or with an event last recorded there
/// fails with `device_lost`; only `deallocate` succeeds, because the memory is gone with the device. Reads and stored
/// checksums involve the disk, if the topology has one.
template <Machine M>
class faulty : public detail::forwarded<M> {
  using base = detail::forwarded<M>;

 public:
  explicit faulty(M& m, const fault_schedule& schedule,
                  std::pmr::memory_resource* memory = std::pmr::get_default_resource(),
                  const machine_bounds& bounds = {})
      : base(m),
        faults_(schedule, m.topology(), ThrottledMachine<M>, memory, bounds),
        throttles_(m.topology().segments.size(), 1.0, memory),
        streams_(bounds.streams, memory),
        events_(bounds.events, memory),
        buffers_(bounds.buffers, memory),
        disk_(m.topology().first(device_kind::disk).value_or(no_index)) {
    apply_until(base::now());
  }

  /// Whether the whole schedule can happen here. Errors, with the fault as subject: `unknown_device`,
  /// `invalid_argument` for an unknown segment, `unsupported` for a slow device, a stall or a narrow segment on a
  /// machine that cannot be throttled (a real one). What is not supported has no effect; `random` leaves stalls out
  /// there.
  result<done> supported() const { return faults_.supported(); }

  /// The faults that happened, in order, as a schedule without random ones that makes them happen again. Bounded by
  /// `machine_bounds::faults`: random faults stop when it is full, others go on and are counted by `unlisted`.
  const fault_schedule& injected() const { return faults_.injected(); }
  std::size_t unlisted() const { return faults_.unlisted(); }

  result<stream_id> make_stream(device_index device) {
    catch_up();
    if (faults_.lost(device)) return gone(device);
    if (streams_.full()) return detail::beyond_bound("streams", streams_.bound());
    auto made = base::make_stream(device);
    if (made) streams_.set(made->index, device);
    return made;
  }
  result<event_id> make_event() {
    if (events_.full()) return detail::beyond_bound("events", events_.bound());
    auto made = base::make_event();
    if (made) events_.set(made->index, no_index);
    return made;
  }

  result<buffer_id> allocate(device_index device, bytes size, memory_kind kind) {
    catch_up();
    const auto faults = faults_.allocation(device, size);
    if (faults_.lost(device)) return gone(device);
    if (faults.spoils) {
      inject(faults.spoiling, device, {}, no_tag, size);
      return faults_.error_of(errc::out_of_memory, name_of_device(device), faults.spoiling, size);
    }
    if (buffers_.full()) return detail::beyond_bound("buffers", buffers_.bound());
    return known(base::allocate(device, size, kind), device);
  }
  result<buffer_id> import(device_index device, bytes size, memory_kind kind, std::uint64_t token)
    requires ImportingMachine<M>
  {
    catch_up();
    if (faults_.lost(device)) return gone(device);
    if (buffers_.full()) return detail::beyond_bound("buffers", buffers_.bound());
    return known(base::import(device, size, kind, token), device);
  }
  result<done> deallocate(stream_id stream, buffer_id buffer) {
    catch_up();
    auto freed = base::deallocate(stream, buffer);
    if (freed) buffers_.erase(buffer.index);
    return freed;
  }

  result<done> copy(stream_id stream, const copy_request& r) {
    catch_up();
    const auto faults = faults_.transfer(fault_kind::copy);
    const auto target = device_of(buffers_, r.to.buffer.index), source = device_of(buffers_, r.from.buffer.index);
    for (const auto d : std::array{device_of(streams_, stream.index), source, target})
      if (faults_.lost(d)) return gone(d);
    if (faults.spoils) {
      inject(faults.spoiling, target, stream, r.tag, r.to.size, source);
      return faults_.error_of(errc::copy_failed, transfer_name(source, target), faults.spoiling);
    }
    auto request = r;
    if (faults.stalls) request.delay = stalled(faults.stalling, r.delay, target, stream, r.tag, r.to.size);
    return base::copy(stream, request);
  }
  result<done> read(stream_id stream, const read_request& r) {
    catch_up();
    const auto faults = faults_.transfer(fault_kind::read);
    const auto target = device_of(buffers_, r.to.buffer.index);
    for (const auto d : std::array{device_of(streams_, stream.index), disk_, target})
      if (faults_.lost(d)) return gone(d);
    auto request = r;
    if (faults.spoils) {
      inject(faults.spoiling, target, stream, r.tag, r.to.size, disk_);
      request.from.offset = r.from.offset == 0 ? 1 : r.from.offset - 1;
    }
    if (faults.stalls) request.delay = stalled(faults.stalling, r.delay, target, stream, r.tag, r.to.size);
    return base::read(stream, request);
  }
  result<done> launch(stream_id stream, const launch_request& r) {
    catch_up();
    const auto d = device_of(streams_, stream.index);
    if (faults_.lost(d)) return gone(d);
    auto request = r;
    request.slowdown *= faults_.slowdown(d);
    return base::launch(stream, request);
  }

  result<done> record(stream_id stream, event_id event) {
    catch_up();
    const auto d = device_of(streams_, stream.index);
    if (faults_.lost(d)) return gone(d);
    auto recorded = base::record(stream, event);
    if (auto* last = events_.find(event.index); recorded && last != nullptr) *last = d;
    return recorded;
  }
  result<done> wait(stream_id stream, event_id event) {
    catch_up();
    for (const auto d : std::array{device_of(streams_, stream.index), device_of(events_, event.index)})
      if (faults_.lost(d)) return gone(d);
    return base::wait(stream, event);
  }
  result<bool> ready(event_id event) {
    catch_up();
    const auto d = device_of(events_, event.index);
    if (faults_.lost(d)) return gone(d);
    return base::ready(event);
  }

  /// Lets the clock stop at faults on the way: `device_lost` when the stream's device goes before its work is done.
  result<done> synchronize(stream_id stream) {
    catch_up();
    const auto d = device_of(streams_, stream.index);
    if (faults_.lost(d)) return gone(d);
    if (faults_.next_trigger() != never) {
      if (auto passed = pass_triggers(stream); !passed) return passed;
    }
    const auto finished = base::synchronize(stream);
    catch_up();
    if (faults_.lost(d)) return gone(d);
    if (!finished && finished.error().code == errc::stalled) return failure{faults_.explained(finished.error())};
    return finished;
  }

  result<std::uint64_t> checksum(const buffer_range& range) {
    catch_up();
    const auto d = device_of(buffers_, range.buffer.index);
    if (faults_.lost(d)) return gone(d);
    return base::checksum(range);
  }
  result<std::uint64_t> checksum(const storage_range& range) {
    catch_up();
    if (faults_.lost(disk_)) return gone(disk_);
    return base::checksum(range);
  }

  /// The next fault counts as something that happens only while the machine itself has something pending.
  picoseconds next_time() const {
    const auto t = base::next_time();
    return t == never ? never : std::min(t, std::max(faults_.next_trigger(), base::now()));
  }
  void advance_to(picoseconds t) {
    apply_until(t);
    base::advance_to(t);
  }

  void observe(observer o) {
    outer_ = o;
    base::observe(o);
  }
  /// The caller's factor; faults come on top of it.
  result<done> throttle(segment_index segment, double factor)
    requires ThrottledMachine<M>
  {
    if (segment >= throttles_.size()) return base::throttle(segment, factor);
    auto changed = base::throttle(segment, factor * faults_.share(segment));
    if (changed) throttles_[segment] = factor;
    return changed;
  }

 private:
  using devices = detail::handle_table<device_index>;

  static device_index device_of(const devices& table, std::uint32_t handle) {
    const auto* d = table.find(handle);
    return d == nullptr ? no_index : *d;
  }
  text<64> name_of_device(device_index d) const {
    const auto t = base::topology();
    return d < t.devices.size() ? text<64>(t.devices[d].id.view()) : text<64>("a device");
  }
  text<64> transfer_name(device_index from, device_index to) const {
    return name_of_device(from).append(" -> ").append(name_of_device(to));
  }
  failure gone(device_index d) const {
    return {
        faults_.explained(error{errc::device_lost, name_of_device(d).view(), "injected: the device is lost", 0, 0})};
  }
  result<buffer_id> known(result<buffer_id> made, device_index device) {
    if (made) buffers_.set(made->index, device);
    return made;
  }

  void inject(const fault& f, device_index device, stream_id stream, op_tag tag, bytes size,
              device_index from = no_index) {
    faults_.happened(f);
    outer_(activity{activity_kind::fault, device, from, stream, tag, base::now(), base::now(), size});
  }
  picoseconds stalled(const fault& f, picoseconds delay, device_index device, stream_id stream, op_tag tag,
                      bytes size) {
    inject(f, device, stream, tag, size);
    return f.lasting >= never - delay ? never : delay + f.lasting;
  }

  void catch_up() { apply_until(base::now()); }
  /// Applies all triggers up to a time, each at its own.
  void apply_until(picoseconds t) {
    while (faults_.next_trigger() != never && faults_.next_trigger() <= t) {
      if (faults_.next_trigger() > base::now()) base::advance_to(faults_.next_trigger());
      if (faults_.next_trigger() > base::now()) return;  // a real machine: its clock goes by itself
      const auto trigger = faults_.take_trigger();
      const auto& f = faults_.at(trigger.fault);
      const auto target = faults_.target(trigger.fault);
      if (f.kind == fault_kind::segment) narrow(target);
      if (trigger.begins) inject(f, f.kind == fault_kind::segment ? no_index : target, {}, no_tag, 0);
    }
  }
  void narrow(segment_index segment) {
    // The segment is one of the machine's and the factor is in (0, 1]: a machine that can be throttled takes it.
    if constexpr (ThrottledMachine<M>) (void)base::throttle(segment, throttles_[segment] * faults_.share(segment));
  }

  /// Runs the machine until the stream is done, there is no trigger left or nothing is pending, step by step.
  result<done> pass_triggers(stream_id stream) {
    if (mark_.index == no_handle) {
      auto made = base::make_event();
      if (!made) return made.propagate();
      mark_ = *made;
    }
    if (auto recorded = base::record(stream, mark_); !recorded) return recorded;
    const auto d = device_of(streams_, stream.index);
    while (faults_.next_trigger() != never) {
      const auto reached = base::ready(mark_);
      if (!reached) return reached.propagate();
      if (*reached) return done{};
      const auto t = next_time();
      if (t == never) return done{};
      advance_to(t);
      if (faults_.lost(d)) return gone(d);
    }
    return done{};
  }

  detail::fault_injector faults_;
  std::pmr::vector<double> throttles_;  // per segment, the caller's
  devices streams_, events_, buffers_;  // an event's: of the stream of its latest record
  device_index disk_;
  event_id mark_;  // of `synchronize`
  observer outer_;
};

}  // namespace berth
