// SPDX-License-Identifier: Apache-2.0
// Memory of a machine: what is taken, and given back in the order of a stream.
module;

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <memory_resource>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

module berth.cuda;

import berth.base;
import berth.topology;
import berth.exec;

namespace berth::cuda {
namespace {

/// What copies like; also a page.
constexpr std::align_val_t host_alignment{4096};

}  // namespace

/// Counts memory of a device before it is asked for: the plan's budget holds, whatever the driver would give.
result<done> machine::reserve(device_index device, bytes size, bytes& taken) {
  const auto& d = topology_.devices[owner_of(device)];
  const auto left = d.free - std::min(d.free, used_[owner_of(device)]);
  if (size > max_bytes - d.granularity || round_up(size, d.granularity) > left)
    return fail(errc::out_of_memory, name_of(device),
                text<160>("an allocation of ")
                    .append(format_size(size))
                    .append(" exceeds what is left of the topology's free memory, ")
                    .append(format_size(left)),
                size, left);
  taken = round_up(size, d.granularity);
  used_[owner_of(device)] += taken;
  return done{};
}

result<std::byte*> machine::take_gpu_memory(device_index device, bytes size) {
  if (auto ok = touch(device); !ok) return ok.propagate();
  void* data = nullptr;
  const auto s = cuda_.malloc(&data, static_cast<std::size_t>(size));
  if (s == status::success) return static_cast<std::byte*>(data);
  auto f = failed_by(s, {"cudaMalloc", name_of(device), size});
  std::size_t free = 0, total = 0;
  if (f.why.code == errc::out_of_memory && cuda_.memory_info(&free, &total) == status::success) f.why.available = free;
  return f;
}

result<std::byte*> machine::take_host_memory(bytes size, memory_kind kind, detail::place& where) {
  where = detail::place::pageable;
  if (kind == memory_kind::pinned) {
    const auto cpu = *topology_.first(device_kind::cpu);
    const auto gpu = gpu_for(cpu);
    if (!gpu) return gpu.propagate();
    if (auto ok = touch(*gpu); !ok) return ok.propagate();
    void* data = nullptr;
    const auto s = cuda_.host_alloc(&data, static_cast<std::size_t>(size));
    if (s == status::success) {
      where = detail::place::pinned;
      return static_cast<std::byte*>(data);
    }
    auto f = failed_by(s, {"cudaHostAlloc", name_of(cpu), size});
    if (lost_ || kind_of(s) == status_kind::driver) return f;
    f.why.detail.append(
        "; the memory is pageable instead and copies of it are slower (ulimit -l bounds what can be "
        "pinned)");
    warning_ = f.why;
  }
  auto* data = ::operator new(static_cast<std::size_t>(size), host_alignment, std::nothrow);
  if (data != nullptr) return static_cast<std::byte*>(data);
  return fail(errc::out_of_memory, "cpu",
              text<96>("the operating system refuses ").append(format_size(size)).append(" of host memory"), size, 0);
}

void machine::give_back(const detail::buffer_state& b) {
  used_[owner_of(b.device)] -= b.taken;
  if (b.data == nullptr) return;
  if (b.where == detail::place::gpu)
    (void)cuda_.free(b.data);
  else if (b.where == detail::place::pinned)
    (void)cuda_.host_free(b.data);
  else
    ::operator delete(b.data, host_alignment);
}

result<buffer_id> machine::allocate(device_index device, bytes size, memory_kind kind) {
  if (auto ok = usable("allocate"); !ok) return ok.propagate();
  if (device >= topology_.devices.size()) return fail(errc::unknown_device, "buffer", "the machine has no such device");
  const auto& d = topology_.devices[device];
  if (!d.executes()) return fail(errc::unsupported, d.id.view(), "a disk has no memory to work in");
  if (unused_buffers_.empty())
    return fail(errc::capacity, "buffer", "more buffers than the machine was made for", options_.bounds.buffers + 1,
                options_.bounds.buffers);
  if (auto ok = settle(); !ok) return ok.propagate();
  detail::buffer_state b{device, size, 0, nullptr, detail::place::gpu, true};
  if (auto ok = reserve(device, size, b.taken); !ok) return ok.propagate();
  if (size > 0) {
    const auto data =
        d.kind == device_kind::gpu ? take_gpu_memory(device, size) : take_host_memory(size, kind, b.where);
    if (!data) {
      used_[owner_of(device)] -= b.taken;
      return data.propagate();
    }
    b.data = *data;
  }
  const auto index = unused_buffers_.back();
  unused_buffers_.pop_back();
  buffers_[index] = b;
  observer_({activity_kind::allocate, device, no_index, {}, no_tag, now(), now(), b.taken});
  return buffer_id{index};
}

result<done> machine::deallocate(stream_id stream, buffer_id buffer) {
  if (auto ok = usable("deallocate"); !ok) return ok;
  if (auto ok = check(stream); !ok) return ok;
  if (auto ok = check(buffer); !ok) return ok;
  auto& s = streams_[stream.index];
  if (auto ok = use(s); !ok) return ok;
  if (pending_.size() == options_.bounds.pending)
    return fail(errc::capacity, "stream", "more frees and activities under way than the machine was made for");
  const auto timer = take_timer(s.gpu);
  if (!timer) return timer.propagate();
  if (auto ok = done_by(cuda_.event_record(*timer, s.native), {"cudaEventRecord", name_of(s.gpu)}); !ok) {
    gpus_[s.gpu].timers.push_back(*timer);
    return ok;
  }
  auto& b = buffers_[buffer.index];
  detail::pending p;
  p.what = {activity_kind::free, b.device, no_index, stream, no_tag, 0, 0, b.taken};
  p.gpu = s.gpu;
  p.end = *timer;
  p.memory = b;
  pending_.push_back(p);
  b.live = false;
  unused_buffers_.push_back(buffer.index);
  return done{};
}

}  // namespace berth::cuda
