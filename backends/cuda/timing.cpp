// SPDX-License-Identifier: Apache-2.0
// Noticing what is over: activities with the GPUs' times, memory that can be given back.
module;

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
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

constexpr double picoseconds_per_millisecond = 1e9;
/// CUDA tells times as floats in milliseconds: the origin moves on before their resolution suffers.
constexpr picoseconds longest_span = 1'000'000'000'000;

}  // namespace

result<void*> machine::take_timer(device_index gpu) {
  auto& unused = gpus_[gpu].timers;
  if (!unused.empty()) {
    auto* e = unused.back();
    unused.pop_back();
    return e;
  }
  if (auto ok = enter(gpu); !ok) return ok.propagate();
  void* e = nullptr;
  if (auto ok = done_by(cuda_.event_create(&e, options_.timing), {"cudaEventCreateWithFlags", name_of(gpu)}); !ok)
    return ok.propagate();
  return e;
}

/// Gives a GPU an event whose time is known, on a stream that has nothing to do. Precondition: the GPU is current.
result<done> machine::start_clock(device_index gpu) {
  void *stream = nullptr, *e = nullptr;
  const auto subject = name_of(gpu);
  auto ok = done_by(cuda_.stream_create(&stream), {"cudaStreamCreateWithFlags", subject});
  if (!ok) return ok;
  ok = done_by(cuda_.event_create(&e, true), {"cudaEventCreateWithFlags", subject});
  if (ok) ok = done_by(cuda_.event_record(e, stream), {"cudaEventRecord", subject});
  if (ok) ok = done_by(cuda_.event_synchronize(e), {"cudaEventSynchronize", subject});
  if (!ok && e != nullptr) {  // the next first use makes another one
    (void)cuda_.event_destroy(e);
    e = nullptr;
  }
  gpus_[gpu].base_time = now();
  gpus_[gpu].base = e;  // the destructor's
  if (const auto gone = done_by(cuda_.stream_destroy(stream), {"cudaStreamDestroy", subject}); ok && !gone) ok = gone;
  return ok;
}

result<picoseconds> machine::time_of(device_index gpu, void* event) {
  float milliseconds = 0;
  const auto& g = gpus_[gpu];
  if (auto ok = done_by(cuda_.event_elapsed(&milliseconds, g.base, event), {"cudaEventElapsedTime", name_of(gpu)}); !ok)
    return ok.propagate();
  return g.base_time + std::llround(static_cast<double>(milliseconds) * picoseconds_per_millisecond);
}

/// Begins an item that will be told of: its start, or null where nobody wants to know.
result<void*> machine::begin_item(stream_state& s) {
  if (observer_.see == nullptr || !options_.timing || capture_ != nullptr) return nullptr;
  if (pending_.size() == options_.bounds.pending)
    if (auto ok = sweep(); !ok) return ok.propagate();
  if (pending_.size() == options_.bounds.pending)
    return fail(errc::capacity, "stream", "more frees and activities under way than the machine was made for");
  const auto timer = take_timer(s.gpu);
  if (!timer) return timer;
  if (auto ok = done_by(cuda_.event_record(*timer, s.native), {"cudaEventRecord", name_of(s.gpu)}); !ok) {
    gpus_[s.gpu].timers.push_back(*timer);
    return ok.propagate();
  }
  return timer;
}

result<done> machine::end_item(stream_state& s, void* start, activity what) {
  if (start == nullptr) return done{};
  const auto timer = take_timer(s.gpu);
  result<done> ok = done{};
  if (!timer)
    ok = timer.propagate();
  else
    ok = done_by(cuda_.event_record(*timer, s.native), {"cudaEventRecord", name_of(s.gpu)});
  if (!ok) {
    gpus_[s.gpu].timers.push_back(start);
    if (timer) gpus_[s.gpu].timers.push_back(*timer);
    return ok;
  }
  what.stream = stream_id{s.index};
  detail::pending p;
  p.what = what;
  p.gpu = s.gpu;
  p.start = start;
  p.end = *timer;
  pending_.push_back(p);
  return done{};
}

/// One pass over all that is not known to be over. Items of one stream end in order: the first unfinished one speaks
/// for the rest.
result<bool> machine::find_over() {
  bool found = false;
  ++sweeps_;
  for (auto& p : pending_) {
    auto& s = streams_[p.what.stream.index];
    if (p.over || s.swept == sweeps_) continue;
    const auto state = cuda_.event_query(p.end);
    if (state == status::success) {
      p.over = found = true;
    } else if (state == status::not_ready) {
      (void)cuda_.last_error();
      s.swept = sweeps_;
    } else {
      return failed_by(state, {"cudaEventQuery", name_of(p.gpu)});
    }
  }
  return found;
}

/// Tells of what is over, in the order of ends, and gives its memory back. The last pass finds nothing new: what it saw
/// unfinished ends after everything that is told here.
result<done> machine::sweep() {
  if (pending_.empty()) return done{};
  for (;;) {
    const auto found = find_over();
    if (!found) return found.propagate();
    if (!*found) break;
  }
  for (auto& p : pending_) {
    if (!p.over) continue;
    const auto end = options_.timing ? time_of(p.gpu, p.end) : result<picoseconds>(now());
    const auto start = p.start == nullptr ? end : time_of(p.gpu, p.start);
    if (!end) return end.propagate();
    if (!start) return start.propagate();
    p.what.start = *start;
    p.what.end = std::max(*start, *end);
  }
  told_.clear();
  std::copy_if(pending_.begin(), pending_.end(), std::back_inserter(told_), [](const auto& p) { return p.over; });
  std::erase_if(pending_, [](const auto& p) { return p.over; });
  std::sort(told_.begin(), told_.end(), [](const auto& a, const auto& b) {
    return a.what.end != b.what.end ? a.what.end < b.what.end : a.what.start < b.what.start;
  });
  for (auto& p : told_) {
    auto& g = gpus_[p.gpu];
    if (options_.timing && p.what.end - g.base_time > longest_span) {
      std::swap(g.base, p.end);
      g.base_time = p.what.end;
    }
    for (auto* timer : {p.start, p.end})
      if (timer != nullptr) g.timers.push_back(timer);
    if (p.memory.live) give_back(p.memory);
    observer_(p.what);
  }
  told_.clear();
  return done{};
}

/// As `sweep`, where that is allowed.
result<done> machine::settle() { return capture_ == nullptr ? sweep() : result<done>(done{}); }

}  // namespace berth::cuda
