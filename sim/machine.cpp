// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

module berth.sim;

import berth.base;
import berth.topology;
import berth.exec;

namespace berth::sim {
namespace {

std::pmr::vector<device_model> models_of(topology_view t, const machine_options& o, std::pmr::memory_resource* memory) {
  std::pmr::vector<device_model> out(memory);
  for (const auto& d : t.devices) out.push_back({d.free, d.granularity, o.copy_in_engines, o.copy_out_engines});
  return out;
}

std::pmr::vector<double> capacities_of(topology_view t, std::pmr::memory_resource* memory) {
  std::pmr::vector<double> out(memory);
  for (const auto& s : t.segments) out.push_back(s.capacity);
  return out;
}

bool holds(const buffer_range& r, bytes size) { return r.offset <= size && r.size <= size - r.offset; }

}  // namespace

machine::machine(topology_view t, const machine_options& options, std::pmr::memory_resource* memory)
    : topology_(t),
      options_(options),
      own_contents_(options.shared == nullptr ? options.places : 1, memory),
      contents_(options.shared == nullptr ? &own_contents_ : options.shared),
      simulator_(models_of(t, options, memory), capacities_of(t, memory), options.bounds, memory),
      paths_(t.devices.size() * t.devices.size(), memory),
      hops_(memory),
      stream_devices_(memory),
      buffers_(options.buffers, memory),
      unused_buffers_(memory),
      under_way_(options.bounds.items, memory),
      unused_(memory),
      observer_() {
  find_paths();
  stream_devices_.reserve(options.bounds.streams);
  unused_buffers_.reserve(buffers_.size());
  for (auto i = options.buffers; i > 0; --i) unused_buffers_.push_back(i - 1);
  unused_.reserve(under_way_.size());
  for (auto i = options.bounds.items; i > 0; --i) unused_.push_back(i - 1);
  simulator_.observe({this, &machine::on_step});
  simulator_.audit(options.audit);
}

void machine::add_path(path& p, const route& r) {
  const bool first = p.count == 0;
  if (first) {
    p.first = static_cast<std::uint32_t>(hops_.size());
    p.latency = p.setup = 0;
    p.cap = r.bandwidth;
  }
  p.latency += to_picoseconds(r.latency);
  p.setup += to_picoseconds(r.setup);
  p.cap = std::min(p.cap, r.bandwidth);
  for (const auto h : topology_.hops_of(r)) {
    if (std::find(hops_.begin() + p.first, hops_.end(), h) != hops_.end()) continue;
    hops_.push_back(h);
    ++p.count;
  }
}

/// What has no route from the disk goes through host memory, chunk behind chunk: the set-ups of both, the slower rate.
void machine::find_paths() {
  const auto n = static_cast<device_index>(topology_.devices.size());
  const auto cpu = topology_.first(device_kind::cpu);
  for (device_index from = 0; from < n; ++from)
    for (device_index to = 0; to < n; ++to) {
      auto& p = paths_[std::size_t{from} * n + to];
      if (const auto* r = topology_.route(from, to); r != nullptr) {
        add_path(p, *r);
        continue;
      }
      if (topology_.devices[from].kind != device_kind::disk || !cpu || *cpu == to) continue;
      const auto *up = topology_.route(from, *cpu), *down = topology_.route(*cpu, to);
      if (up == nullptr || down == nullptr) continue;
      add_path(p, *up);
      add_path(p, *down);
    }
}

result<stream_id> machine::make_stream(device_index device) {
  if (device >= topology_.devices.size()) return fail(errc::unknown_device, "stream", "the machine has no such device");
  if (!topology_.devices[device].executes())
    return fail(errc::unsupported, topology_.devices[device].id.view(), "a disk has no streams");
  const auto s = simulator_.add_stream(device);
  if (!s) return s.propagate();
  stream_devices_.push_back(device);
  return stream_id{*s};
}

result<event_id> machine::make_event() {
  const auto e = simulator_.add_event();
  if (!e) return e.propagate();
  events_ = *e + 1;
  return event_id{*e};
}

result<buffer_id> machine::allocate(device_index device, bytes size, memory_kind kind) {
  if (device >= topology_.devices.size()) return fail(errc::unknown_device, "buffer", "the machine has no such device");
  if (unused_buffers_.empty())
    return fail(errc::capacity, "buffer", "more buffers than the machine was made for", options_.buffers + 1,
                options_.buffers);
  const auto taken = simulator_.allocate(owner_of(device), size);
  if (!taken) return out_of_memory(device, size, taken.error().needed, taken.error().available);
  const auto b = unused_buffers_.back();
  unused_buffers_.pop_back();
  buffers_[b] = {device, size, *taken, kind, contents_->new_buffer(), true};
  observer_({activity_kind::allocate, device, no_index, {}, no_tag, now(), now(), *taken});
  return buffer_id{b};
}

result<buffer_id> machine::import(device_index device, bytes size, memory_kind kind, std::uint64_t token) {
  if (device >= topology_.devices.size()) return fail(errc::unknown_device, "buffer", "the machine has no such device");
  if (unused_buffers_.empty())
    return fail(errc::capacity, "buffer", "more buffers than the machine was made for", options_.buffers + 1,
                options_.buffers);
  const auto b = unused_buffers_.back();
  unused_buffers_.pop_back();
  buffers_[b] = {device, size, 0, kind, token, true};
  return buffer_id{b};
}

result<done> machine::deallocate(stream_id stream, buffer_id buffer) {
  if (auto ok = check(stream); !ok) return ok;
  if (auto ok = check(buffer); !ok) return ok;
  auto& b = buffers_[buffer.index];
  if (b.taken > 0 || b.size == 0) {
    if (unused_.empty())
      return fail(errc::capacity, "stream", "more operations under way than the machine was made for");
    under_way u;
    u.what = {activity_kind::free, b.device, no_index, stream, no_tag, 0, 0, b.taken};
    const auto tag = keep(u);
    if (auto ok = simulator_.release(stream.index, owner_of(b.device), b.taken, tag); !ok) {
      unused_.push_back(tag);
      return ok;
    }
  }
  b.live = false;
  unused_buffers_.push_back(buffer.index);
  return done{};
}

std::uint32_t machine::keep(const under_way& u) {
  const auto i = unused_.back();
  unused_.pop_back();
  under_way_[i] = u;
  return i;
}

void machine::on_step(void* self, const step& s) {
  auto& m = *static_cast<machine*>(self);
  if (s.tag == no_tag) return;
  auto& u = m.under_way_[s.tag];
  u.what.start = s.start;
  u.what.end = s.end;
  m.arrived(u);
  m.unused_.push_back(s.tag);
  m.observer_(u.what);
}

void machine::arrived(const under_way& u) {
  if (u.content == 0) return;
  auto from = u.known ? std::optional(u.from) : contents_->find(u.source, u.source_offset, u.what.size);
  // What was never read from storage has no name; the place still forgets what it had.
  if (!from) from = storage_range{0xffffffffu, u.source, u.what.size};
  contents_->put(u.content, u.offset, *from);
}

/// The part that copies and reads share: which engines, which flow, how long at least.
result<done> machine::transfer(stream_id stream, const path& p, transfer_kind kind, bool pageable, picoseconds delay,
                               under_way& u) {
  const auto from = u.what.from, to = u.what.device;
  if (p.latency == never)
    return fail(errc::unsupported, text<64>(topology_.devices[from].id).append(" -> ").append(topology_.devices[to].id),
                "no route connects these devices");
  if (unused_.empty()) return fail(errc::capacity, "stream", "more operations under way than the machine was made for");
  item_request item;
  item.latency = kind == transfer_kind::message ? p.latency : p.setup;
  item.cap = p.cap;
  if (pageable) {
    item.latency = std::max(item.latency, to_picoseconds(options_.pageable_setup));
    double rate = p.cap;
    for (std::uint32_t h = 0; h < p.count; ++h) rate = std::min(rate, topology_.segments[hops_[p.first + h]].capacity);
    item.cap = rate * options_.pageable_share;
  }
  if (kind == transfer_kind::copy) {
    if (topology_.devices[from].kind == device_kind::gpu) item.first = {from, engine_kind::copy_out};
    if (topology_.devices[to].kind == device_kind::gpu) item.second = {to, engine_kind::copy_in};
  }
  item.latency = delay == never ? never : item.latency + delay;
  item.flow_size = static_cast<double>(u.what.size);
  item.route = std::span(hops_).subspan(p.first, p.count);
  if (u.what.size == 0) item.least = item.latency;
  item.tag = keep(u);
  auto ok = simulator_.submit(stream.index, item);
  if (!ok) unused_.push_back(item.tag);
  return ok;
}

result<done> machine::copy(stream_id stream, const copy_request& r) {
  if (auto ok = check(stream); !ok) return ok;
  for (const auto* range : std::array{&r.from, &r.to})
    if (auto ok = check(*range); !ok) return ok;
  if (r.from.size != r.to.size)
    return fail(errc::invalid_argument, "copy", "source and target differ in size", r.to.size, r.from.size);
  const auto &source = buffers_[r.from.buffer.index], &target = buffers_[r.to.buffer.index];
  const auto pageable = [&](const buffer_state& b) {
    return topology_.devices[b.device].kind == device_kind::cpu && b.kind == memory_kind::plain;
  };
  under_way u;
  u.what = {r.kind == transfer_kind::message ? activity_kind::message : activity_kind::copy,
            target.device,
            source.device,
            stream,
            r.tag,
            0,
            0,
            r.to.size};
  u.content = target.content;
  u.offset = r.to.offset;
  u.source = source.content;
  u.source_offset = r.from.offset;
  const bool slow = r.kind == transfer_kind::copy && (pageable(source) || pageable(target));
  return transfer(stream, path_of(source.device, target.device), r.kind, slow, r.delay, u);
}

/// Where the bytes of a read come from: the disk; host memory where there is no disk or no way from it.
device_index machine::storage_of(device_index target) const {
  for (const auto kind : {device_kind::disk, device_kind::cpu})
    if (const auto d = topology_.first(kind); d && (*d == target || path_of(*d, target).latency != never)) return *d;
  return target;
}

result<done> machine::read(stream_id stream, const read_request& r) {
  if (auto ok = check(stream); !ok) return ok;
  if (auto ok = check(r.to); !ok) return ok;
  if (r.from.size != r.to.size)
    return fail(errc::invalid_argument, "read", "source and target differ in size", r.to.size, r.from.size);
  const auto& target = buffers_[r.to.buffer.index];
  const auto from = storage_of(target.device);
  under_way u;
  u.what = {activity_kind::read, target.device, from, stream, r.tag, 0, 0, r.to.size};
  u.content = target.content;
  u.offset = r.to.offset;
  u.from = r.from;
  u.known = true;
  if (from != target.device)
    return transfer(stream, path_of(from, target.device), transfer_kind::copy, false, r.delay, u);
  // Storage in the memory where it is wanted: nothing moves.
  if (unused_.empty()) return fail(errc::capacity, "stream", "more operations under way than the machine was made for");
  item_request item;
  item.least = std::max<picoseconds>(r.delay, 1);
  item.tag = keep(u);
  auto ok = simulator_.submit(stream.index, item);
  if (!ok) unused_.push_back(item.tag);
  return ok;
}

/// What a launch sees of its memory: how large it is.
result<work_memory<memory_view>> machine::sizes(const work_memory<buffer_range>& m) const {
  for (const auto* r : std::array{&m.weights, &m.state, &m.workspace, &m.in, &m.out})
    if (*r != buffer_range{})
      if (auto ok = check(*r); !ok) return ok.propagate();
  const auto view = [](const buffer_range& r) { return memory_view{nullptr, r.size}; };
  return work_memory<memory_view>{view(m.weights), view(m.state), view(m.workspace), view(m.in), view(m.out)};
}

result<done> machine::launch(stream_id stream, const launch_request& r) {
  if (auto ok = check(stream); !ok) return ok;
  const auto seen = sizes(r.memory);
  if (!seen) return seen.propagate();
  const auto device = stream_devices_[stream.index];
  const auto& d = topology_.devices[device];
  const auto compute = work_time(r.flops, d.flops(r.compute)), memory = work_time(r.touched, d.bandwidth());
  if (compute == never || memory == never || !(r.slowdown > 0))
    return fail(errc::invalid_argument, d.id.view(), "the device has no rate for this work, or it takes months");
  if (unused_.empty()) return fail(errc::capacity, "stream", "more operations under way than the machine was made for");
  under_way u;
  u.what = {activity_kind::launch, device, no_index, stream, r.tag, 0, 0, static_cast<bytes>(r.touched)};
  item_request item;
  item.first = {device, engine_kind::compute};
  item.least = to_picoseconds(d.overhead) + std::max(compute, memory);
  if (r.slowdown != 1) item.least = to_picoseconds(seconds_from(item.least) * r.slowdown);
  item.least = r.delay == never ? never : item.least + r.delay;
  // Memory that others use too: what it reads crosses the segment, at the device's own rate at most.
  if (d.memory_segment != no_index && r.touched > 0) {
    item.flow_size = r.touched;
    item.route = std::span(&d.memory_segment, 1);
    item.cap = d.bandwidth() / r.slowdown;
    item.latency = to_picoseconds(d.overhead);
  }
  item.work = r.work;
  item.work_tag = r.tag;
  item.memory = *seen;
  item.tag = keep(u);
  auto ok = simulator_.submit(stream.index, item);
  if (!ok) unused_.push_back(item.tag);
  return ok;
}

result<done> machine::record(stream_id stream, event_id event) {
  if (auto ok = check(stream); !ok) return ok;
  if (auto ok = check(event); !ok) return ok;
  return simulator_.record(stream.index, event.index);
}

result<done> machine::wait(stream_id stream, event_id event) {
  if (auto ok = check(stream); !ok) return ok;
  if (auto ok = check(event); !ok) return ok;
  return simulator_.wait(stream.index, event.index);
}

result<bool> machine::ready(event_id event) {
  if (auto ok = check(event); !ok) return ok.propagate();
  return simulator_.complete(event.index);
}

result<done> machine::synchronize(stream_id stream) {
  if (auto ok = check(stream); !ok) return ok;
  return simulator_.run_until_idle(stream.index);
}

result<done> machine::synchronize(event_id event) {
  if (auto ok = check(event); !ok) return ok;
  return simulator_.run_until_complete(event.index);
}

result<std::uint64_t> machine::checksum(const buffer_range& r) {
  if (auto ok = check(r); !ok) return ok.propagate();
  const auto from = contents_->find(buffers_[r.buffer.index].content, r.offset, r.size);
  if (!from) return fail(errc::invalid_argument, "checksum", "nothing that is known has arrived at this place");
  return content_table::checksum(*from);
}

result<done> machine::throttle(segment_index segment, double factor) {
  if (segment >= topology_.segments.size() || !(factor > 0))
    return fail(errc::invalid_argument, "segment", "there is no such segment, or the factor is not positive");
  simulator_.set_capacity(segment, topology_.segments[segment].capacity * factor);
  return done{};
}

result<done> machine::check(const buffer_range& r) const {
  if (auto ok = check(r.buffer); !ok) return ok;
  if (!holds(r, buffers_[r.buffer.index].size))
    return fail(errc::invalid_argument, "range", "it leaves its buffer", r.offset + r.size,
                buffers_[r.buffer.index].size);
  return done{};
}

}  // namespace berth::sim
