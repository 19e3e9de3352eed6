// SPDX-License-Identifier: Apache-2.0
// Copies and messages from each GPU to each other.
module;

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

module berth.cuda;

import berth.base;
import berth.topology;
import :measuring;

namespace berth::cuda {
namespace {

/// One ordered pair, with its own streams and memory.
class pair_measurement {
 public:
  pair_measurement(const runtime_table& cuda, const subject& from, const subject& to)
      : cuda_(cuda), from_(from), to_(to), taken_(cuda) {}

  result<peer_figures> run(picoseconds budget, const std::function<picoseconds()>& now) {
    peer_figures out;
    out.from = from_.device;
    out.to = to_.device;
    const auto direct = enable();
    if (!direct) return direct.propagate();
    out.direct = *direct;
    const auto source = taken_.device_memory(from_.ordinal, copy_size),
               target = taken_.device_memory(to_.ordinal, copy_size);
    if (!source) return source.propagate();
    if (!target) return target.propagate();
    const auto back = taken_.stream(to_.ordinal);
    const auto arrived = taken_.event(from_.ordinal), returned = taken_.event(to_.ordinal);
    if (!back) return back.propagate();
    if (!arrived) return arrived.propagate();
    if (!returned) return returned.propagate();
    const auto watch = stopwatch_stream::make(cuda_, taken_, from_.ordinal);
    if (!watch) return watch.propagate();
    void* const stream = watch->stream();
    const auto rate =
        watch->figure({"copies between GPUs", static_cast<double>(copy_size), true, budget / 2}, now,
                      [&] { return cuda_.copy_peer(*target, to_.ordinal, *source, from_.ordinal, copy_size, stream); });
    if (!rate) return rate.propagate();
    out.rate = *rate;
    const auto hop = watch->figure({"messages between GPUs", 2.0 * pieces, false, budget / 2}, now, [&] {
      auto s = status::success;
      for (int i = 0; i < pieces && s == status::success; ++i) {
        s = cuda_.copy_peer(*target, to_.ordinal, *source, from_.ordinal, message_size, stream);
        if (s == status::success) s = cuda_.event_record(*arrived, stream);
        if (s == status::success) s = cuda_.stream_wait(*back, *arrived);
        if (s == status::success)
          s = cuda_.copy_peer(*source, from_.ordinal, *target, to_.ordinal, message_size, *back);
        if (s == status::success) s = cuda_.event_record(*returned, *back);
        if (s == status::success) s = cuda_.stream_wait(stream, *returned);
      }
      return s;
    });
    if (!hop) return hop.propagate();
    out.hop = *hop;
    return out;
  }

 private:
  /// Peer access both ways where there is any. That it is on already is no error.
  result<bool> enable() const {
    for (const auto& [a, b] : {std::pair(from_.ordinal, to_.ordinal), std::pair(to_.ordinal, from_.ordinal)}) {
      int can = 0;
      if (const auto s = cuda_.can_access_peer(&can, a, b); s != status::success)
        return error_of(s, {"cudaDeviceCanAccessPeer", from_.device.view(), 0, false});
      if (can == 0) return false;
      auto s = cuda_.set_device(a);
      if (s == status::success) s = cuda_.enable_peer(b);
      if (s == status::peer_access_already_enabled) s = (void(cuda_.last_error()), status::success);
      if (s != status::success) return error_of(s, {"cudaDeviceEnablePeerAccess", from_.device.view(), 0, false});
    }
    return true;
  }

  const runtime_table& cuda_;
  const subject &from_, &to_;
  borrowed taken_;
};

}  // namespace

result<done> measure_peers(const runtime_table& cuda, const std::vector<subject>& gpus, picoseconds budget,
                           const std::function<picoseconds()>& now, measured_gpus& out) {
  if (gpus.size() < 2) return done{};
  const auto each = budget / static_cast<picoseconds>(gpus.size() - 1);
  for (const auto& from : gpus)
    for (const auto& to : gpus) {
      if (from.ordinal == to.ordinal) continue;
      const auto f = pair_measurement(cuda, from, to).run(each, now);
      if (!f) return f.propagate();
      out.peers.push_back(*f);
      if (!f->direct && from.ordinal < to.ordinal)
        out.notes.push_back("GPUs " + std::string(from.device.view()) + " and " + std::string(to.device.view()) +
                            " have no peer access: copies between them pass through host memory.");
    }
  return done{};
}

}  // namespace berth::cuda
