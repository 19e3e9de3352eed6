// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

module berth.host;

import berth.base;
import berth.topology;
import berth.exec;

namespace berth::host {

machine::machine(topology_view t, const machine_options& options, std::pmr::memory_resource* memory)
    : topology_(t),
      storage_(options.storage),
      stream_devices_(memory),
      pools_(t.devices.size(), memory),
      buffers_(options.buffers, memory),
      unused_buffers_(memory),
      chunk_(memory),
      queues_({options.streams, options.events, options.items}, options.threads, {this, &machine::perform}, memory) {
  stream_devices_.reserve(options.streams);
  unused_buffers_.reserve(buffers_.size());
  for (auto i = options.buffers; i > 0; --i) unused_buffers_.push_back(i - 1);
  if (threads() < options.threads)
    warn(text<256>("the system gave ")
             .append(static_cast<std::uint64_t>(threads()))
             .append(" of ")
             .append(static_cast<std::uint64_t>(options.threads))
             .append(" threads (see ulimit -u and the control group's pids.max)"));
}

result<stream_id> machine::make_stream(device_index device) {
  if (device >= topology_.devices.size()) return fail(errc::unknown_device, "stream", "the machine has no such device");
  if (!topology_.devices[device].executes())
    return fail(errc::unsupported, topology_.devices[device].id.view(), "a disk has no streams");
  const auto s = queues_.add_stream();
  if (!s) return s.propagate();
  stream_devices_.push_back(device);
  return stream_id{*s};
}

result<event_id> machine::make_event() {
  const auto e = queues_.add_event();
  if (!e) return e.propagate();
  return event_id{*e};
}

/// Counts the memory: rounded as the device does, of the pool that the device's memory is.
result<bytes> machine::take(device_index device, bytes size) {
  const auto owner = owner_of(device);
  const auto granularity = topology_.devices[owner].granularity;
  auto& p = pools_[owner];
  const auto left = topology_.devices[owner].free - p.used;
  const bool countable = size <= max_bytes - granularity;
  const auto taken = countable ? round_up(size, granularity) : size;
  if (!countable || taken > left) return out_of_memory(device, size, taken, left);
  p.used += taken;
  p.highest = std::max(p.highest, p.used);
  return taken;
}

result<buffer_id> machine::allocate(device_index device, bytes size, memory_kind kind) {
  if (device >= topology_.devices.size()) return fail(errc::unknown_device, "buffer", "the machine has no such device");
  catch_up();
  if (unused_buffers_.empty())
    return fail(errc::capacity, "buffer", "more buffers than the machine was made for", buffers_.size() + 1,
                buffers_.size());
  const auto taken = take(device, size);
  if (!taken) return taken.propagate();
  auto memory = mapped_memory::make(size);
  if (!memory) {
    pools_[owner_of(device)].used -= *taken;
    return fail(errc::out_of_memory, topology_.devices[device].id.view(),
                text<416>("the operating system refuses an allocation of ")
                    .append(format_size(size))
                    .append(" that the plan has room for: ")
                    .append(memory.error().detail),
                size, 0);
  }
  const auto b = unused_buffers_.back();
  unused_buffers_.pop_back();
  buffers_[b] = {device, size, *taken, *std::move(memory), 0, true, false};
  if (kind == memory_kind::pinned && topology_.devices[device].kind == device_kind::cpu) pin(buffers_[b]);
  const auto time = catch_up();  // what ended before is told before
  observer_({activity_kind::allocate, device, no_index, {}, no_tag, time, time, *taken});
  return buffer_id{b};
}

void machine::pin(buffer_state& b) {
  const int why = b.memory.lock();
  if (why == 0 || pageable_) return;
  pageable_ = true;
  warn(text<256>("pinned memory is pageable here: locking ")
           .append(format_size(b.size))
           .append(" failed (")
           .append(std::generic_category().message(why))
           .append("); raise the limit of locked memory, ulimit -l"));
}

void machine::warn(const text<256>& what) { warnings_[warning_count_++] = what; }

std::byte* machine::address(buffer_id buffer) { return check(buffer) ? buffers_[buffer.index].memory.data() : nullptr; }

result<done> machine::submit(stream_id stream, const task& t) {
  catch_up();
  auto ok = queues_.submit(stream.index, t);
  if (!ok) return ok;
  for (const auto b : std::span(t.uses).first(t.used)) ++buffers_[b].uses;
  return ok;
}

result<done> machine::deallocate(stream_id stream, buffer_id buffer) {
  if (auto ok = check(stream); !ok) return ok;
  if (auto ok = check(buffer); !ok) return ok;
  auto& b = buffers_[buffer.index];
  task t;
  t.what = {activity_kind::free, b.device, no_index, stream, no_tag, 0, 0, b.taken};
  t.freed = buffer.index;
  auto ok = submit(stream, t);
  if (ok) b.live = false;
  return ok;
}

/// Checks a range and keeps its buffer until the task is over. Nothing where a launch names no memory.
result<memory_view> machine::view(const buffer_range& r, task& t) {
  if (r == buffer_range{}) return memory_view{};
  if (auto ok = check(r); !ok) return ok.propagate();
  if (r.size == 0) return memory_view{};
  t.use(r.buffer.index);
  return memory_view{buffers_[r.buffer.index].memory.data() + r.offset, r.size};
}

result<done> machine::copy(stream_id stream, const copy_request& r) {
  if (auto ok = check(stream); !ok) return ok;
  for (const auto* range : std::array{&r.from, &r.to})
    if (auto ok = check(*range); !ok) return ok;
  if (r.from.size != r.to.size)
    return fail(errc::invalid_argument, "copy", "source and target differ in size", r.to.size, r.from.size);
  task t;
  const auto from = view(r.from, t), to = view(r.to, t);
  t.what = {r.kind == transfer_kind::message ? activity_kind::message : activity_kind::copy,
            buffers_[r.to.buffer.index].device,
            buffers_[r.from.buffer.index].device,
            stream,
            r.tag,
            0,
            0,
            r.to.size};
  t.from = from->data;
  t.to = to->data;
  return submit(stream, t);
}

/// Where a read is said to come from: the disk; host memory where there is none.
device_index machine::storage_device(device_index target) const {
  for (const auto kind : {device_kind::disk, device_kind::cpu})
    if (const auto d = topology_.first(kind)) return *d;
  return target;
}

result<done> machine::read(stream_id stream, const read_request& r) {
  if (auto ok = check(stream); !ok) return ok;
  if (auto ok = check(r.to); !ok) return ok;
  if (r.from.size != r.to.size)
    return fail(errc::invalid_argument, "read", "source and target differ in size", r.to.size, r.from.size);
  task t;
  const auto to = view(r.to, t);
  const auto target = buffers_[r.to.buffer.index].device;
  t.what = {activity_kind::read, target, storage_device(target), stream, r.tag, 0, 0, r.to.size};
  t.stored = r.from;
  t.to = to->data;
  return submit(stream, t);
}

result<done> machine::launch(stream_id stream, const launch_request& r) {
  if (auto ok = check(stream); !ok) return ok;
  task t;
  const auto device = stream_devices_[stream.index];
  const auto touched = r.touched > 0 && r.touched < static_cast<double>(max_bytes) ? r.touched : 0;
  t.what = {activity_kind::launch, device, no_index, stream, r.tag, 0, 0, static_cast<bytes>(touched)};
  t.work = r.work;
  t.call = {device, nullptr, r.tag, {}};
  using ranges = work_memory<buffer_range>;
  using views = work_memory<memory_view>;
  constexpr std::array<std::pair<buffer_range ranges::*, memory_view views::*>, 5> parts{
      {{&ranges::weights, &views::weights},
       {&ranges::state, &views::state},
       {&ranges::workspace, &views::workspace},
       {&ranges::in, &views::in},
       {&ranges::out, &views::out}}};
  for (const auto& [range, seen] : parts) {
    const auto v = view(r.memory.*range, t);
    if (!v) return v.propagate();
    t.call.memory.*seen = *v;
  }
  return submit(stream, t);
}

/// On whatever thread carries tasks out: touches nothing of the machine but what never changes.
result<done> machine::perform(void* self, const task& t) {
  const auto& m = *static_cast<machine*>(self);
  const auto size = static_cast<std::size_t>(t.what.size);
  switch (t.what.kind) {
    case activity_kind::copy:
    case activity_kind::message:
      if (size > 0) std::memmove(t.to, t.from, size);
      return done{};
    case activity_kind::read:
      if (size == 0) return done{};
      return m.storage_(t.stored, std::span(t.to, size));
    case activity_kind::launch:
      t.work(t.call);
      return done{};
    case activity_kind::allocate:
    case activity_kind::free:
    case activity_kind::fault:
      break;
  }
  return done{};
}

result<done> machine::record(stream_id stream, event_id event) {
  if (auto ok = check(stream); !ok) return ok;
  if (auto ok = check(event); !ok) return ok;
  catch_up();
  return queues_.record(stream.index, event.index);
}

result<done> machine::wait(stream_id stream, event_id event) {
  if (auto ok = check(stream); !ok) return ok;
  if (auto ok = check(event); !ok) return ok;
  catch_up();
  return queues_.wait(stream.index, event.index);
}

result<bool> machine::ready(event_id event) {
  if (auto ok = check(event); !ok) return ok.propagate();
  auto is = queues_.ready(event.index);
  catch_up();
  return is;
}

result<done> machine::synchronize(stream_id stream) {
  if (auto ok = check(stream); !ok) return ok;
  auto ok = queues_.finish_stream(stream.index);
  catch_up();
  return ok;
}

result<done> machine::synchronize(event_id event) {
  if (auto ok = check(event); !ok) return ok;
  auto ok = queues_.finish_event(event.index);
  catch_up();
  return ok;
}

/// What was over before belongs to the observer before.
void machine::observe(observer o) {
  catch_up();
  observer_ = o;
}

picoseconds machine::catch_up() {
  return queues_.drain([this](const task& t, bool carried_out) { over(t, carried_out); });
}

void machine::over(const task& t, bool carried_out) {
  for (const auto b : std::span(t.uses).first(t.used)) {
    --buffers_[b].uses;
    give_back(b);
  }
  if (t.freed != no_handle) {
    buffers_[t.freed].freed = true;
    give_back(t.freed);
  }
  if (carried_out) observer_(t.what);
}

/// Another stream may still be at work with memory that its owner has freed too early: it stays until then.
void machine::give_back(std::uint32_t buffer) {
  auto& b = buffers_[buffer];
  if (!b.freed || b.uses > 0) return;
  pools_[owner_of(b.device)].used -= b.taken;
  b = {};
  unused_buffers_.push_back(buffer);
}

}  // namespace berth::host
