// SPDX-License-Identifier: Apache-2.0
// Work of callers: at once on GPUs, by a host function on the CPU.
module;

#include <array>
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

memory_view machine::view_of(const buffer_range& r) const {
  if (r.size == 0) return {};
  return {buffers_[r.buffer.index].data + r.offset, r.size};
}

/// Calls the work, which puts its kernels on the stream. A launch that CUDA refuses shows as the thread's last error.
result<done> machine::run_on_gpu(stream_state& s, const launch_request& r, const work_call& call) {
  if (r.work.run == nullptr) return done{};
  if (auto ok = enter(s.gpu); !ok) return ok;
  (void)cuda_.last_error();  // what the caller did before
  r.work(call);
  return done_by(cuda_.last_error(), {"a kernel launch", name_of(s.device)});
}

result<done> machine::launch(stream_id stream, const launch_request& r) {
  if (auto ok = check(stream); !ok) return ok;
  const auto& m = r.memory;
  for (const auto* range : std::array{&m.weights, &m.state, &m.workspace, &m.in, &m.out})
    if (range->size > 0)
      if (auto ok = check(*range); !ok) return ok;
  auto& s = streams_[stream.index];
  if (auto ok = use(s); !ok) return ok;
  const auto start = begin_item(s);
  if (!start) return start.propagate();
  const bool on_gpu = topology_.devices[s.device].kind == device_kind::gpu;
  const work_call call{s.device,
                       on_gpu ? s.native : nullptr,
                       r.tag,
                       {view_of(m.weights), view_of(m.state), view_of(m.workspace), view_of(m.in), view_of(m.out)}};
  result<done> ok = done{};
  if (on_gpu) {
    ok = run_on_gpu(s, r, call);
  } else if (r.work.run != nullptr) {
    if (const auto w = new_host_work(); !w) {
      ok = w.propagate();
    } else {
      (*w)->callable = r.work;
      (*w)->call = call;
      ok = submit(s, **w);
    }
  }
  const auto size = static_cast<bytes>(r.touched);
  const auto told = end_item(s, *start, {activity_kind::launch, s.device, no_index, {}, r.tag, 0, 0, size});
  return ok ? told : ok;
}

}  // namespace berth::cuda
