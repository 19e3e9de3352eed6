// SPDX-License-Identifier: Apache-2.0
module;

#include <concepts>
#include <cstddef>
#include <cstdint>

export module berth.exec:forwarded;

import berth.base;
import berth.topology;
import :handles;
import :requests;
import :activity;
import :machine;

export namespace berth {

/// A machine that can name a buffer to others: the token says where the memory is (a pointer, as a rule) and holds
/// until the buffer is deallocated.
template <class M>
concept ExportingMachine = Machine<M> && requires(M& m, buffer_id buffer) {
  { m.export_token(buffer) } -> std::same_as<std::uint64_t>;
};

/// A machine that can copy to and from memory that another machine allocated: `import` makes a buffer of its own of
/// that memory, `device` being the owner's device in this machine's topology. Deallocating it ends the use, not the
/// memory.
template <class M>
concept ImportingMachine =
    Machine<M> && requires(M& m, device_index device, bytes size, memory_kind kind, std::uint64_t token) {
      { m.import(device, size, kind, token) } -> std::same_as<result<buffer_id>>;
    };

}  // namespace berth

namespace berth::detail {

/// Passes every operation on to a machine: what decorators derive from, so that each spells out only what it changes.
template <Machine M>
class forwarded {
 public:
  topology_view topology() const { return below_->topology(); }
  result<stream_id> make_stream(device_index device) { return below_->make_stream(device); }
  result<event_id> make_event() { return below_->make_event(); }
  result<buffer_id> allocate(device_index device, bytes size, memory_kind kind) {
    return below_->allocate(device, size, kind);
  }
  result<done> deallocate(stream_id stream, buffer_id buffer) { return below_->deallocate(stream, buffer); }
  result<done> copy(stream_id stream, const copy_request& r) { return below_->copy(stream, r); }
  result<done> read(stream_id stream, const read_request& r) { return below_->read(stream, r); }
  result<done> launch(stream_id stream, const launch_request& r) { return below_->launch(stream, r); }
  result<done> record(stream_id stream, event_id event) { return below_->record(stream, event); }
  result<done> wait(stream_id stream, event_id event) { return below_->wait(stream, event); }
  result<bool> ready(event_id event) { return below_->ready(event); }
  result<done> synchronize(stream_id stream) { return below_->synchronize(stream); }
  result<done> synchronize(event_id event) { return below_->synchronize(event); }
  result<std::uint64_t> checksum(const buffer_range& range) { return below_->checksum(range); }
  result<std::uint64_t> checksum(const storage_range& range) { return below_->checksum(range); }
  picoseconds now() const { return const_below().now(); }
  picoseconds next_time() const { return below_->next_time(); }
  void advance_to(picoseconds t) { below_->advance_to(t); }
  void observe(observer o) { below_->observe(o); }
  void* native(stream_id stream) { return below_->native(stream); }
  std::byte* address(buffer_id buffer) { return below_->address(buffer); }

  result<done> throttle(segment_index segment, double factor)
    requires ThrottledMachine<M>
  {
    return below_->throttle(segment, factor);
  }
  std::uint64_t export_token(buffer_id buffer)
    requires ExportingMachine<M>
  {
    return below_->export_token(buffer);
  }
  result<buffer_id> import(device_index device, bytes size, memory_kind kind, std::uint64_t token)
    requires ImportingMachine<M>
  {
    return below_->import(device, size, kind, token);
  }

 protected:
  explicit forwarded(M& m) : below_(&m) {}
  ~forwarded() = default;

  M& below() { return *below_; }
  const M& const_below() const { return *below_; }

 private:
  M* below_;
};

}  // namespace berth::detail
