// SPDX-License-Identifier: Apache-2.0
module;

#include <concepts>
#include <cstddef>
#include <cstdint>

export module berth.exec:machine;

import berth.base;
import berth.topology;
import :handles;
import :requests;
import :activity;

export namespace berth {

/// What executes programs: a backend for the devices of a topology. One caller, one thread; nothing blocks except
/// `synchronize`, nothing starts threads behind the caller's back.
///
/// | operation | meaning |
/// |---|---|
/// | `topology()` | the devices, segments and routes; valid as long as the machine |
/// | `make_stream(device)`, `make_event()` | `capacity` when the machine has no more |
/// | `allocate(device, size, kind)` | counts from the call; `out_of_memory` with device, bytes asked and left: the run
/// can go on | | `deallocate(stream, buffer)` | takes effect when the stream reaches it | | `copy`, `read`, `launch` |
/// appended to a stream; see the requests | | `record(stream, event)` | the event completes when all earlier items of
/// the stream have | | `wait(stream, event)` | later items of the stream wait for the latest `record` of the event
/// before this call; no effect without one | | `ready(event)` | whether its latest record has completed; true without
/// one; the error of what went wrong before it | | `synchronize(stream)` | returns when everything submitted to the
/// stream has completed; `stalled` if that never happens | | `checksum(buffer range)`, `checksum(storage range)` |
/// equal for equal bytes; only of what has arrived | | `now()` | time since the machine was made; simulated machines:
/// virtual | | `next_time()` | when something will happen next without a new call; `never`: nothing pending, or a real
/// machine | | `advance_to(t)` | simulated machines: moves the clock to t, things happen on the way; real machines:
/// nothing | | `observe(observer)` | tells of activities from now on; one observer at a time, `{}` for none | |
/// `native(stream)` | the handle underneath; null where there is none |
/// | `address(buffer)` | where its bytes begin in the address space of its device; null on simulated machines |
template <class M>
concept Machine = requires(M& m, const M& c, device_index device, bytes size, stream_id stream, event_id event,
                           buffer_id buffer, const copy_request& copy, const read_request& read,
                           const launch_request& launch, const buffer_range& range, const storage_range& stored) {
  { c.topology() } -> std::same_as<topology_view>;
  { m.make_stream(device) } -> std::same_as<result<stream_id>>;
  { m.make_event() } -> std::same_as<result<event_id>>;
  { m.allocate(device, size, memory_kind::plain) } -> std::same_as<result<buffer_id>>;
  { m.deallocate(stream, buffer) } -> std::same_as<result<done>>;
  { m.copy(stream, copy) } -> std::same_as<result<done>>;
  { m.read(stream, read) } -> std::same_as<result<done>>;
  { m.launch(stream, launch) } -> std::same_as<result<done>>;
  { m.record(stream, event) } -> std::same_as<result<done>>;
  { m.wait(stream, event) } -> std::same_as<result<done>>;
  { m.ready(event) } -> std::same_as<result<bool>>;
  { m.synchronize(stream) } -> std::same_as<result<done>>;
  { m.synchronize(event) } -> std::same_as<result<done>>;
  { m.checksum(range) } -> std::same_as<result<std::uint64_t>>;
  { m.checksum(stored) } -> std::same_as<result<std::uint64_t>>;
  { c.now() } -> std::same_as<picoseconds>;
  { m.next_time() } -> std::same_as<picoseconds>;
  { m.advance_to(picoseconds{}) } -> std::same_as<void>;
  { m.observe(observer{}) } -> std::same_as<void>;
  { m.native(stream) } -> std::same_as<void*>;
  { m.address(buffer) } -> std::same_as<std::byte*>;
};

/// A machine whose links can be slowed down (a simulated one).
template <class M>
concept ThrottledMachine = Machine<M> && requires(M& m, segment_index segment, double factor) {
  { m.throttle(segment, factor) } -> std::same_as<result<done>>;
};

/// Moves a simulated clock to what happens next. False: nothing is pending, or the machine is real.
template <Machine M>
bool advance_to_next(M& m) {
  const auto t = m.next_time();
  if (t == never) return false;
  m.advance_to(t);
  return true;
}

}  // namespace berth
