// SPDX-License-Identifier: Apache-2.0
// Copies: directly where both ends can be addressed, else in chunks through pinned slots.
module;

#include <algorithm>
#include <atomic>
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

module berth.cuda;

import berth.base;
import berth.topology;
import berth.exec;

namespace berth::cuda {

using detail::place;

result<detail::host_work*> machine::new_host_work() {
  if (capture_ != nullptr) return &capture_->work.emplace_back();
  if (auto* w = host_work_.take(); w != nullptr) return w;
  return fail(errc::capacity, "host work", "more host functions under way than the machine was made for",
              options_.bounds.host_work + 1, options_.bounds.host_work);
}

result<done> machine::submit(stream_state& s, detail::host_work& w) {
  auto ok = done_by(cuda_.launch_host(s.native, detail::run_host_work, &w), {"cudaLaunchHostFunc", name_of(s.device)});
  if (!ok) w.busy.store(false, std::memory_order_relaxed);
  return ok;
}

result<done> machine::copy_host(stream_state& s, std::byte* to, const std::byte* from, bytes size) {
  const auto w = new_host_work();
  if (!w) return w.propagate();
  (*w)->from = from;
  (*w)->to = to;
  (*w)->size = size;
  return submit(s, **w);
}

/// Runs an item of `s` on the machine's own stream of a GPU, in its place in the order of `s`: copies are submitted to
/// a stream of the GPU whose memory they touch.
template <class Item>
result<done> machine::detour(stream_state& s, device_index gpu, Item item) {
  const auto h = helper_of(gpu);
  if (!h) return h.propagate();
  auto& helper = **h;
  if (auto ok = record(s, s.tail); !ok) return ok;
  if (auto ok = wait(helper, s.tail); !ok) return ok;
  if (auto ok = item(helper); !ok) return ok;
  if (auto ok = record(helper, helper.tail); !ok) return ok;
  return wait(s, helper.tail);
}

result<done> machine::copy_native(stream_state& s, device_index gpu, std::byte* to, const std::byte* from, bytes size) {
  const auto item = [&](stream_state& on) {
    return done_by(cuda_.copy(to, from, static_cast<std::size_t>(size), on.native),
                   {"cudaMemcpyAsync", name_of(gpu), size, true});
  };
  return is_on(s, gpu) ? item(s) : detour(s, gpu, item);
}

result<done> machine::copy_gpus(stream_state& s, const detail::buffer_state& from, const detail::buffer_state& to,
                                const copy_request& r) {
  auto *source = from.data + r.from.offset, *target = to.data + r.to.offset;
  const int a = gpus_[from.device].ordinal, b = gpus_[to.device].ordinal;
  if (a == b) return copy_native(s, to.device, target, source, r.to.size);
  if (peers_[from.device * gpus_.size() + to.device] == 0)
    return copy_staged(s, from.device, source, to.device, target, r.to.size);
  const auto item = [&](stream_state& on) {
    return done_by(cuda_.copy_peer(target, b, source, a, static_cast<std::size_t>(r.to.size), on.native),
                   {"cudaMemcpyPeerAsync", name_of(to.device), r.to.size, true});
  };
  return is_on(s, from.device) || is_on(s, to.device) ? item(s) : detour(s, to.device, item);
}

/// Between GPUs without peer access: one stream fills slots from the source while another empties them.
result<done> machine::copy_staged(stream_state& s, device_index a, const std::byte* from, device_index b, std::byte* to,
                                  bytes size) {
  const auto ring = ring_of(b);
  if (!ring) return ring.propagate();
  const auto stream_on = [&](device_index gpu) { return is_on(s, gpu) ? result<stream_state*>(&s) : helper_of(gpu); };
  const auto up = stream_on(a), down = stream_on(b);
  if (!up) return up.propagate();
  if (!down) return down.propagate();
  auto &out = **up, &in = **down;
  if (auto ok = record(s, s.tail); !ok) return ok;
  for (auto* half : {&out, &in})
    if (half != &s)
      if (auto ok = wait(*half, s.tail); !ok) return ok;
  for (bytes at = 0; at < size;) {
    auto& slot = (*ring)->slots[(*ring)->next];
    const auto n = std::min(size - at, (*ring)->slot_size);
    if (auto ok = wait(out, slot.free); !ok) return ok;
    if (auto ok = copy_native(out, a, slot.data, from + at, n); !ok) return ok;
    if (auto ok = record(out, slot.filled); !ok) return ok;
    if (auto ok = wait(in, slot.filled); !ok) return ok;
    if (auto ok = copy_native(in, b, to + at, slot.data, n); !ok) return ok;
    if (auto ok = record(in, slot.free); !ok) return ok;
    (*ring)->next = ((*ring)->next + 1) % (*ring)->slots.size();
    at += n;
  }
  if (&in == &s) return done{};
  if (auto ok = record(in, in.tail); !ok) return ok;
  return wait(s, in.tail);
}

/// Pageable memory cannot be copied without the caller's thread: host functions move it to and from slots.
result<done> machine::copy_pageable(stream_state& s, const detail::buffer_state& from, const detail::buffer_state& to,
                                    const copy_request& r) {
  const bool down = to.where == place::gpu;
  const auto gpu = down ? to.device : from.device;
  const auto found = ring_of(gpu);
  if (!found) return found.propagate();
  auto& ring = **found;
  for (bytes at = 0; at < r.to.size;) {
    auto& slot = ring.slots[ring.next];
    const auto n = std::min(r.to.size - at, ring.slot_size);
    const auto* source = from.data + r.from.offset + at;
    auto* target = to.data + r.to.offset + at;
    if (auto ok = wait(s, slot.free); !ok) return ok;
    if (auto ok = down ? copy_host(s, slot.data, source, n) : copy_native(s, gpu, slot.data, source, n); !ok) return ok;
    if (auto ok = down ? copy_native(s, gpu, target, slot.data, n) : copy_host(s, target, slot.data, n); !ok) return ok;
    if (auto ok = record(s, slot.free); !ok) return ok;
    ring.next = (ring.next + 1) % ring.slots.size();
    at += n;
  }
  return done{};
}

result<done> machine::copy_any(stream_state& s, const detail::buffer_state& from, const detail::buffer_state& to,
                               const copy_request& r) {
  if (r.to.size == 0) return done{};
  auto *source = from.data + r.from.offset, *target = to.data + r.to.offset;
  if (from.where != place::gpu && to.where != place::gpu) return copy_host(s, target, source, r.to.size);
  if (from.where == place::pageable || to.where == place::pageable) return copy_pageable(s, from, to, r);
  if (from.where == place::gpu && to.where == place::gpu) return copy_gpus(s, from, to, r);
  return copy_native(s, from.where == place::gpu ? from.device : to.device, target, source, r.to.size);
}

/// After a transfer that could not be submitted whole: what the machine's own streams have of it must not touch memory
/// that the caller, whose stream knows nothing of it, may free. Waits, which errors may.
void machine::abandon() {
  if (capture_ != nullptr || lost_) return;
  for (const auto& g : gpus_)
    if (g.helper != detail::none) (void)cuda_.stream_synchronize(streams_[g.helper].native);
}

result<done> machine::copy(stream_id stream, const copy_request& r) {
  if (auto ok = check(stream); !ok) return ok;
  if (auto ok = check(r.from); !ok) return ok;
  if (auto ok = check(r.to); !ok) return ok;
  if (r.from.size != r.to.size)
    return fail(errc::invalid_argument, "copy", "source and target differ in size", r.to.size, r.from.size);
  auto& s = streams_[stream.index];
  if (auto ok = use(s); !ok) return ok;
  const auto &from = buffers_[r.from.buffer.index], &to = buffers_[r.to.buffer.index];
  const auto start = begin_item(s);
  if (!start) return start.propagate();
  auto ok = copy_any(s, from, to, r);
  if (!ok) abandon();
  const auto kind = r.kind == transfer_kind::message ? activity_kind::message : activity_kind::copy;
  const auto told = end_item(s, *start, {kind, to.device, from.device, {}, r.tag, 0, 0, r.to.size});
  return ok ? told : ok;
}

/// A read into host memory by a host function of `reader`; what it cannot read is the failure of `s`.
result<done> machine::read_host(stream_state& s, stream_state& reader, const storage_range& from, std::byte* to) {
  const auto w = new_host_work();
  if (!w) return w.propagate();
  (*w)->store = &options_.storage;
  (*w)->stored = from;
  (*w)->to = to;
  (*w)->size = from.size;
  (*w)->failed = &s.failed;
  return submit(reader, **w);
}

/// The machine's own stream reads ahead into the slots as long as they are free; the stream itself copies.
result<done> machine::read_staged(stream_state& s, const storage_range& from, device_index gpu, std::byte* to) {
  const auto found = ring_of(gpu);
  if (!found) return found.propagate();
  const auto reader = helper_of(gpu);
  if (!reader) return reader.propagate();
  auto& ring = **found;
  for (bytes at = 0; at < from.size;) {
    auto& slot = ring.slots[ring.next];
    const auto n = std::min(from.size - at, ring.slot_size);
    if (auto ok = wait(**reader, slot.free); !ok) return ok;
    if (auto ok = read_host(s, **reader, {from.file, from.offset + at, n}, slot.data); !ok) return ok;
    if (auto ok = record(**reader, slot.filled); !ok) return ok;
    if (auto ok = wait(s, slot.filled); !ok) return ok;
    if (auto ok = copy_native(s, gpu, to + at, slot.data, n); !ok) return ok;
    if (auto ok = record(s, slot.free); !ok) return ok;
    ring.next = (ring.next + 1) % ring.slots.size();
    at += n;
  }
  return done{};
}

result<done> machine::read(stream_id stream, const read_request& r) {
  if (auto ok = check(stream); !ok) return ok;
  if (auto ok = check(r.to); !ok) return ok;
  if (r.from.size != r.to.size)
    return fail(errc::invalid_argument, "read", "source and target differ in size", r.to.size, r.from.size);
  if (options_.storage.read == nullptr)
    return fail(errc::unsupported, "storage", "the machine was made without storage; set machine_options::storage");
  auto& s = streams_[stream.index];
  if (auto ok = use(s); !ok) return ok;
  const auto& to = buffers_[r.to.buffer.index];
  auto* target = to.data + r.to.offset;
  const auto start = begin_item(s);
  if (!start) return start.propagate();
  result<done> ok = done{};
  if (r.to.size > 0)
    ok = to.where == place::gpu ? read_staged(s, r.from, to.device, target) : read_host(s, s, r.from, target);
  if (!ok) abandon();
  const auto from = topology_.first(device_kind::disk).value_or(to.device);
  const auto told = end_item(s, *start, {activity_kind::read, to.device, from, {}, r.tag, 0, 0, r.to.size});
  return ok ? told : ok;
}

/// The machine's own stream of a GPU, ready for an item.
result<machine::stream_state*> machine::helper_of(device_index gpu) {
  auto& g = gpus_[gpu];
  if (g.helper == detail::none) {
    if (auto ok = usable("a first staged transfer"); !ok) return ok.propagate();
    const auto made = new_stream(gpu, gpu, nullptr);
    if (!made) return made;
    (*made)->helper = true;
    g.helper = (*made)->index;
  }
  auto& s = streams_[g.helper];
  if (auto ok = use(s); !ok) return ok.propagate();
  return &s;
}

result<detail::staging_ring*> machine::ring_of(device_index gpu) {
  auto& ring = gpus_[gpu].ring;
  if (ring.memory == nullptr)
    if (auto ok = make_ring(gpu); !ok) return ok.propagate();
  return &ring;
}

result<done> machine::make_ring(device_index gpu) {
  if (auto ok = usable("a first staged transfer"); !ok) return ok;
  auto& ring = gpus_[gpu].ring;
  const auto slots = std::max<std::uint32_t>(options_.staging.slots, 1);
  const auto slot_size = options_.staging.size / slots;
  if (slot_size == 0)
    return fail(errc::invalid_argument, "staging", "a slot has no bytes; raise machine_options::staging");
  if (auto ok = touch(gpu); !ok) return ok;
  if (auto ok = done_by(cuda_.host_alloc(&ring.memory, static_cast<std::size_t>(slot_size * slots)),
                        {"cudaHostAlloc", "cpu", slot_size * slots});
      !ok)
    return ok;
  ring.slot_size = slot_size;
  for (std::uint32_t k = 0; k < slots; ++k)
    ring.slots.emplace_back(gpus_.size(), memory_).data = static_cast<std::byte*>(ring.memory) + k * slot_size;
  return done{};
}

}  // namespace berth::cuda
