// SPDX-License-Identifier: Apache-2.0
#include "simulated_calls.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

import berth.base;
import berth.exec;
import berth.formats;
import berth.sim;

namespace golden {
namespace {

namespace json = berth::json;
namespace sim = berth::sim;
using berth::picoseconds;

std::int64_t number(const json::value& v, std::string_view key, std::int64_t otherwise = 0) {
  const auto* m = v.find(key);
  return m == nullptr ? otherwise : m->to_int64().value_or(otherwise);
}

std::string word(const json::value& v, std::string_view key) {
  const auto* m = v.find(key);
  return m != nullptr && m->if_string() ? *m->if_string() : std::string();
}

std::span<const json::value> list(const json::value& v, std::string_view key) {
  const auto* m = v.find(key);
  if (m == nullptr || !m->if_array()) return {};
  return {m->if_array()->data(), m->if_array()->size()};
}

struct rates {
  double flops = 0, bandwidth = 0;
};

/// Everything that one case needs while its calls are made.
class host {
 public:
  explicit host(const json::value& instance)
      : devices_(models(instance)), simulator_(devices_, capacities(instance), bounds(instance), memory()) {
    for (const auto& s : list(instance, "streams")) {
      const auto d = device(s.if_string() ? *s.if_string() : std::string());
      stream_device_.push_back(d);
      if (!simulator_.add_stream(d)) out_.problem = "no stream";
    }
    out_.times.assign(list(instance, "ops").size(), {-1, -1});
    simulator_.observe({this, &host::on_step});
    simulator_.audit(true);
  }

  simulated_outcome run(const json::value& instance) {
    const auto ops = list(instance, "ops");
    for (std::size_t i = 0; i < ops.size() && out_.problem.empty(); ++i) call(ops[i], static_cast<std::uint32_t>(i));
    for (std::uint32_t s = 0; s < stream_device_.size() && out_.problem.empty(); ++s) finish(s);
    for (std::uint32_t d = 0; d < devices_.size(); ++d) {
      simulated_device x{ids_[d], simulator_.highest(d), simulator_.used(d), {}};
      for (std::size_t k = 0; k < x.busy.size(); ++k)
        x.busy[k] = simulator_.busy({d, static_cast<sim::engine_kind>(k)});
      out_.devices.push_back(x);
    }
    for (std::size_t s = 0; s < list(instance, "segments").size(); ++s)
      out_.carried.push_back(simulator_.carried(static_cast<std::uint32_t>(s)));
    for (const auto& t : out_.times) out_.makespan = std::max(out_.makespan, t.second);
    out_.events = simulator_.events_processed();
    if (simulator_.broken()) out_.problem = std::string(simulator_.broken()->detail.view());
    return out_;
  }

 private:
  static std::pmr::memory_resource* memory() { return std::pmr::get_default_resource(); }

  std::vector<sim::device_model> models(const json::value& instance) {
    std::vector<sim::device_model> out;
    for (const auto& d : list(instance, "devices")) {
      ids_.push_back(word(d, "id"));
      rates_.push_back({static_cast<double>(number(d, "flops")), static_cast<double>(number(d, "bandwidth"))});
      out.push_back(
          {static_cast<berth::bytes>(number(d, "memory")), static_cast<berth::bytes>(number(d, "granularity")),
           static_cast<std::uint32_t>(number(d, "h2d_engines")), static_cast<std::uint32_t>(number(d, "d2h_engines"))});
    }
    return out;
  }
  static std::vector<double> capacities(const json::value& instance) {
    std::vector<double> out;
    for (const auto& s : list(instance, "segments")) out.push_back(static_cast<double>(number(s, "capacity")));
    return out;
  }
  static sim::simulator_bounds bounds(const json::value& instance) {
    const auto ops = static_cast<std::uint32_t>(list(instance, "ops").size());
    return {static_cast<std::uint32_t>(list(instance, "streams").size()), ops, ops, {}};
  }
  std::uint32_t device(const std::string& id) {
    const auto at = std::find(ids_.begin(), ids_.end(), id);
    if (at == ids_.end()) out_.problem = "unknown device " + id;
    return static_cast<std::uint32_t>(at - ids_.begin());
  }
  std::uint32_t event(std::int64_t name) {
    const auto [at, fresh] = events_.emplace(name, 0);
    if (fresh) at->second = simulator_.add_event().value_or(0);
    return at->second;
  }

  static void on_step(void* self, const sim::step& s) {
    static_cast<host*>(self)->out_.times[s.tag] = {s.start, s.end};
  }
  void must(bool ok) {
    if (!ok) out_.problem = "a call failed";
  }
  void finish(std::uint32_t stream) { must(simulator_.run_until_idle(stream).has_value()); }

  void call(const json::value& op, std::uint32_t tag) {
    const auto what = word(op, "op");
    const auto stream = static_cast<std::uint32_t>(number(op, "stream"));
    const auto begin = simulator_.now();
    if (what == "launch") {
      launch(op, stream, tag);
    } else if (what == "copy") {
      copy(op, stream, tag);
    } else if (what == "record") {
      must(simulator_.record(stream, event(number(op, "event")), tag).has_value());
    } else if (what == "wait") {
      must(simulator_.wait(stream, event(number(op, "event")), tag).has_value());
    } else if (what == "alloc") {
      allocate(op, tag);
    } else if (what == "free") {
      const auto& [d, size] = buffers_[word(op, "buffer")];
      must(simulator_.release(stream, d, size, tag).has_value());
    } else if (what == "host") {
      simulator_.advance_to(begin + number(op, "duration_ps"));
      out_.times[tag] = {begin, simulator_.now()};
    } else if (what == "sync") {
      finish(stream);
      out_.times[tag] = {begin, simulator_.now()};
    } else {
      out_.problem = "unknown operation " + what;
    }
  }

  void allocate(const json::value& op, std::uint32_t tag) {
    const auto d = device(word(op, "device"));
    const auto taken = simulator_.allocate(d, static_cast<berth::bytes>(number(op, "bytes")));
    if (!taken) out_.failed.push_back(tag);
    buffers_[word(op, "buffer")] = {d, taken ? *taken : 0};
    out_.times[tag] = {simulator_.now(), simulator_.now()};
  }

  void launch(const json::value& op, std::uint32_t stream, std::uint32_t tag) {
    const auto d = stream_device_[stream];
    sim::item_request r;
    r.first = {d, sim::engine_kind::compute};
    r.least = number(op, "duration_ps", -1);
    if (r.least < 0)
      r.least = number(op, "overhead_ps") +
                std::max(berth::work_time(static_cast<double>(number(op, "flops")), rates_[d].flops),
                         berth::work_time(static_cast<double>(number(op, "bytes")), rates_[d].bandwidth));
    r.tag = tag;
    must(simulator_.submit(stream, r).has_value());
  }

  void copy(const json::value& op, std::uint32_t stream, std::uint32_t tag) {
    ++out_.copies;
    const auto kind = word(op, "kind");
    const auto d = stream_device_[stream];
    sim::item_request r;
    if (kind != "h2d") r.first = {d, sim::engine_kind::copy_out};
    if (kind != "d2h") r.second = {kind == "p2p" ? device(word(op, "to")) : d, sim::engine_kind::copy_in};
    r.tag = tag;
    if (op.find("bytes") == nullptr) {
      r.least = number(op, "duration_ps");
    } else {
      r.flow_size = static_cast<double>(number(op, "bytes"));
      r.latency = number(op, "latency_ps");
      if (r.flow_size == 0) r.least = r.latency;
      if (const auto* cap = op.find("cap"); cap != nullptr && !cap->is_null())
        r.cap = static_cast<double>(number(op, "cap"));
      auto& route = routes_.emplace_back();
      for (const auto& s : list(op, "route"))
        route.push_back(static_cast<berth::segment_index>(s.to_int64().value_or(0)));
      r.route = route;
    }
    must(simulator_.submit(stream, r).has_value());
  }

  simulated_outcome out_;
  std::vector<std::string> ids_;
  std::vector<rates> rates_;
  std::vector<sim::device_model> devices_;
  sim::simulator simulator_;
  std::vector<std::uint32_t> stream_device_;
  std::map<std::int64_t, std::uint32_t> events_;
  std::map<std::string, std::pair<std::uint32_t, berth::bytes>> buffers_;
  std::deque<std::vector<berth::segment_index>> routes_;
};

}  // namespace

simulated_outcome simulate_calls(const json::value& instance) { return host(instance).run(instance); }

json::object members_of(const simulated_outcome& o) {
  json::array times, failed;
  for (const auto& [start, end] : o.times) times.push_back(json::array{start, end});
  for (const auto i : o.failed) failed.push_back(static_cast<std::int64_t>(i));
  json::object high, final;
  for (const auto& d : o.devices) {
    high.push_back({d.id, d.high_water});
    final.push_back({d.id, d.final});
  }
  return {{"times", std::move(times)},
          {"high_water", std::move(high)},
          {"final", std::move(final)},
          {"failed", std::move(failed)},
          {"makespan_ps", o.makespan}};
}

json::object amounts_of(const simulated_outcome& o) {
  json::object busy;
  for (const auto& d : o.devices)
    busy.push_back({d.id, json::object{{"compute", d.busy[0]}, {"h2d", d.busy[1]}, {"d2h", d.busy[2]}}});
  json::array carried;
  for (const auto b : o.carried) carried.push_back(static_cast<std::int64_t>(b));
  return {{"busy_ps", std::move(busy)}, {"segment_bytes", std::move(carried)}};
}

}  // namespace golden
