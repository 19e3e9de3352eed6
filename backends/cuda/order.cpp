// SPDX-License-Identifier: Apache-2.0
// Order between streams: marks, waits, and what asking and waiting for them comes to.
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

using kind = detail::mark::kind;

/// Before every item of a stream: it may have failed, have to wait for a graph, or have to join a capture.
result<done> machine::use(stream_state& s) {
  if (lost_) return failure{*lost_};
  if (s.failed.set.load(std::memory_order_acquire)) return failure{s.failed.why};
  if (capture_ != nullptr) return join(s);
  if (s.after != detail::none) {
    if (auto ok = wait_for_end(s, *graphs_[s.after]); !ok) return ok;
    s.after = detail::none;
  }
  ++s.items;
  return done{};
}

result<done> machine::join(stream_state& s) {
  if (s.joined == captures_) return done{};
  if (auto ok = done_by(cuda_.stream_wait(s.native, fork_.inside.latest), {"cudaStreamWaitEvent", name_of(s.gpu)}); !ok)
    return ok;
  s.joined = captures_;
  capture_->streams.push_back({s.index, 0, detail::none});
  return done{};
}

/// Precondition: the stream was made ready by `use`.
result<done> machine::record(stream_state& s, mark& m) {
  auto& events = capture_ != nullptr ? m.inside : m.outside;
  auto& native = events.natives[s.gpu];
  if (native == nullptr) {
    if (auto ok = enter(s.gpu); !ok) return ok;
    if (auto ok = done_by(cuda_.event_create(&native, false), {"cudaEventCreateWithFlags", name_of(s.gpu)}); !ok)
      return ok;
  }
  if (auto ok = done_by(cuda_.event_record(native, s.native), {"cudaEventRecord", name_of(s.gpu)}); !ok) return ok;
  if (capture_ != nullptr) {
    if (events.serial != captures_) capture_->recorded.push_back(&m);
    events.serial = captures_;
  } else {
    m.state = kind::eager;
    events.serial = ++records_;
  }
  events.latest = native;
  events.stream = s.index;
  return done{};
}

/// Precondition as above. Within a capture what was recorded outside is left to the launch of the graph.
result<done> machine::wait(stream_state& s, mark& m) {
  const bool inside = capture_ != nullptr && m.inside.serial == captures_;
  if (!inside) {
    if (m.state == kind::never) return done{};
    if (capture_ != nullptr) {
      set_aside(m);
      return done{};
    }
    if (m.state == kind::graph) return wait_for_end(s, *graphs_[m.graph]);
  }
  const auto& events = inside ? m.inside : m.outside;
  if (events.stream == s.index) return done{};
  return done_by(cuda_.stream_wait(s.native, events.latest), {"cudaStreamWaitEvent", name_of(s.gpu)});
}

/// Notes for the graph under way that it has to begin after a mark from outside.
void machine::set_aside(mark& m) {
  auto& marks = capture_->marks;
  if (std::none_of(marks.begin(), marks.end(), [&](const auto& b) { return b.what == &m; }))
    marks.push_back({&m, 0, {}});
}

result<done> machine::wait_for_end(stream_state& s, detail::graph_state& g) {
  if (g.end.state == kind::never || g.end.outside.stream == s.index) return done{};
  return done_by(cuda_.stream_wait(s.native, g.end.outside.latest), {"cudaStreamWaitEvent", name_of(s.gpu)});
}

result<done> machine::record(stream_id stream, event_id event) {
  if (auto ok = check(stream); !ok) return ok;
  if (auto ok = check(event); !ok) return ok;
  auto& s = streams_[stream.index];
  if (auto ok = use(s); !ok) return ok;
  return record(s, events_[event.index]);
}

result<done> machine::wait(stream_id stream, event_id event) {
  if (auto ok = check(stream); !ok) return ok;
  if (auto ok = check(event); !ok) return ok;
  auto& s = streams_[stream.index];
  if (auto ok = use(s); !ok) return ok;
  return wait(s, events_[event.index]);
}

/// What went wrong in a host function of the stream, or of the graph, that recorded the mark.
result<done> machine::failure_before(const mark& m) const {
  const auto of = [this](std::uint32_t stream) -> result<done> {
    const auto& f = streams_[stream].failed;
    if (f.set.load(std::memory_order_acquire)) return failure{f.why};
    return done{};
  };
  if (m.state == kind::graph) {
    for (const auto& b : graphs_[m.graph]->streams)
      if (auto ok = of(b.stream); !ok) return ok;
  } else if (m.state == kind::eager) {
    return of(m.outside.stream);
  }
  return done{};
}

result<bool> machine::ready(event_id event) {
  if (auto ok = usable("asking for an event"); !ok) return ok.propagate();
  if (auto ok = check(event); !ok) return ok.propagate();
  if (auto ok = sweep(); !ok) return ok.propagate();
  const auto& m = events_[event.index];
  if (m.state == kind::never) return true;
  const auto& native = (m.state == kind::graph ? graphs_[m.graph]->end : m).outside;
  const auto state = cuda_.event_query(native.latest);
  if (state == status::not_ready) {
    (void)cuda_.last_error();
    return false;
  }
  if (state != status::success) return failed_by(state, {"cudaEventQuery", name_of(streams_[native.stream].gpu)});
  if (auto ok = failure_before(m); !ok) return ok.propagate();
  return true;
}

result<done> machine::synchronize(event_id event) {
  if (auto ok = check(event); !ok) return ok;
  if (auto ok = usable("waiting for an event"); !ok) return ok;
  const auto& m = events_[event.index];
  if (m.state == kind::never) return done{};
  const auto& native = (m.state == kind::graph ? graphs_[m.graph]->end : m).outside;
  if (auto ok = done_by(cuda_.event_synchronize(native.latest),
                        {"cudaEventSynchronize", name_of(streams_[native.stream].gpu)});
      !ok)
    return ok;
  if (auto ok = sweep(); !ok) return ok;
  return failure_before(m);
}

result<done> machine::synchronize(stream_id stream) {
  if (auto ok = check(stream); !ok) return ok;
  if (auto ok = usable("waiting for a stream"); !ok) return ok;
  auto& s = streams_[stream.index];
  if (s.after != detail::none) {
    const auto& g = *graphs_[s.after];
    if (auto ok = done_by(cuda_.event_synchronize(g.end.outside.latest), {"cudaEventSynchronize", name_of(s.gpu)}); !ok)
      return ok;
    for (const auto& b : g.streams)
      if (const auto& f = streams_[b.stream].failed; f.set.load(std::memory_order_acquire)) return failure{f.why};
  }
  if (auto ok = done_by(cuda_.stream_synchronize(s.native), {"cudaStreamSynchronize", name_of(s.gpu)}); !ok) return ok;
  if (auto ok = sweep(); !ok) return ok;
  if (s.failed.set.load(std::memory_order_acquire)) return failure{s.failed.why};
  return done{};
}

}  // namespace berth::cuda
