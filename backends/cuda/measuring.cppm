// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <string_view>
#include <utility>
#include <vector>

// Not exported: what a measurement takes from CUDA and gives back.
export module berth.cuda:measuring;

import berth.base;
import :errors;
import :measure;
import :runtime_table;

namespace berth::cuda {

/// Streams, events and memory of a measurement; given back by the destructor, on the device where each was made.
class borrowed {
 public:
  explicit borrowed(const runtime_table& cuda) : cuda_(cuda) {}
  borrowed(const borrowed&) = delete;
  borrowed& operator=(const borrowed&) = delete;
  ~borrowed() {
    for (auto it = taken_.rbegin(); it != taken_.rend(); ++it) {
      (void)cuda_.set_device(it->ordinal);
      (void)it->give(it->what);
    }
  }

  result<void*> stream(int ordinal) {
    return take("cudaStreamCreate", ordinal, 0, cuda_.stream_destroy,
                [this](void** out) { return cuda_.stream_create(out); });
  }
  result<void*> event(int ordinal) {
    return take("cudaEventCreate", ordinal, 0, cuda_.event_destroy,
                [this](void** out) { return cuda_.event_create(out, true); });
  }
  result<std::byte*> device_memory(int ordinal, bytes size) {
    return as_bytes(take("cudaMalloc", ordinal, size, cuda_.free,
                         [this, size](void** out) { return cuda_.malloc(out, static_cast<std::size_t>(size)); }));
  }
  result<std::byte*> pinned(int ordinal, bytes size) {
    return as_bytes(take("cudaHostAlloc", ordinal, size, cuda_.host_free,
                         [this, size](void** out) { return cuda_.host_alloc(out, static_cast<std::size_t>(size)); }));
  }

 private:
  struct item {
    int ordinal = 0;
    void* what = nullptr;
    status (*give)(void*) = nullptr;
  };
  static result<std::byte*> as_bytes(const result<void*>& r) {
    if (!r) return r.propagate();
    return static_cast<std::byte*>(*r);
  }
  template <class Make>
  result<void*> take(std::string_view call, int ordinal, bytes size, status (*give)(void*), Make make) {
    void* out = nullptr;
    auto s = cuda_.set_device(ordinal);
    if (s == status::success) s = make(&out);
    if (s != status::success) return error_of(s, {call, "a measurement", size, false});
    taken_.push_back({ordinal, out, give});
    return out;
  }

  const runtime_table& cuda_;
  std::vector<item> taken_;
};

/// Times work on one stream with a pair of events, and repeats it.
class stopwatch_stream {
 public:
  static result<stopwatch_stream> make(const runtime_table& cuda, borrowed& from, int ordinal) {
    const auto stream = from.stream(ordinal);
    if (!stream) return stream.propagate();
    const auto begin = from.event(ordinal), end = from.event(ordinal);
    if (!begin) return begin.propagate();
    if (!end) return end.propagate();
    return stopwatch_stream(cuda, *stream, *begin, *end);
  }
  void* stream() const { return stream_; }

  /// Seconds between two events around what `submit` enqueues.
  result<double> once(std::string_view what, const std::function<status()>& submit) const {
    float ms = 0;
    auto s = cuda_->event_record(begin_, stream_);
    if (s == status::success) s = submit();
    if (s == status::success) s = cuda_->event_record(end_, stream_);
    // Waits even after an error, so that nothing is given back while it is in use.
    const auto waited = cuda_->stream_synchronize(stream_);
    if (s == status::success) s = waited;
    if (s == status::success) s = cuda_->event_elapsed(&ms, begin_, end_);
    if (s != status::success) return error_of(s, {what, "a measurement", 0, false});
    return static_cast<double>(ms) / 1e3;
  }

  /// `amount / seconds` (a rate) or `seconds / amount` (a time per piece), repeated until the budget is over.
  struct plan {
    std::string_view what;
    double amount = 1;
    bool rate = true;
    picoseconds budget = 0;
  };
  result<gpu_figure> figure(const plan& p, const std::function<picoseconds()>& now,
                            const std::function<status()>& submit) const {
    constexpr int least = 3, most = 200;
    const auto begin = now();
    if (auto warm = once(p.what, submit); !warm) return warm.propagate();
    std::vector<double> found;
    for (int i = 0; i < most && (i < least || now() - begin < p.budget); ++i) {
      const auto seconds = once(p.what, submit);
      if (!seconds) return seconds.propagate();
      const double v = p.rate ? p.amount / *seconds : *seconds / p.amount;
      if (!(v > 0) || !std::isfinite(v))
        return fail(errc::unavailable, p.what, "gave no positive figure: the clock of the device stands still");
      found.push_back(v);
    }
    std::sort(found.begin(), found.end());
    const auto half = found.size() / 2;
    const double middle = found.size() % 2 == 1 ? found[half] : (found[half - 1] + found[half]) / 2;
    return gpu_figure{middle, found.front(), found.back(), static_cast<int>(found.size())};
  }

 private:
  stopwatch_stream(const runtime_table& cuda, void* stream, void* begin, void* end)
      : cuda_(&cuda), stream_(stream), begin_(begin), end_(end) {}
  const runtime_table* cuda_;
  void *stream_, *begin_, *end_;
};

/// One GPU under measurement.
struct subject {
  device_id device;
  int ordinal = 0;
};
result<done> measure_peers(const runtime_table& cuda, const std::vector<subject>& gpus, picoseconds budget,
                           const std::function<picoseconds()>& now, measured_gpus& out);

inline constexpr bytes copy_size = 64 * MiB, message_size = 8 * KiB;
/// Small pieces of work per repetition, so that their times add up to something that events can tell.
inline constexpr int pieces = 100;

}  // namespace berth::cuda
