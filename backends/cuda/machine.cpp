// SPDX-License-Identifier: Apache-2.0
// Life of a machine, its devices and streams.
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
namespace {

int ordinal_of(const device& d, std::span<const device_ordinal> given) {
  for (const auto& g : given)
    if (g.device == d.id) return g.ordinal;
  return d.id.ordinal().value_or(-1);
}

}  // namespace

machine::machine(const runtime_table& cuda, topology_view t, const machine_options& options,
                 std::pmr::memory_resource* memory)
    : cuda_(cuda),
      topology_(t),
      options_(options),
      memory_(memory),
      adopted_(options.streams.begin(), options.streams.end(), memory),
      start_(std::chrono::steady_clock::now()),
      gpus_(memory),
      peers_(t.devices.size() * t.devices.size(), memory),
      used_(t.devices.size(), memory),
      streams_(memory),
      events_(memory),
      buffers_(options.bounds.buffers, memory),
      unused_buffers_(memory),
      host_work_(options.bounds.host_work, memory),
      pending_(memory),
      told_(memory),
      graphs_(memory),
      fork_(t.devices.size(), memory) {
  for (const auto& d : t.devices) {
    auto& g = gpus_.emplace_back(memory);
    if (d.kind == device_kind::gpu) g.ordinal = ordinal_of(d, options.ordinals);
  }
  unused_buffers_.reserve(buffers_.size());
  for (auto i = options.bounds.buffers; i > 0; --i) unused_buffers_.push_back(i - 1);
  pending_.reserve(options.bounds.pending);
  told_.reserve(options.bounds.pending);
  options_.ordinals = {};
  options_.streams = {};
}

machine::~machine() {
  if (capture_ != nullptr) (void)end_capture();
  for (auto& s : streams_) (void)cuda_.stream_synchronize(s.native);
  for (auto* g : graphs_)
    if (g != nullptr) destroy_graph(*g);
  for (auto& p : pending_) {
    if (p.memory.live) give_back(p.memory);
    for (auto* timer : {p.start, p.end})
      if (timer != nullptr) (void)cuda_.event_destroy(timer);
  }
  for (const auto& b : buffers_)
    if (b.live) give_back(b);
  const auto destroy = [this](const mark& m) {
    for (const auto* events : {&m.outside, &m.inside})
      for (auto* e : events->natives)
        if (e != nullptr) (void)cuda_.event_destroy(e);
  };
  for (const auto& e : events_) destroy(e);
  destroy(fork_);
  for (auto& g : gpus_) {
    for (const auto& slot : g.ring.slots) {
      destroy(slot.filled);
      destroy(slot.free);
    }
    if (g.ring.memory != nullptr) (void)cuda_.host_free(g.ring.memory);
    for (auto* timer : g.timers) (void)cuda_.event_destroy(timer);
    if (g.base != nullptr) (void)cuda_.event_destroy(g.base);
  }
  for (auto& s : streams_) {
    destroy(s.tail);
    if (!s.adopted) (void)cuda_.stream_destroy(s.native);
  }
  if (lost_) (void)cuda_.last_error();
}

picoseconds machine::now() const {
  using picosecond_clock = std::chrono::duration<picoseconds, std::pico>;
  return std::chrono::duration_cast<picosecond_clock>(std::chrono::steady_clock::now() - start_).count();
}

std::optional<int> machine::ordinal(device_index device) const {
  if (device >= gpus_.size() || gpus_[device].ordinal < 0) return std::nullopt;
  return gpus_[device].ordinal;
}

failure machine::failed_by(status s, const failed_call& at) {
  (void)cuda_.last_error();  // it is reported here, not by the next call of whoever shares the thread
  auto f = error_of(s, at);
  if (f.why.code == errc::device_lost && !lost_) lost_ = f.why;
  return f;
}

result<done> machine::done_by(status s, const failed_call& at) {
  if (s == status::success) return done{};
  return failed_by(s, at);
}

/// Whether a call may be made at all; `what` names one that a capture has no place for.
result<done> machine::usable(std::string_view what) const {
  if (lost_) return failure{*lost_};
  if (capture_ != nullptr && !what.empty())
    return fail(errc::unsupported, what, "cannot be part of a graph; call end_capture first");
  return done{};
}

result<done> machine::check(stream_id stream) const {
  if (stream.index < streams_.size() && !streams_[stream.index].helper) return done{};
  return fail(errc::invalid_argument, "stream", "this machine made no such stream");
}

result<done> machine::check(event_id event) const {
  if (event.index < events_.size()) return done{};
  return fail(errc::invalid_argument, "event", "this machine made no such event");
}

result<done> machine::check(buffer_id buffer) const {
  if (buffer.index < buffers_.size() && buffers_[buffer.index].live) return done{};
  return fail(errc::invalid_argument, "buffer", "this machine made no such buffer, or it was freed");
}

result<done> machine::check(const buffer_range& r) const {
  if (auto ok = check(r.buffer); !ok) return ok;
  const auto size = buffers_[r.buffer.index].size;
  if (r.offset > size || r.size > size - r.offset)
    return fail(errc::invalid_argument, "range", "it leaves its buffer", r.offset + r.size, size);
  return done{};
}

result<done> machine::enter(device_index gpu) {
  const auto wanted = gpus_[gpu].ordinal;
  int current = -1;
  if (auto ok = done_by(cuda_.get_device(&current), {"cudaGetDevice", name_of(gpu)}); !ok) return ok;
  if (current == wanted) return done{};
  if (options_.current_context)
    return fail(errc::invalid_argument, name_of(gpu),
                text<128>("the current context belongs to CUDA device ").append(static_cast<std::uint64_t>(current)));
  return done_by(cuda_.set_device(wanted), {"cudaSetDevice", name_of(gpu)});
}

/// Makes a GPU current; the first time it is also connected with the GPUs that are in use.
result<done> machine::touch(device_index gpu) {
  auto& g = gpus_[gpu];
  if (g.touched) return enter(gpu);
  if (auto ok = usable("a first use of a GPU"); !ok) return ok;
  if (g.ordinal < 0)
    return fail(errc::unknown_device, name_of(gpu),
                "is not the number of a CUDA device; say which one it is in machine_options::ordinals");
  int count = 0;
  if (auto ok = done_by(cuda_.device_count(&count), {"cudaGetDeviceCount", "CUDA"}); !ok) return ok;
  if (g.ordinal >= count)
    return fail(errc::unknown_device, name_of(gpu),
                text<192>("CUDA shows ")
                    .append(static_cast<std::uint64_t>(count))
                    .append(" devices, and this would be number ")
                    .append(static_cast<std::uint64_t>(g.ordinal))
                    .append("; CUDA_VISIBLE_DEVICES hides some"));
  if (auto ok = enter(gpu); !ok) return ok;
  if (auto ok = connect_peers(gpu); !ok) return ok;
  if (options_.timing && g.base == nullptr)
    if (auto ok = start_clock(gpu); !ok) return ok;
  g.touched = true;
  return done{};
}

/// Peer access in both directions where the devices can do it. What they cannot do is no error: copies are staged.
result<done> machine::connect_peers(device_index gpu) {
  const auto n = gpus_.size();
  const auto enable = [&](device_index from, device_index to) -> result<done> {
    if (auto ok = enter(from); !ok) return ok;
    const auto s = cuda_.enable_peer(gpus_[to].ordinal);
    if (s == status::success) return done{};
    if (kind_of(s) == status_kind::lost || kind_of(s) == status_kind::driver)
      return failed_by(s, {"cudaDeviceEnablePeerAccess", name_of(from)});
    (void)cuda_.last_error();
    peers_[from * n + to] = s == status::peer_access_already_enabled;
    return done{};
  };
  for (device_index other = 0; other < n; ++other) {
    if (!gpus_[other].touched || other == gpu) continue;
    const int a = gpus_[gpu].ordinal, b = gpus_[other].ordinal;
    int there = 1, back = 1;
    if (a != b) {
      if (auto ok = done_by(cuda_.can_access_peer(&there, a, b), {"cudaDeviceCanAccessPeer", name_of(gpu)}); !ok)
        return ok;
      if (auto ok = done_by(cuda_.can_access_peer(&back, b, a), {"cudaDeviceCanAccessPeer", name_of(other)}); !ok)
        return ok;
    }
    peers_[gpu * n + other] = peers_[other * n + gpu] = there != 0 && back != 0;
    if (a == b || there == 0 || back == 0) continue;
    if (auto ok = enable(other, gpu); !ok) return ok;
    if (auto ok = enable(gpu, other); !ok) return ok;
    if (peers_[gpu * n + other] == 0 || peers_[other * n + gpu] == 0)
      peers_[gpu * n + other] = peers_[other * n + gpu] = 0;
  }
  return done{};
}

/// The GPU whose native streams a device's streams are: the CPU uses one that is in use already.
result<device_index> machine::gpu_for(device_index device) {
  const auto& d = topology_.devices[device];
  if (!d.executes()) return fail(errc::unsupported, d.id.view(), "a disk has no streams");
  if (d.kind == device_kind::gpu) return device;
  for (device_index g = 0; g < gpus_.size(); ++g)
    if (gpus_[g].touched) return g;
  if (const auto g = topology_.first(device_kind::gpu)) return *g;
  return fail(errc::unsupported, d.id.view(), "the topology has no GPU; use berth::host::machine for it");
}

result<machine::stream_state*> machine::new_stream(device_index device, device_index gpu, void* adopted) {
  if (streams_.size() >= std::size_t{options_.bounds.streams} + gpus_.size())
    return fail(errc::capacity, "stream", "more streams than the machine was made for", streams_.size() + 1,
                options_.bounds.streams);
  if (auto ok = touch(gpu); !ok) return ok.propagate();
  void* native = adopted;
  if (native == nullptr)
    if (auto ok = done_by(cuda_.stream_create(&native), {"cudaStreamCreateWithFlags", name_of(gpu)}); !ok)
      return ok.propagate();
  auto& s = streams_.emplace_back(static_cast<std::uint32_t>(streams_.size()), device, gpu, gpus_.size(), memory_);
  s.native = native;
  s.adopted = adopted != nullptr;
  return &s;
}

result<stream_id> machine::make_stream(device_index device) {
  if (auto ok = usable("make_stream"); !ok) return ok.propagate();
  if (device >= topology_.devices.size()) return fail(errc::unknown_device, "stream", "the machine has no such device");
  const auto gpu = gpu_for(device);
  if (!gpu) return gpu.propagate();
  const auto given = std::find_if(adopted_.begin(), adopted_.end(),
                                  [&](const auto& a) { return a.device == topology_.devices[device].id; });
  const auto made = new_stream(device, *gpu, given == adopted_.end() ? nullptr : given->stream);
  if (!made) return made.propagate();
  if (given != adopted_.end()) adopted_.erase(given);
  return stream_id{(*made)->index};
}

result<event_id> machine::make_event() {
  if (lost_) return failure{*lost_};
  if (events_.size() >= options_.bounds.events)
    return fail(errc::capacity, "event", "more events than the machine was made for", events_.size() + 1,
                options_.bounds.events);
  events_.emplace_back(gpus_.size(), memory_);
  return event_id{static_cast<std::uint32_t>(events_.size() - 1)};
}

}  // namespace berth::cuda
