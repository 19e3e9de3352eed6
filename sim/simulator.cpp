// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <span>
#include <vector>

module berth.sim;

import berth.base;
import berth.topology;
import berth.exec;

namespace berth::sim {
namespace {

/// A stream runs one item at a time, so there are never more flows than streams.
flow_bounds flows_of(const simulator_bounds& b) { return {b.streams, b.flows.hops}; }

}  // namespace

simulator::simulator(std::span<const device_model> devices, std::span<const double> capacities,
                     const simulator_bounds& bounds, std::pmr::memory_resource* memory)
    : devices_(memory),
      engines_(devices.size() * engine_kinds, memory),
      streams_(memory),
      event_marks_(memory),
      nodes_(bounds.items, memory),
      unused_nodes_(memory),
      marks_(std::size_t{bounds.items} + bounds.events, memory),
      unused_marks_(memory),
      moving_(memory),
      picking_(memory),
      engineless_(memory),
      item_of_flow_(bounds.streams, memory),
      carried_(capacities.size(), memory),
      flows_(capacities, flows_of(bounds), memory),
      queue_(2 * std::size_t{bounds.streams}, memory),
      bounds_(bounds),
      flowed_(capacities.size(), memory),
      rounded_(capacities.size(), memory) {
  for (const auto& d : devices) devices_.push_back({d.memory, d.granularity, 0, 0});
  for (std::size_t d = 0; d < devices.size(); ++d) {
    engines_[d * engine_kinds + static_cast<std::size_t>(engine_kind::copy_in)].free = devices[d].copy_in_engines;
    engines_[d * engine_kinds + static_cast<std::size_t>(engine_kind::copy_out)].free = devices[d].copy_out_engines;
  }
  streams_.reserve(bounds.streams);
  event_marks_.reserve(bounds.events);
  moving_.reserve(bounds.streams);
  picking_.reserve(engines_.size());
  engineless_.reserve(bounds.streams);
  unused_nodes_.reserve(nodes_.size());
  for (std::size_t i = nodes_.size(); i > 0; --i) unused_nodes_.push_back(static_cast<std::uint32_t>(i - 1));
  unused_marks_.reserve(marks_.size());
  for (std::size_t i = marks_.size(); i > 0; --i) unused_marks_.push_back(static_cast<std::uint32_t>(i - 1));
}

result<std::uint32_t> simulator::add_stream(std::uint32_t device) {
  if (streams_.size() == bounds_.streams)
    return fail(errc::capacity, "stream", "more streams than the simulator was made for", streams_.size() + 1,
                bounds_.streams);
  streams_.push_back({});
  streams_.back().device = device;
  return static_cast<std::uint32_t>(streams_.size() - 1);
}

result<std::uint32_t> simulator::add_event() {
  if (event_marks_.size() == bounds_.events)
    return fail(errc::capacity, "event", "more events than the simulator was made for", event_marks_.size() + 1,
                bounds_.events);
  event_marks_.push_back(none);
  return static_cast<std::uint32_t>(event_marks_.size() - 1);
}

/// A node at the end of a stream. It may run at once: callers fill it in and call `move`.
result<std::uint32_t> simulator::append(std::uint32_t stream, step_kind kind, std::uint32_t tag) {
  if (unused_nodes_.empty())
    return fail(errc::capacity, "stream", "more operations are waiting than the simulator was made for", bounds_.items,
                bounds_.items);
  const auto i = unused_nodes_.back();
  unused_nodes_.pop_back();
  auto& n = nodes_[i];
  n.kind = kind;
  n.stream = stream;
  n.tag = tag;
  n.next = none;
  n.mark = none;
  n.sequence = sequence_++;
  auto& s = streams_[stream];
  if (s.last == none)
    s.first = i;
  else
    nodes_[s.last].next = i;
  s.last = i;
  return i;
}

result<done> simulator::submit(std::uint32_t stream, const item_request& r) {
  if (r.flow_size > 0 && (r.route.empty() || r.route.size() > bounds_.flows.hops))
    return fail(errc::capacity, "flow", "its route is empty or has more hops than the simulator was made for",
                r.route.size(), bounds_.flows.hops);
  const auto i = append(stream, step_kind::work, r.tag);
  if (!i) return i.propagate();
  auto& n = nodes_[*i];
  n.request = r;
  n.engines[0] = engine_index(r.first);
  n.engines[1] = engine_index(r.second);
  if (n.engines[0] == n.engines[1]) n.engines[1] = none;
  if (n.engines[0] == none) std::swap(n.engines[0], n.engines[1]);
  move(stream);
  return done{};
}

result<done> simulator::record(std::uint32_t stream, std::uint32_t event, std::uint32_t tag) {
  const auto i = append(stream, step_kind::record, tag);
  if (!i) return i.propagate();
  const auto m = unused_marks_.back();  // there are as many as nodes and events together
  unused_marks_.pop_back();
  marks_[m] = {false, 2, none};
  if (event_marks_[event] != none) let_go(event_marks_[event]);
  event_marks_[event] = m;
  nodes_[*i].mark = m;
  move(stream);
  return done{};
}

result<done> simulator::wait(std::uint32_t stream, std::uint32_t event, std::uint32_t tag) {
  const auto i = append(stream, step_kind::wait, tag);
  if (!i) return i.propagate();
  nodes_[*i].mark = event_marks_[event];
  if (event_marks_[event] != none) ++marks_[event_marks_[event]].users;
  move(stream);
  return done{};
}

result<done> simulator::release(std::uint32_t stream, std::uint32_t device, bytes size, std::uint32_t tag) {
  const auto i = append(stream, step_kind::release, tag);
  if (!i) return i.propagate();
  nodes_[*i].device = device;
  nodes_[*i].size = size;
  move(stream);
  return done{};
}

result<bytes> simulator::allocate(std::uint32_t device, bytes size) {
  auto& d = devices_[device];
  const bool countable = size <= max_bytes - d.granularity;
  const bytes rounded = countable ? round_up(size, d.granularity) : size;
  if (!countable || rounded > d.memory - d.used)
    return fail(errc::out_of_memory, "device", "an allocation exceeds what is left of its memory", rounded,
                d.memory - d.used);
  d.used += rounded;
  d.highest = std::max(d.highest, d.used);
  return rounded;
}

bool simulator::complete(std::uint32_t event) const {
  return event_marks_[event] == none || marks_[event_marks_[event]].complete;
}

void simulator::let_go(std::uint32_t m) {
  if (--marks_[m].users == 0) unused_marks_.push_back(m);
}

void simulator::complete_mark(std::uint32_t m) {
  marks_[m].complete = true;
  for (auto s = marks_[m].waiting; s != none; s = streams_[s].next_waiting)
    if (!streams_[s].queued) {
      streams_[s].queued = true;
      moving_.push_back(s);
    }
  marks_[m].waiting = none;
  let_go(m);
}

/// A call changed a stream: lets it and whatever it wakes go on as far as they can.
void simulator::move(std::uint32_t stream) {
  if (streams_[stream].first != streams_[stream].last) return;  // something earlier is still in its way
  streams_[stream].queued = true;
  moving_.push_back(stream);
  come_to_rest();
}

void simulator::come_to_rest() {
  while (!moving_.empty()) {
    const auto s = moving_.back();
    moving_.pop_back();
    streams_[s].queued = false;
    while (step_on(s)) ++processed_;
  }
}

/// Passes the first operation of a stream if it can be passed now.
bool simulator::step_on(std::uint32_t stream) {
  auto& s = streams_[stream];
  if (s.first == none) return false;
  auto& n = nodes_[s.first];
  switch (n.kind) {
    case step_kind::work:
      if (!s.started) make_ready(s.first);
      s.started = true;
      return false;
    case step_kind::record:
      complete_mark(n.mark);
      tell(n, now_);
      break;
    case step_kind::wait:
      if (!s.started) n.start = now_;
      if (n.mark != none && !marks_[n.mark].complete) {
        if (!s.started) {
          s.next_waiting = marks_[n.mark].waiting;
          marks_[n.mark].waiting = stream;
        }
        s.started = true;
        return false;
      }
      if (n.mark != none) let_go(n.mark);
      tell(n, n.start);
      break;
    case step_kind::release:
      devices_[n.device].used -= n.size;
      tell(n, now_);
      break;
  }
  drop_first(stream);
  return true;
}

void simulator::drop_first(std::uint32_t stream) {
  auto& s = streams_[stream];
  const auto i = s.first;
  s.first = nodes_[i].next;
  if (s.first == none) s.last = none;
  s.started = false;
  unused_nodes_.push_back(i);
}

void simulator::tell(const node& n, picoseconds start) {
  if (observer_.see != nullptr) observer_.see(observer_.context, {n.kind, n.stream, n.tag, start, now_});
}

void simulator::make_ready(std::uint32_t item) {
  auto& n = nodes_[item];
  n.ready = now_;
  if (n.engines[0] == none) {
    engineless_.push_back(item);
    return;
  }
  for (const auto e : n.engines)
    if (e != none) enqueue(e, item);
}

/// Into the queue of an engine, by (ready, submission); nearly always at its end.
void simulator::enqueue(std::uint32_t e, std::uint32_t item) {
  auto& q = engines_[e];
  auto& n = nodes_[item];
  const auto mine = side(n, e);
  auto before = q.last;
  while (before != none && nodes_[before].ready == n.ready && nodes_[before].sequence > n.sequence)
    before = nodes_[before].before[side(nodes_[before], e)];
  n.before[mine] = before;
  auto& next = before == none ? q.first : nodes_[before].after[side(nodes_[before], e)];
  n.after[mine] = next;
  if (next == none)
    q.last = item;
  else
    nodes_[next].before[side(nodes_[next], e)] = item;
  next = item;
  want_pick(e);
}

/// Out of the queue of an engine; it is the first there.
void simulator::dequeue(std::uint32_t e, std::uint32_t item) {
  auto& q = engines_[e];
  q.first = nodes_[item].after[side(nodes_[item], e)];
  if (q.first == none)
    q.last = none;
  else
    nodes_[q.first].before[side(nodes_[q.first], e)] = none;
}

void simulator::want_pick(std::uint32_t e) {
  if (engines_[e].queued || engines_[e].free == 0 || engines_[e].first == none) return;
  engines_[e].queued = true;
  picking_.push_back(e);
}

bool simulator::can_start(std::uint32_t e) const {
  const auto& q = engines_[e];
  if (q.free == 0 || q.first == none) return false;
  for (const auto other : nodes_[q.first].engines)
    if (other != none && (engines_[other].free == 0 || engines_[other].first != q.first)) return false;
  return true;
}

void simulator::pick() {
  for (std::size_t i = 0; i < engineless_.size(); ++i) start(engineless_[i]);
  engineless_.clear();
  while (!picking_.empty()) {
    const auto e = picking_.back();
    picking_.pop_back();
    engines_[e].queued = false;
    while (can_start(e)) {
      const auto item = engines_[e].first;
      for (const auto used : nodes_[item].engines) {
        if (used == none) continue;
        dequeue(used, item);
        --engines_[used].free;
        if (used != e) want_pick(used);
      }
      start(item);
    }
  }
}

void simulator::start(std::uint32_t item) {
  auto& n = nodes_[item];
  const auto& r = n.request;
  n.start = now_;
  n.pending = 0;
  ++processed_;
  if (r.work.run != nullptr) r.work({streams_[n.stream].device, nullptr, r.work_tag, r.memory});
  const bool flows = r.flow_size > 0;
  const picoseconds least = flows ? r.least : std::max<picoseconds>(r.least, 1);
  if (flows) {
    ++n.pending;
    if (r.latency == 0)
      begin_flow(item);
    else if (r.latency < never - now_)
      queue_.push(now_ + r.latency, item, true);
  }
  if (least > 0) {
    ++n.pending;
    if (least < never - now_) queue_.push(now_ + least, item, false);
  }
}

void simulator::begin_flow(std::uint32_t item) {
  const auto& r = nodes_[item].request;
  const auto f = flows_.join(r.flow_size, r.route, r.cap, now_);
  if (f)
    item_of_flow_[*f] = item;
  else
    broken_ = f.error();
}

void simulator::end_part(std::uint32_t item) {
  if (--nodes_[item].pending == 0) finish(item);
}

void simulator::finish(std::uint32_t item) {
  auto& n = nodes_[item];
  for (const auto e : n.engines) {
    if (e == none) continue;
    ++engines_[e].free;
    engines_[e].busy_time += now_ - n.start;
    want_pick(e);
  }
  ++processed_;
  tell(n, n.start);
  const auto stream = n.stream;
  drop_first(stream);
  if (!streams_[stream].queued) {
    streams_[stream].queued = true;
    moving_.push_back(stream);
  }
}

void simulator::end_instant() {
  pick();
  flows_.settle(now_);
  if (auditing_) audit_now();
}

picoseconds simulator::next_time() {
  end_instant();
  const auto flow_end = flows_.next_end();
  return std::min(queue_.next(), flow_end <= now_ ? now_ + 1 : flow_end);
}

void simulator::happen_at(picoseconds t) {
  if (auditing_) audit_interval(now_, t);
  now_ = t;
  flow_network::flow f = 0;
  while (flows_.finish_one(t, f)) {
    const auto& r = nodes_[item_of_flow_[f]].request;
    for (const auto s : r.route) carried_[s] += r.flow_size;
    end_part(item_of_flow_[f]);
  }
  while (queue_.next() == t) {
    const auto e = queue_.pop();
    if (e.begins_flow)
      begin_flow(e.item);
    else
      end_part(e.item);
  }
  come_to_rest();
}

void simulator::advance_to(picoseconds t) {
  if (t <= now_) return;
  for (auto next = next_time(); next <= t && next != never; next = next_time()) happen_at(next);
  if (auditing_) audit_interval(now_, t);
  now_ = t;
}

result<done> simulator::run_until_idle(std::uint32_t stream) {
  while (!idle(stream)) {
    const auto next = next_time();
    if (next == never)
      return fail(errc::stalled, "stream", "it waits for something that never happens; nothing else is pending");
    happen_at(next);
  }
  return done{};
}

result<done> simulator::run_until_complete(std::uint32_t event) {
  while (!complete(event)) {
    const auto next = next_time();
    if (next == never)
      return fail(errc::stalled, "event", "it waits for something that never happens; nothing else is pending");
    happen_at(next);
  }
  return done{};
}

void simulator::set_capacity(segment_index s, double capacity) { flows_.set_capacity(s, capacity, now_); }

}  // namespace berth::sim
