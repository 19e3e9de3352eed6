// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

module berth.host;

import berth.base;
import berth.topology;
import berth.exec;

namespace berth::host {

stream_queues::stream_queues(const queue_bounds& bounds, int threads, task_performer performer,
                             std::pmr::memory_resource* memory)
    : bounds_(bounds),
      performer_(performer),
      begin_(std::chrono::steady_clock::now()),
      streams_(bounds.streams, memory),
      event_marks_(bounds.events, none, memory),
      nodes_(bounds.items, memory),
      marks_(std::size_t{bounds.items} + bounds.events, memory),
      unused_marks_(memory),
      moving_(memory),
      errors_(memory) {
  for (auto i = bounds.items; i > 0; --i) {
    nodes_[i - 1].next = unused_nodes_;
    unused_nodes_ = i - 1;
  }
  unused_marks_.reserve(marks_.size());
  for (auto i = marks_.size(); i > 0; --i) unused_marks_.push_back(static_cast<std::uint32_t>(i - 1));
  moving_.reserve(bounds.streams);
  errors_.reserve(bounds.streams);
  start_threads(threads);
}

void stream_queues::start_threads(int count) {
  if (count <= 0) return;
  without_threads_ = false;
  try {
    threads_.reserve(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) threads_.emplace_back([this] { work(); });
  } catch (const std::system_error&) {
    without_threads_ = threads_.empty();
  }
}

stream_queues::~stream_queues() {
  {
    const std::lock_guard hold(lock_);
    stop_ = true;
  }
  can_run_.notify_all();
  for (auto& t : threads_) t.join();
}

picoseconds stream_queues::now() const {
  const auto passed = std::chrono::steady_clock::now() - begin_;
  return std::chrono::duration_cast<std::chrono::nanoseconds>(passed).count() * 1000;
}

result<std::uint32_t> stream_queues::add_stream() {
  if (stream_count_ == bounds_.streams)
    return fail(errc::capacity, "stream", "more streams than the machine was made for", stream_count_ + 1,
                bounds_.streams);
  return stream_count_++;
}

result<std::uint32_t> stream_queues::add_event() {
  if (event_count_ == bounds_.events)
    return fail(errc::capacity, "event", "more events than the machine was made for", event_count_ + 1, bounds_.events);
  return event_count_++;
}

result<std::uint32_t> stream_queues::append(std::uint32_t stream, step kind) {
  if (unused_nodes_ == none)
    return fail(errc::capacity, "stream", "more operations under way than the machine was made for", bounds_.items + 1,
                bounds_.items);
  const auto i = unused_nodes_;
  auto& n = nodes_[i];
  unused_nodes_ = n.next;
  n.kind = kind;
  n.next = none;
  n.mark = none;
  auto& q = streams_[stream];
  (q.last == none ? q.first : nodes_[q.last].next) = i;
  q.last = i;
  return i;
}

/// Without threads nothing happens before somebody asks for it.
void stream_queues::appended(std::uint32_t stream) {
  const auto& q = streams_[stream];
  if (!without_threads_ && q.now == state::resting && q.first == q.last) settle(stream);
}

result<done> stream_queues::submit(std::uint32_t stream, const task& t) {
  const std::lock_guard hold(lock_);
  const auto i = append(stream, step::task);
  if (!i) return i.propagate();
  nodes_[*i].what = t;
  appended(stream);
  return done{};
}

result<done> stream_queues::record(std::uint32_t stream, std::uint32_t event) {
  const std::lock_guard hold(lock_);
  const auto i = append(stream, step::record);
  if (!i) return i.propagate();
  const auto m = unused_marks_.back();  // there are as many as nodes and events together
  unused_marks_.pop_back();
  marks_[m] = {false, 2, stream, none, none};
  if (event_marks_[event] != none) let_go(event_marks_[event]);
  event_marks_[event] = m;
  nodes_[*i].mark = m;
  appended(stream);
  return done{};
}

result<done> stream_queues::wait(std::uint32_t stream, std::uint32_t event) {
  const std::lock_guard hold(lock_);
  const auto i = append(stream, step::wait);
  if (!i) return i.propagate();
  nodes_[*i].mark = event_marks_[event];
  if (event_marks_[event] != none) ++marks_[event_marks_[event]].users;
  appended(stream);
  return done{};
}

void stream_queues::let_go(std::uint32_t m) {
  if (--marks_[m].users == 0) unused_marks_.push_back(m);
}

void stream_queues::complete_mark(std::uint32_t m, std::uint32_t error) {
  auto& k = marks_[m];
  k.complete = true;
  k.error = error;
  while (k.waiting != none) {
    const auto s = k.waiting;
    k.waiting = streams_[s].next;
    streams_[s].now = state::resting;
    moving_.push_back(s);
  }
  let_go(m);
  something_.notify_one();
}

/// A call or the end of a task changed a stream: lets it and whatever it wakes go on as far as they can.
void stream_queues::settle(std::uint32_t stream) {
  moving_.push_back(stream);
  while (!moving_.empty()) {
    const auto s = moving_.back();
    moving_.pop_back();
    while (pass_first(s)) {
    }
    if (streams_[s].first != none && streams_[s].now == state::resting) make_runnable(s);
  }
}

void stream_queues::make_runnable(std::uint32_t stream) {
  streams_[stream].now = state::runnable;
  streams_[stream].next = none;
  (runnable_last_ == none ? runnable_first_ : streams_[runnable_last_].next) = stream;
  runnable_last_ = stream;
  can_run_.notify_one();
}

/// Passes the first item of a stream if nothing has to be carried out for it.
bool stream_queues::pass_first(std::uint32_t stream) {
  auto& q = streams_[stream];
  if (q.first == none) return false;
  auto& n = nodes_[q.first];
  if (n.kind == step::task) {
    const bool frees = n.what.what.kind == activity_kind::free;
    if (!frees && q.error == none) return false;
    finish_task(stream, std::max(now(), q.last_end), frees);
    return true;
  }
  if (n.kind == step::record) {
    complete_mark(n.mark, q.error);
  } else if (n.mark != none) {
    auto& m = marks_[n.mark];
    if (!m.complete) {
      q.now = state::waiting;
      q.next = m.waiting;
      m.waiting = stream;
      return false;
    }
    if (q.error == none) q.error = m.error;
    let_go(n.mark);
  }
  const auto passed = q.first;
  drop_first(stream);
  nodes_[passed].next = unused_nodes_;
  unused_nodes_ = passed;
  return true;
}

void stream_queues::drop_first(std::uint32_t stream) {
  auto& q = streams_[stream];
  q.first = nodes_[q.first].next;
  if (q.first != none) return;
  q.last = none;
  something_.notify_one();
}

/// The first item of a stream is a task that is over: it waits to be drained. Ends ascend over all streams.
void stream_queues::finish_task(std::uint32_t stream, picoseconds start, bool carried_out) {
  auto& q = streams_[stream];
  const auto i = q.first;
  auto& n = nodes_[i];
  const bool instant = n.what.what.kind == activity_kind::free;
  n.carried_out = carried_out;
  n.what.what.end = std::max({now(), last_end_, start + (instant ? 0 : 1)});
  n.what.what.start = instant ? n.what.what.end : start;
  last_end_ = q.last_end = n.what.what.end;
  drop_first(stream);
  n.next = none;
  (finished_last_ == none ? finished_first_ : nodes_[finished_last_].next) = i;
  finished_last_ = i;
}

/// Carries out the task at the head of a stream, without the lock.
void stream_queues::run_first(std::uint32_t stream, locked& hold) {
  auto& q = streams_[stream];
  q.now = state::busy;
  const auto start = std::max(now(), q.last_end);
  const auto& t = nodes_[q.first].what;
  hold.unlock();
  const auto ok = performer_.perform(performer_.context, t);
  hold.lock();
  if (!ok) {
    q.error = static_cast<std::uint32_t>(errors_.size());  // once per stream: nothing is carried out after it
    errors_.push_back(ok.error());
  }
  q.now = state::resting;
  finish_task(stream, start, ok.has_value());
}

/// One item of what a stream has to do before it can go on. Each stream on the way waits for an item that was submitted
/// before its own, so the way ends. Precondition: no threads; the stream is not idle.
void stream_queues::step_towards(std::uint32_t stream, locked& hold) {
  for (auto s = stream;;) {
    const auto& n = nodes_[streams_[s].first];
    if (n.kind == step::wait && n.mark != none && !marks_[n.mark].complete) {
      s = marks_[n.mark].stream;
      continue;
    }
    if (!pass_first(s)) run_first(s, hold);
    return;
  }
}

void stream_queues::work() {
  locked hold(lock_);
  for (;;) {
    can_run_.wait(hold, [this] { return stop_ || runnable_first_ != none; });
    if (stop_) return;
    const auto s = runnable_first_;
    runnable_first_ = streams_[s].next;
    if (runnable_first_ == none) runnable_last_ = none;
    run_first(s, hold);
    settle(s);
  }
}

result<done> stream_queues::outcome(std::uint32_t error) const {
  if (error == none) return done{};
  return failure{errors_[error]};
}

result<bool> stream_queues::ready(std::uint32_t event) {
  locked hold(lock_);
  const auto m = event_marks_[event];
  if (m == none) return true;
  if (without_threads_ && !marks_[m].complete) step_towards(marks_[m].stream, hold);
  if (!marks_[m].complete) return false;
  if (auto ok = outcome(marks_[m].error); !ok) return ok.propagate();
  return true;
}

result<done> stream_queues::finish_stream(std::uint32_t stream) {
  locked hold(lock_);
  const auto& q = streams_[stream];
  while (without_threads_ && q.first != none) step_towards(stream, hold);
  something_.wait(hold, [&q] { return q.first == none; });
  return outcome(q.error);
}

result<done> stream_queues::finish_event(std::uint32_t event) {
  locked hold(lock_);
  const auto m = event_marks_[event];
  if (m == none) return done{};
  while (without_threads_ && !marks_[m].complete) step_towards(marks_[m].stream, hold);
  something_.wait(hold, [this, m] { return marks_[m].complete; });
  return outcome(marks_[m].error);
}

}  // namespace berth::host
