// SPDX-License-Identifier: Apache-2.0
// Golden kind "berth.flows/1": max-min fair sharing of segments, within 1000 ps + 1e-9 of the exact finish times.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory_resource>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kinds.hpp"
#include "report.hpp"

import berth.base;
import berth.formats;
import berth.sim;
import berth.topology;

namespace golden {
namespace {

constexpr std::string_view kind = "berth.flows/1";
constexpr double absolute = 1000, relative = 1e-9;

struct flow {
  berth::picoseconds start = 0;  ///< of the bytes: the latency is over
  double size = 0, cap = berth::sim::no_cap;
  std::vector<berth::segment_index> route;
};

struct flow_case {
  std::vector<double> capacities;
  std::vector<flow> flows;
};

std::optional<std::int64_t> number(const json::value& v, std::string_view key) {
  const auto* m = v.find(key);
  return m == nullptr ? std::nullopt : m->to_int64();
}

std::optional<flow> read_flow(const json::value& v) {
  const auto start = number(v, "start_ps"), latency = number(v, "latency_ps"), size = number(v, "bytes");
  const auto *route = v.find("route"), *cap = v.find("cap");
  if (!start || !latency || !size || route == nullptr || !route->if_array()) return std::nullopt;
  flow f{*start + *latency, static_cast<double>(*size), berth::sim::no_cap, {}};
  if (cap != nullptr && cap->to_double()) f.cap = *cap->to_double();
  for (const auto& s : *route->if_array())
    f.route.push_back(static_cast<berth::segment_index>(s.to_uint64().value_or(0)));
  return f;
}

std::optional<flow_case> read(const json::value& instance) {
  const auto *segments = instance.find("segments"), *flows = instance.find("flows");
  if (segments == nullptr || !segments->if_array() || flows == nullptr || !flows->if_array()) return std::nullopt;
  flow_case c;
  for (const auto& s : *segments->if_array())
    c.capacities.push_back(static_cast<double>(number(s, "capacity").value_or(0)));
  for (const auto& v : *flows->if_array()) {
    auto f = read_flow(v);
    if (!f) return std::nullopt;
    c.flows.push_back(std::move(*f));
  }
  return c;
}

/// Finish times; empty when a flow was refused.
std::vector<berth::picoseconds> finish_times(const flow_case& c) {
  const auto n = static_cast<std::uint32_t>(c.flows.size());
  berth::sim::flow_network net(c.capacities, {n, static_cast<std::uint32_t>(c.capacities.size())},
                               std::pmr::get_default_resource());
  std::vector<std::uint32_t> order(n), owner(n);
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](auto a, auto b) {
    return c.flows[a].start != c.flows[b].start ? c.flows[a].start < c.flows[b].start : a < b;
  });
  std::vector<berth::picoseconds> finish(n);
  for (std::size_t next = 0; next < n || net.active() > 0;) {
    const auto t = std::min(next < n ? c.flows[order[next]].start : berth::never, net.next_end());
    if (t == berth::never) return {};
    for (berth::sim::flow_network::flow f = 0; net.finish_one(t, f);) finish[owner[f]] = t;
    for (; next < n && c.flows[order[next]].start == t; ++next) {
      const auto& f = c.flows[order[next]];
      finish[order[next]] = t;
      if (f.size == 0) continue;
      const auto joined = net.join(f.size, f.route, f.cap, t);
      if (!joined) return {};
      owner[*joined] = order[next];
    }
    net.settle(t);
  }
  return finish;
}

}  // namespace

void run_flows_case(const std::string& name, const json::value& line, exact_counts& exact, report& out) {
  if (!out.wants(kind, name)) return;
  const auto c = read(*line.find("instance"));
  const auto* expect = line.find("expect");
  const auto* stored = expect == nullptr ? nullptr : expect->find("finish_ps");
  if (!c || stored == nullptr || !stored->if_array()) return out.failed(kind, name, "case", "flows", "another shape");
  const auto got = finish_times(*c);
  const auto& want = *stored->if_array();
  if (got.size() != want.size()) return out.failed(kind, name, "finish_ps", "a time per flow", "none");
  std::int64_t largest = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const auto exactly = want[i].to_int64().value_or(-1);
    const auto off = std::abs(got[i] - exactly);
    if (static_cast<double>(off) > absolute + relative * static_cast<double>(exactly))
      return out.failed(kind, name, "finish_ps", std::to_string(exactly), std::to_string(got[i]));
    largest = std::max(largest, off);
  }
  exact.add(largest);
  out.passed(kind);
}

}  // namespace golden
