// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

export module berth.exec:joined_lanes;

import berth.base;
import berth.topology;
import :handles;
import :requests;
import :machine;
import :bounds;
import :joined_queue;

namespace berth::detail {

/// The streams of several machines and what waits to be submitted to them: the part of `joined` that knows machines by
/// number and handles as the machines number them.
template <Machine... Ms>
class joined_lanes {
 public:
  picoseconds now() const {
    picoseconds t = 0;
    each([&](const auto& m) { t = std::max(t, m.now()); });
    return t;
  }
  picoseconds next_time() const {
    auto t = never;
    each([&](const auto& m) { t = std::min(t, m.next_time()); });
    return t;
  }
  void advance_to(picoseconds t) {
    drive();
    for (auto n = next_time(); n != never && n <= t; n = next_time()) step(n);
    step(t);
  }

 protected:
  using lane = joined_lane;
  using op = queued_op;

  joined_lanes(const std::tuple<Ms&...>& ms, std::pmr::memory_resource* memory, const machine_bounds& bounds)
      : bounds_(bounds),
        lanes_(memory),
        machines_(ms),
        queue_(bounds.queued, memory),
        marks_(std::size_t{2} * bounds.events, sizeof...(Ms), memory) {
    lanes_.reserve(bounds.streams);
  }
  ~joined_lanes() = default;

  template <class F>
  void each(F&& f) {
    std::apply([&](auto&... m) { (f(m), ...); }, machines_);
  }
  template <class F>
  void each(F&& f) const {
    std::apply([&](const auto&... m) { (f(m), ...); }, machines_);
  }
  /// Calls `f` with the machine of a number. Precondition: there is one.
  template <class T, class F>
  result<T> on(std::size_t machine, F&& f) {
    std::optional<result<T>> out;
    std::size_t i = 0;
    each([&](auto& m) {
      if (i++ == machine) out.emplace(f(m));
    });
    return *std::move(out);
  }
  topology_view topology_of(std::size_t machine) const {
    topology_view t;
    std::size_t i = 0;
    each([&](const auto& m) {
      if (i++ == machine) t = m.topology();
    });
    return t;
  }
  void step(picoseconds t) {
    each([&](auto& m) { m.advance_to(t); });
    drive();
  }

  /// `parent` is `no_handle` for a joined stream.
  result<std::uint32_t> add_lane(std::uint32_t machine, device_index device, std::uint32_t parent) {
    if (lanes_.size() == bounds_.streams) return beyond_bound("streams", bounds_.streams);
    const auto made = on<stream_id>(machine, [&](auto& m) { return m.make_stream(device); });
    if (!made) return made.propagate();
    const auto i = static_cast<std::uint32_t>(lanes_.size());
    lane l;
    l.machine = machine;
    l.stream = *made;
    l.device = device;
    l.parent = parent == no_handle ? i : parent;
    lanes_.push_back(l);
    return i;
  }
  bool is_stream(stream_id s) const { return s.index < lanes_.size() && lanes_[s.index].parent == s.index; }
  /// Records a new mark on a joined stream; the caller gets one reference to it.
  result<std::uint32_t> record_mark(std::uint32_t stream) {
    const auto m = acquire(stream);
    if (!m) return m;
    if (auto ok = submit(stream, record_of(*m)); !ok) {
      marks_.release(*m);
      return ok.propagate();
    }
    return m;
  }
  void release(std::uint32_t mark) { marks_.release(mark); }
  /// Steps the machines until a stream is done, or blocks in the one that holds it up; tells of its error.
  result<done> finish(std::uint32_t stream) {
    drive();
    if (auto ok = take_error(stream); !ok) return ok;
    const auto m = record_mark(stream);
    if (!m) return m.propagate();
    const auto outcome = complete(stream, *m);
    marks_.release(*m);
    if (auto ok = take_error(stream); !ok) return ok;
    if (!outcome) return outcome;
    const auto& l = lanes_[stream];
    return on<done>(l.machine, [&](auto& machine) { return machine.synchronize(l.stream); });
  }

  op wait_for(std::uint32_t mark) {
    marks_.retain(mark);
    return wait_op{mark};
  }
  result<bool> reached(std::uint32_t mark) {
    const auto& m = marks_[mark];
    if (m.failed) return failure{lanes_[m.lane].why};
    if (!m.submitted) return false;
    return on<bool>(m.machine, [&](auto& machine) { return machine.ready(m.inner); });
  }

  /// Does an operation on a lane of the given machine, in the order of a joined stream.
  result<done> run_on(std::uint32_t stream, std::uint32_t machine, device_index device, const op& o) {
    if (lanes_[stream].machine == machine) return submit(stream, o);
    drive();
    if (lanes_[stream].failed) return failure{lanes_[stream].why};
    const auto side = side_lane(stream, machine, device);
    if (!side) return side.propagate();
    if (!queue_.has_room(5)) return beyond_bound("queued operations", queue_.bound());
    const auto before = acquire(stream);
    if (!before) return before.propagate();
    const auto after = acquire(*side);
    if (!after) {
      marks_.release(*before);
      return after.propagate();
    }
    auto ok = submit(stream, record_of(*before));
    if (ok) ok = submit(*side, wait_for(*before));
    if (ok) ok = submit(*side, o);
    if (ok) ok = submit(*side, record_of(*after));
    if (ok) ok = submit(stream, wait_for(*after));
    marks_.release(*before);
    marks_.release(*after);
    return ok;
  }

  /// Hands an operation to the machine, or puts it behind what waits. Takes over the references that it owns.
  result<done> submit(std::uint32_t lane_index, const op& o) {
    drive();
    auto& l = lanes_[lane_index];
    if (l.failed) {
      drop(o);
      return failure{l.why};
    }
    if (l.first == no_handle) {
      const auto taken = attempt(l, o);
      if (!taken) {
        drop(o);
        return taken.propagate();
      }
      if (*taken) {
        drop(o);
        return done{};
      }
    }
    if (!queue_.has_room(1)) {
      drop(o);
      return beyond_bound("queued operations", queue_.bound());
    }
    queue_.push(l, o);
    return done{};
  }
  /// Submits what can be submitted, until nothing moves any more. Bounded by the number of queued operations.
  void drive() {
    for (bool moved = queue_.used() != 0; moved;) {
      moved = false;
      for (auto& l : lanes_)
        while (l.first != no_handle) {
          const auto taken = attempt(l, queue_.front(l));
          if (taken && !*taken) break;
          moved = true;
          drop(queue_.pop(l));
          if (!taken) spoil(l, taken.error());
        }
    }
  }
  machine_bounds bounds_;
  std::pmr::vector<lane> lanes_;  // joined streams, and side lanes of them

 private:
  /// The lane on another machine that does what a joined stream cannot.
  result<std::uint32_t> side_lane(std::uint32_t parent, std::uint32_t machine, device_index device) {
    for (std::uint32_t i = 0; i < lanes_.size(); ++i) {
      const auto& l = lanes_[i];
      if (l.parent == parent && i != parent && l.machine == machine && l.device == device) return i;
    }
    return add_lane(machine, device, parent);
  }
  /// A mark to be recorded on a lane, with one reference for the caller.
  result<std::uint32_t> acquire(std::uint32_t lane_index) {
    const auto machine = lanes_[lane_index].machine;
    auto i = marks_.take(machine);
    if (i == no_handle) {
      if (marks_.full()) return beyond_bound("marks of events", marks_.bound());
      const auto made = on<event_id>(machine, [&](auto& m) { return m.make_event(); });
      if (!made) return made.propagate();
      i = marks_.add(machine, *made);
    }
    auto& m = marks_[i];
    m.stream = lanes_[lane_index].stream;
    m.lane = lane_index;
    m.references = 1;
    m.submitted = m.failed = false;
    return i;
  }
  op record_of(std::uint32_t mark) {
    marks_.retain(mark);
    return record_op{mark};
  }
  void drop(const op& o) {
    if (const auto* r = std::get_if<record_op>(&o)) marks_.release(r->mark);
    if (const auto* w = std::get_if<wait_op>(&o)) marks_.release(w->mark);
  }

  /// Tries the first operation of a lane. False: it must wait.
  result<bool> attempt(lane& l, const op& o) {
    if (const auto* w = std::get_if<wait_op>(&o)) return attempt_wait(l, w->mark);
    const auto outcome = on<done>(l.machine, [&](auto& m) -> result<done> {
      if (const auto* c = std::get_if<copy_request>(&o)) return m.copy(l.stream, *c);
      if (const auto* r = std::get_if<read_request>(&o)) return m.read(l.stream, *r);
      if (const auto* w = std::get_if<launch_request>(&o)) return m.launch(l.stream, *w);
      if (const auto* f = std::get_if<free_op>(&o)) return m.deallocate(l.stream, f->buffer);
      return m.record(l.stream, marks_[std::get_if<record_op>(&o)->mark].inner);
    });
    if (const auto* r = std::get_if<record_op>(&o))
      (outcome ? marks_[r->mark].submitted : marks_[r->mark].failed) = true;
    if (!outcome) return outcome.propagate();
    return true;
  }
  result<bool> attempt_wait(lane& l, std::uint32_t mark) {
    const auto& m = marks_[mark];
    // Of the same machine: that machine can wait by itself.
    if (!m.submitted || m.failed || m.machine != l.machine) return reached(mark);
    const auto outcome = on<done>(l.machine, [&](auto& machine) { return machine.wait(l.stream, m.inner); });
    if (!outcome) return outcome.propagate();
    return true;
  }

  void spoil(lane& l, const error& why) {
    l.failed = true;
    l.why = why;
    while (l.first != no_handle) {
      const auto o = queue_.pop(l);
      if (const auto* r = std::get_if<record_op>(&o)) marks_[r->mark].failed = true;
      // Freed all the same; the error that counts is `why`.
      if (std::holds_alternative<free_op>(o)) (void)attempt(l, o);
      drop(o);
    }
  }
  /// The error of a spoilt stream, once; its side lanes start anew with it.
  result<done> take_error(std::uint32_t stream) {
    if (!lanes_[stream].failed) return done{};
    for (auto& l : lanes_)
      if (l.parent == stream) l.failed = false;
    return failure{lanes_[stream].why};
  }

  result<done> complete(std::uint32_t stream, std::uint32_t mark) {
    while (true) {
      drive();
      const auto there = reached(mark);
      if (!there) return there.propagate();
      if (*there) return done{};
      if (const auto t = next_time(); t != never) {
        advance_to(t);
        continue;
      }
      const auto queued = queue_.used();
      if (auto ok = block(stream); !ok) return ok;
      drive();
      const auto now_there = reached(mark);
      if (queue_.used() == queued && now_there && !*now_there)
        return fail(errc::stalled, text<64>("stream ").append(stream), "what it waits for never happens");
    }
  }
  /// Blocks in the machine that holds a lane up, which may be that of a lane it waits for.
  result<done> block(std::uint32_t lane_index) {
    for (std::size_t steps = 0; steps <= lanes_.size(); ++steps) {
      const auto& l = lanes_[lane_index];
      auto machine = l.machine;
      auto stream = l.stream;
      if (l.first != no_handle) {
        // Only waits are ever left at the front.
        const auto* w = std::get_if<wait_op>(&queue_.front(l));
        const auto& m = marks_[w->mark];
        if (!m.submitted) {
          lane_index = m.lane;
          continue;
        }
        machine = m.machine;
        stream = m.stream;
      }
      auto ok = on<done>(machine, [&](auto& m) { return m.synchronize(stream); });
      step(now());  // the other clocks follow
      return ok;
    }
    return fail(errc::stalled, text<64>("stream ").append(lane_index), "streams wait for each other");
  }

  std::tuple<Ms&...> machines_;
  op_queue queue_;
  mark_pool marks_;
};

}  // namespace berth::detail
