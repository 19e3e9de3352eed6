// SPDX-License-Identifier: Apache-2.0
// Carries a random program out on a simulator.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <vector>

#include "sim_random.hpp"
#include "sim_support.hpp"

// Include this file last: what follows an import may not be included.
import berth.base;
import berth.exec;
import berth.sim;
import berth.topology;

namespace simulated {

using namespace berth;
using namespace berth::sim;

inline constexpr std::array<segment_index, 1> segment_0{0};

inline item_request launch(std::uint32_t device, picoseconds time, std::uint32_t tag) {
  item_request r;
  r.first = {device, engine_kind::compute};
  r.least = time;
  r.tag = tag;
  return r;
}
inline item_request copy_in(std::uint32_t device, double size, picoseconds latency, std::uint32_t tag,
                            std::span<const segment_index> route = segment_0) {
  item_request r;
  r.second = {device, engine_kind::copy_in};
  r.flow_size = size;
  r.route = route;
  r.latency = latency;
  r.tag = tag;
  return r;
}

/// Which device and stream numbers a run uses; the identity unless a test permutes them.
struct numbering {
  std::vector<std::uint32_t> stream, device, segment, event;
  explicit numbering(const random_run& r)
      : stream(r.streams.size()), device(r.devices), segment(r.capacities.size()), event(r.events) {
    for (auto* v : {&stream, &device, &segment, &event}) std::iota(v->begin(), v->end(), 0u);
  }
  void shuffle(std::mt19937_64& random) {
    for (auto* v : {&stream, &device, &segment, &event}) std::shuffle(v->begin(), v->end(), random);
  }
};

/// What a run leaves: one step per call (by tag), memory per device, failed allocations.
struct outcome {
  std::vector<step> steps;
  std::vector<bytes> used, highest;
  std::vector<std::size_t> failed;
  std::optional<error> broken;
  picoseconds end = 0;
  bool memory_adds_up = true;
  bool calls_succeed = true;
};

inline constexpr bytes device_memory = 20'000, granularity = 256;

class runner {
 public:
  runner(const random_run& r, const numbering& n, std::pmr::memory_resource* memory)
      : run_(r), at_(n), sim_(models(r), capacities(r, n), bounds(r), memory), live_(r.devices) {
    out_.steps.assign(r.calls.size(), {step_kind::work, 0, 0, -1, -1});
    std::vector<std::uint32_t> devices(r.streams.size());
    for (std::size_t s = 0; s < devices.size(); ++s) devices[n.stream[s]] = n.device[r.streams[s]];
    for (const auto d : devices) need(sim_.add_stream(d).has_value());
    for (std::uint32_t e = 0; e < r.events; ++e) need(sim_.add_event().has_value());
    for (const auto& c : r.calls) {
      auto& route = routes_.emplace_back();
      for (const auto s : c.route) route.push_back(n.segment[s]);
    }
    sim_.observe({this, [](void* self, const step& s) { static_cast<runner*>(self)->see(s); }});
    sim_.audit(true);
  }
  runner(const runner&) = delete;
  runner& operator=(const runner&) = delete;

  outcome go() {
    for (std::size_t i = 0; i < run_.calls.size(); ++i) call(i);
    for (std::uint32_t s = 0; s < run_.streams.size(); ++s) need(sim_.run_until_idle(at_.stream[s]).has_value());
    check_memory();
    for (std::uint32_t d = 0; d < run_.devices; ++d) {
      out_.used.push_back(sim_.used(at_.device[d]));
      out_.highest.push_back(sim_.highest(at_.device[d]));
    }
    out_.broken = sim_.broken();
    out_.end = sim_.now();
    return out_;
  }

 private:
  static std::vector<device_model> models(const random_run& r) {
    return std::vector<device_model>(r.devices, device_model{device_memory, granularity, 1, 2});
  }
  static std::vector<double> capacities(const random_run& r, const numbering& n) {
    std::vector<double> out(r.capacities.size());
    for (std::size_t s = 0; s < out.size(); ++s) out[n.segment[s]] = r.capacities[s];
    return out;
  }
  static simulator_bounds bounds(const random_run& r) {
    return {static_cast<std::uint32_t>(r.streams.size()), r.events, static_cast<std::uint32_t>(r.calls.size()), {}};
  }

  void need(bool ok) { out_.calls_succeed = out_.calls_succeed && ok; }

  struct allocation {
    std::uint32_t device = 0;
    bytes size = 0;
  };

  /// Memory in use is the sum of what was allocated and not yet released.
  void check_memory() {
    for (std::uint32_t d = 0; d < run_.devices; ++d)
      out_.memory_adds_up = out_.memory_adds_up && sim_.used(at_.device[d]) == live_[d];
  }
  void see(const step& s) {
    if (s.kind == step_kind::release) live_[releases_[s.tag].device] -= releases_[s.tag].size;
    out_.steps[s.tag] = s;
  }

  void call(std::size_t i) {
    const auto& c = run_.calls[i];
    using kind = random_call::kind;
    const auto tag = static_cast<std::uint32_t>(i);
    const auto stream = at_.stream[c.stream], device = at_.device[run_.streams[c.stream]];
    const auto begin = sim_.now();
    bool ok = true;
    if (c.what == kind::work) ok = sim_.submit(stream, launch(device, c.least, tag)).has_value();
    if (c.what == kind::copy || c.what == kind::peer) {
      auto r = copy_in(device, static_cast<double>(c.size), c.latency, tag, routes_[i]);
      if (c.what == kind::peer) r.first = {at_.device[c.peer], engine_kind::copy_out};
      if (c.cap != 0) r.cap = 1e9 * static_cast<double>(c.cap);
      if (c.size == 0) r.least = c.latency;
      ok = sim_.submit(stream, r).has_value();
    }
    if (c.what == kind::record) ok = sim_.record(stream, at_.event[c.event], tag).has_value();
    if (c.what == kind::wait) ok = sim_.wait(stream, at_.event[c.event], tag).has_value();
    if (c.what == kind::allocate) allocate(c, i);
    if (c.what == kind::free) ok = release(stream, tag);
    if (c.what == kind::host) sim_.advance_to(begin + c.least);
    if (c.what == kind::sync) ok = sim_.run_until_idle(stream).has_value();
    if (c.what == kind::throttle)
      sim_.set_capacity(at_.segment[c.segment], run_.capacities[c.segment] * static_cast<double>(c.least) / 1000);
    need(ok);
    if (c.what == kind::host || c.what == kind::sync) {
      out_.steps[i] = {step_kind::work, 0, tag, begin, sim_.now()};
      check_memory();
    }
  }
  void allocate(const random_call& c, std::size_t i) {
    const auto taken = sim_.allocate(at_.device[c.device], static_cast<bytes>(c.size));
    if (!taken) {
      out_.failed.push_back(i);
      return;
    }
    live_[c.device] += *taken;
    held_.push_back({c.device, *taken});
  }
  bool release(std::uint32_t stream, std::uint32_t tag) {
    allocation a;
    if (!held_.empty()) {
      a = held_.front();
      held_.erase(held_.begin());
    }
    releases_.resize(run_.calls.size());
    releases_[tag] = a;
    return sim_.release(stream, at_.device[a.device], a.size, tag).has_value();
  }

  const random_run& run_;
  const numbering& at_;
  simulator sim_;
  std::vector<bytes> live_;
  std::vector<std::vector<segment_index>> routes_;
  std::vector<allocation> held_, releases_;
  outcome out_;
};

inline outcome run(const random_run& r, const numbering& n,
                   std::pmr::memory_resource* memory = std::pmr::get_default_resource()) {
  return runner(r, n, memory).go();
}

}  // namespace simulated
