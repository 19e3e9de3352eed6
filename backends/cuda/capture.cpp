// SPDX-License-Identifier: Apache-2.0
// Recording what streams do as a graph, and launching that.
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
#include <utility>
#include <vector>

module berth.cuda;

import berth.base;
import berth.topology;
import berth.exec;

namespace berth::cuda {

using kind = detail::mark::kind;

result<done> machine::begin_capture(stream_id stream) {
  if (auto ok = usable("begin_capture"); !ok) return ok;
  if (auto ok = check(stream); !ok) return ok;
  auto& s = streams_[stream.index];
  if (auto ok = use(s); !ok) return ok;
  auto& fork = fork_.inside.natives[s.gpu];
  if (fork == nullptr) {
    if (auto ok = enter(s.gpu); !ok) return ok;
    if (auto ok = done_by(cuda_.event_create(&fork, false), {"cudaEventCreateWithFlags", name_of(s.gpu)}); !ok)
      return ok;
  }
  if (auto ok = done_by(cuda_.begin_capture(s.native), {"cudaStreamBeginCapture", name_of(s.gpu)}); !ok) return ok;
  capture_ = std::make_unique<detail::graph_state>(gpus_.size(), std::pmr::get_default_resource());
  origin_ = stream.index;
  s.joined = ++captures_;
  capture_->streams.push_back({stream.index, 0, detail::none});
  fork_.inside.latest = fork;
  if (auto ok = done_by(cuda_.event_record(fork, s.native), {"cudaEventRecord", name_of(s.gpu)}); !ok) {
    (void)end_capture();
    return ok;
  }
  return done{};
}

/// All streams that joined lead back to the origin.
result<done> machine::join_all() {
  auto& origin = streams_[origin_];
  for (std::size_t i = 0; i < capture_->streams.size(); ++i) {
    const auto b = capture_->streams[i];
    if (b.stream == origin_) continue;
    auto& s = streams_[b.stream];
    if (auto ok = record(s, s.tail); !ok) return ok;
    if (auto ok = wait(origin, s.tail); !ok) return ok;
  }
  return done{};
}

result<graph> machine::end_capture() {
  if (capture_ == nullptr)
    return fail(errc::invalid_argument, "end_capture", "no capture was begun on this machine, or it has ended");
  const auto joined = lost_ ? result<done>(failure{*lost_}) : join_all();
  auto& origin = streams_[origin_];
  void* recorded = nullptr;
  const auto ended =
      done_by(cuda_.end_capture(origin.native, &recorded), {"cudaStreamEndCapture", name_of(origin.gpu)});
  origin_ = detail::none;
  auto g = std::exchange(capture_, nullptr);
  auto ok = joined ? ended : joined;
  if (ok)
    ok = done_by(cuda_.graph_instantiate(&g->executable, recorded), {"cudaGraphInstantiate", name_of(origin.gpu)});
  if (recorded != nullptr)
    if (const auto gone = done_by(cuda_.graph_destroy(recorded), {"cudaGraphDestroy", name_of(origin.gpu)}); ok)
      ok = gone;
  g->machine = this;
  g->release = release_graph;
  const auto free = std::find(graphs_.begin(), graphs_.end(), nullptr);
  g->slot = static_cast<std::uint32_t>(free - graphs_.begin());
  if (free == graphs_.end())
    graphs_.push_back(g.get());
  else
    *free = g.get();
  graph out(std::move(g));
  if (!ok) return ok.propagate();
  return out;
}

/// The launching stream waits for all that the graph has to begin after and that it has not waited for yet.
result<done> machine::wait_before(detail::graph_state& g, stream_state& s) {
  for (auto& b : g.streams) {
    auto& t = streams_[b.stream];
    if (b.stream == s.index) continue;
    if (t.after != detail::none)
      if (auto ok = wait_for_end(s, *graphs_[t.after]); !ok) return ok;
    if (t.items == 0 || (b.seen == t.items && b.by == s.index)) continue;
    if (auto ok = record(t, t.tail); !ok) return ok;
    if (auto ok = wait(s, t.tail); !ok) return ok;
    b.seen = t.items;
    b.by = s.index;
  }
  for (auto& b : g.marks) {
    if (b.what->state == kind::eager && b.seen == b.what->outside.serial && b.by == s.index) continue;
    if (auto ok = wait(s, *b.what); !ok) return ok;
    b.seen = b.what->outside.serial;
    b.by = s.index;
  }
  for (auto* m : g.recorded)
    if (auto ok = wait(s, *m); !ok) return ok;
  return done{};
}

result<done> machine::launch(graph& g, stream_id stream) {
  if (auto ok = usable("launching a graph"); !ok) return ok;
  if (auto ok = check(stream); !ok) return ok;
  if (g.empty() || g.state_->machine != this)
    return fail(errc::invalid_argument, "graph", "it is empty, or another machine recorded it");
  auto& state = *g.state_;
  auto& s = streams_[stream.index];
  if (auto ok = use(s); !ok) return ok;
  for (const auto& b : state.streams)
    if (const auto& f = streams_[b.stream].failed; f.set.load(std::memory_order_acquire)) return failure{f.why};
  if (auto ok = wait_before(state, s); !ok) return ok;
  if (auto ok = done_by(cuda_.graph_launch(state.executable, s.native), {"cudaGraphLaunch", name_of(s.gpu)}); !ok)
    return ok;
  if (auto ok = record(s, state.end); !ok) return ok;
  for (const auto& b : state.streams)
    if (b.stream != s.index) streams_[b.stream].after = state.slot;
  for (auto* m : state.recorded) {
    m->state = kind::graph;
    m->graph = state.slot;
  }
  return done{};
}

/// Nothing may refer to a graph that goes: what it stood for has ended.
void machine::forget(const detail::graph_state& g) {
  const auto clear = [&](mark& m) {
    if (m.state == kind::graph && m.graph == g.slot) m.state = kind::never;
  };
  for (auto* m : g.recorded) clear(*m);
  for (auto& s : streams_)
    if (s.after == g.slot) s.after = detail::none;
  if (g.slot < graphs_.size()) graphs_[g.slot] = nullptr;
}

void machine::destroy_graph(detail::graph_state& g) {
  forget(g);
  if (g.executable != nullptr) (void)cuda_.graph_executable_destroy(g.executable);
  for (auto* e : g.end.outside.natives)
    if (e != nullptr) (void)cuda_.event_destroy(e);
  g.machine = nullptr;
  g.executable = nullptr;
}

void machine::release_graph(void* self, detail::graph_state& g) {
  auto& m = *static_cast<machine*>(self);
  if (g.end.outside.latest != nullptr) (void)m.cuda_.event_synchronize(g.end.outside.latest);
  m.destroy_graph(g);
}

}  // namespace berth::cuda
