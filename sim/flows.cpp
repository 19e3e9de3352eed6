// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <vector>

module berth.sim;

import berth.base;
import berth.topology;

namespace berth::sim {
namespace {

constexpr std::uint32_t none = 0xffffffffu;
/// Taken off before an end is rounded up: what doubles may be late by, a share of the time that the flow lasted. One
/// that ends exactly on a picosecond must not end one later.
constexpr double slack_share = 4e-15, least_slack = 1e-6, most_slack = 1e-3;
/// Ends are never later than this (about 52 days).
constexpr double longest = 4.5e18;

/// Picoseconds from a to b.
double between(instant a, instant b) { return static_cast<double>(b.whole - a.whole) + (b.part - a.part); }

instant after(instant t, double picos) {
  if (!(picos > 0)) return t;
  if (picos > longest - static_cast<double>(t.whole)) return {never, 0};
  const double whole = std::floor(picos);
  instant out{t.whole + static_cast<picoseconds>(whole), t.part + (picos - whole)};
  if (out.part >= 1) {
    out.part -= 1;
    ++out.whole;
  }
  return out;
}

}  // namespace

flow_network::flow_network(std::span<const double> capacities, flow_bounds bounds, std::pmr::memory_resource* memory)
    : bounds_(bounds),
      flows_(bounds.flows, memory),
      members_(std::size_t{bounds.flows} * bounds.hops, memory),
      segments_(capacities.size(), memory),
      unused_(memory),
      heap_(memory),
      changed_(memory),
      component_(memory),
      component_segments_(memory) {
  unused_.reserve(bounds.flows);
  for (std::uint32_t f = bounds.flows; f > 0; --f) unused_.push_back(f - 1);
  heap_.reserve(bounds.flows);
  component_.reserve(bounds.flows);
  changed_.reserve(capacities.size());
  component_segments_.reserve(capacities.size());
  for (std::size_t s = 0; s < capacities.size(); ++s) {
    segments_[s].capacity = capacities[s];
    segments_[s].first = none;
  }
}

result<flow_network::flow> flow_network::join(double size, std::span<const segment_index> route, double cap,
                                              picoseconds now) {
  if (route.empty()) return fail(errc::invalid_argument, "flow", "its route crosses no segment");
  if (unused_.empty() || route.size() > bounds_.hops)
    return fail(errc::capacity, "flow", "more flows or hops than the simulator was made for", route.size(),
                bounds_.hops);
  const auto f = unused_.back();
  unused_.pop_back();
  auto& x = flows_[f];
  x = {};
  x.begun = now;
  x.since = {now, 0};
  x.left = size;
  x.cap = cap;
  x.end = {never, 0};
  x.hops = static_cast<std::uint32_t>(route.size());
  for (std::uint32_t h = 0; h < x.hops; ++h) {
    auto& s = segments_[route[h]];
    const auto m = member_index(f, h);
    members_[m] = {route[h], s.first, none};
    if (s.first != none) members_[s.first].previous = m;
    s.first = m;
    ++s.count;
    touch(route[h]);
  }
  heap_.push_back(f);
  place_in_heap(static_cast<std::uint32_t>(heap_.size()) - 1, f);
  return f;
}

void flow_network::touch(segment_index s) {
  if (segments_[s].changed) return;
  segments_[s].changed = true;
  changed_.push_back(s);
}

void flow_network::leave(flow f) {
  auto& x = flows_[f];
  for (std::uint32_t h = 0; h < x.hops; ++h) {
    const auto& m = members_[member_index(f, h)];
    auto& s = segments_[m.segment];
    if (m.previous == none)
      s.first = m.next;
    else
      members_[m.previous].next = m.next;
    if (m.next != none) members_[m.next].previous = m.previous;
    if (--s.count > 0) touch(m.segment);
  }
  remove_from_heap(x.place);
  unused_.push_back(f);
}

void flow_network::settle(picoseconds now) {
  if (!changed_.empty()) settle_at({now, 0});
}

void flow_network::settle_at(instant now) {
  ++stamp_;
  for (const auto s : changed_) {
    segments_[s].changed = false;
    if (segments_[s].seen == stamp_ || segments_[s].count == 0) continue;
    component_.clear();
    component_segments_.clear();
    collect(s);
    fill(now);
  }
  changed_.clear();
}

/// The flows and segments that a change on `start` can reach.
void flow_network::collect(segment_index start) {
  segments_[start].seen = stamp_;
  component_segments_.push_back(start);
  for (std::size_t at = 0; at < component_segments_.size(); ++at) {
    auto& s = segments_[component_segments_[at]];
    s.free = s.capacity;
    s.rising = s.count;
    for (auto m = s.first; m != none; m = members_[m].next) {
      const auto f = m / bounds_.hops;
      auto& x = flows_[f];
      if (x.seen == stamp_) continue;
      x.seen = stamp_;
      x.fixed = false;
      component_.push_back(f);
      for (std::uint32_t h = 0; h < x.hops; ++h) {
        auto& other = segments_[members_[member_index(f, h)].segment];
        if (other.seen == stamp_) continue;
        other.seen = stamp_;
        component_segments_.push_back(members_[member_index(f, h)].segment);
      }
    }
  }
}

/// The level at which the next segment saturates or the next flow reaches its cap. Minima do not depend on the order.
double flow_network::lowest_level() const {
  double level = no_cap;
  for (const auto s : component_segments_)
    if (segments_[s].rising > 0) level = std::min(level, segments_[s].free / segments_[s].rising);
  for (const auto f : component_)
    if (!flows_[f].fixed) level = std::min(level, flows_[f].cap);
  return level;
}

/// Fixes every flow that stops rising at `level`. Each segment loses count x level in one product, whatever the order.
void flow_network::fix_at(double level) {
  for (const auto s : component_segments_) {
    auto& x = segments_[s];
    x.full = x.rising > 0 && x.free / x.rising <= level;
  }
  for (const auto f : component_) {
    auto& x = flows_[f];
    if (x.fixed) continue;
    bool stops = x.cap <= level;
    for (std::uint32_t h = 0; h < x.hops && !stops; ++h) stops = segments_[members_[member_index(f, h)].segment].full;
    if (!stops) continue;
    x.fixed = true;
    x.next_rate = level;
  }
  for (const auto s : component_segments_) {
    auto& x = segments_[s];
    if (x.rising == 0) continue;
    std::uint32_t rising = 0;
    for (auto m = x.first; m != none; m = members_[m].next) rising += flows_[m / bounds_.hops].fixed ? 0 : 1;
    x.free = std::max(0.0, x.free - static_cast<double>(x.rising - rising) * level);
    x.rising = rising;
  }
}

void flow_network::fill(instant now) {
  if (component_.size() == 1) {  // nothing to share: the narrowest segment or the cap
    auto& x = flows_[component_[0]];
    double rate = x.cap;
    for (std::uint32_t h = 0; h < x.hops; ++h)
      rate = std::min(rate, segments_[members_[member_index(component_[0], h)].segment].capacity);
    return set_rate(component_[0], rate, now);
  }
  for (bool rising = true; rising;) {
    fix_at(lowest_level());
    rising = false;
    for (const auto f : component_) rising = rising || !flows_[f].fixed;
  }
  for (const auto f : component_) set_rate(f, flows_[f].next_rate, now);
}

void flow_network::set_rate(flow f, double rate, instant now) {
  auto& x = flows_[f];
  if (rate == x.rate) return;  // what goes on as before is not rounded again
  x.left = std::max(0.0, x.left - x.rate / picoseconds_per_second * between(x.since, now));
  x.since = now;
  x.rate = rate;
  x.end = after(now, x.left / rate * picoseconds_per_second);
  rise(x.place);
  sink(x.place);
}

picoseconds flow_network::rounded_up(const state& x) {
  if (x.end.whole == never) return never;
  const double slack = std::clamp(slack_share * static_cast<double>(x.end.whole - x.begun), least_slack, most_slack);
  return x.end.part <= slack ? x.end.whole : x.end.whole + 1;
}

picoseconds flow_network::next_end() const { return heap_.empty() ? never : rounded_up(flows_[heap_[0]]); }

bool flow_network::finish_one(picoseconds t, flow& ended) {
  if (heap_.empty()) return false;
  // Flows that end at one instant all leave before the others rise; at `t` itself others may still come.
  if (!changed_.empty() && last_end_.whole < t && last_end_ < flows_[heap_[0]].end) settle_at(last_end_);
  if (next_end() > t) return false;
  ended = heap_[0];
  last_end_ = flows_[ended].end;
  if (last_end_.whole >= t) last_end_ = {t, 0};  // late by no more than the slack
  leave(ended);
  return true;
}

void flow_network::set_capacity(segment_index s, double capacity, picoseconds) {
  segments_[s].capacity = capacity;
  if (segments_[s].count > 0) touch(s);
}

double flow_network::used(segment_index s) const {
  double sum = 0;
  for (auto m = segments_[s].first; m != none; m = members_[m].next) sum += flows_[m / bounds_.hops].rate;
  return sum;
}

void flow_network::place_in_heap(std::uint32_t place, flow f) {
  heap_[place] = f;
  flows_[f].place = place;
}

void flow_network::rise(std::uint32_t place) {
  const auto f = heap_[place];
  const auto earlier = [&](flow a, flow b) {
    const auto &x = flows_[a].end, &y = flows_[b].end;
    return x < y || (!(y < x) && a < b);
  };
  while (place > 0 && earlier(f, heap_[(place - 1) / 2])) {
    place_in_heap(place, heap_[(place - 1) / 2]);
    place = (place - 1) / 2;
  }
  place_in_heap(place, f);
}

void flow_network::sink(std::uint32_t place) {
  const auto f = heap_[place];
  const auto earlier = [&](flow a, flow b) {
    const auto &x = flows_[a].end, &y = flows_[b].end;
    return x < y || (!(y < x) && a < b);
  };
  const auto n = static_cast<std::uint32_t>(heap_.size());
  for (auto child = 2 * place + 1; child < n; child = 2 * place + 1) {
    if (child + 1 < n && earlier(heap_[child + 1], heap_[child])) ++child;
    if (!earlier(heap_[child], f)) break;
    place_in_heap(place, heap_[child]);
    place = child;
  }
  place_in_heap(place, f);
}

void flow_network::remove_from_heap(std::uint32_t place) {
  const auto last = heap_.back();
  heap_.pop_back();
  if (place == heap_.size()) return;
  place_in_heap(place, last);
  rise(place);
  sink(flows_[last].place);
}

}  // namespace berth::sim
