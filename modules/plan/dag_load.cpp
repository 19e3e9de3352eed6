// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

module berth.plan;

import :dag_items;

namespace berth {
namespace {

text<96> shown(const dag_node& n) {
  text<96> out("node ");
  if (n.id < 0) out.append("-");
  out.append(n.id < 0 ? ~static_cast<std::uint64_t>(n.id) + 1 : static_cast<std::uint64_t>(n.id));
  return out;
}

bool is_amount(double x) { return std::isfinite(x) && x >= 0; }

/// Position of a node on a cycle, or the number of nodes. Removes nodes without inputs until none is left.
std::size_t find_cycle(const dag_problem& p) {
  std::vector<std::pair<dag_index, dag_index>> entries;
  std::vector<std::uint32_t> inputs(p.nodes.size());
  for (const auto& e : p.edges) {
    entries.emplace_back(e.from, e.to);
    ++inputs[e.to];
  }
  std::sort(entries.begin(), entries.end());
  std::vector<std::size_t> start(p.nodes.size() + 1);
  for (const auto& e : entries) ++start[e.first + 1];
  for (std::size_t i = 0; i < p.nodes.size(); ++i) start[i + 1] += start[i];
  std::vector<dag_index> ready;
  for (dag_index i = 0; i < p.nodes.size(); ++i)
    if (inputs[i] == 0) ready.push_back(i);
  std::size_t removed = 0;
  for (; removed < ready.size(); ++removed) {
    const auto i = ready[removed];
    for (auto at = start[i]; at < start[i + 1]; ++at)
      if (--inputs[entries[at].second] == 0) ready.push_back(entries[at].second);
  }
  if (removed == p.nodes.size()) return removed;
  return static_cast<std::size_t>(std::find_if(inputs.begin(), inputs.end(), [](auto n) { return n > 0; }) -
                                  inputs.begin());
}

result<done> validate_nodes(const dag_problem& p) {
  unsigned __int128 total = 0;
  double times = 0;
  for (const auto& n : p.nodes) {
    if (!is_amount(n.accelerator_time) || !is_amount(n.cpu_time) || !is_amount(n.output_cost))
      return fail(errc::invalid_argument, shown(n), "times and costs must be finite and not negative");
    total += n.size;
    times += n.accelerator_time + n.cpu_time + n.output_cost;
  }
  if (total > max_bytes) return fail(errc::overflow, "nodes", "their sizes add up to more than 63 bits");
  if (!std::isfinite(times)) return fail(errc::overflow, "nodes", "their times add up to more than a double can hold");
  return done{};
}

}  // namespace

result<done> validate(const dag_problem& p) {
  if (p.nodes.size() > max_dag_nodes)
    return fail(errc::capacity, "nodes",
                text<96>("there are ").append(p.nodes.size()).append(", at most ").append(max_dag_nodes));
  if (p.edges.size() > max_dag_nodes * 50) return fail(errc::capacity, "edges", "more than 50 times the most nodes");
  if (p.accelerators > max_dag_nodes || p.cpus > max_dag_nodes)
    return fail(errc::capacity, "devices", text<96>("at most ").append(max_dag_nodes).append(" of a kind"));
  if (p.devices() == 0) return fail(errc::invalid_argument, "devices", "neither accelerators nor CPUs");
  if (auto nodes = validate_nodes(p); !nodes) return nodes;
  for (const auto& e : p.edges) {
    if (e.from >= p.nodes.size() || e.to >= p.nodes.size())
      return fail(errc::invalid_argument, "edges", "an edge refers to a node that does not exist");
    if (p.nodes[e.from].backward && !p.nodes[e.to].backward)
      return fail(errc::inconsistent_model, shown(p.nodes[e.from]),
                  text<96>("is a backward node that feeds the forward ").append(shown(p.nodes[e.to]).view()));
  }
  if (const auto at = find_cycle(p); at < p.nodes.size())
    return fail(errc::inconsistent_model, shown(p.nodes[at]), "lies on or behind a cycle of edges");
  return done{};
}

result<dag_loads> loads_of(const dag_problem& p, const std::vector<std::uint32_t>& device) {
  if (device.size() != p.nodes.size()) return fail(errc::invalid_plan, "split", "not one device per node");
  dag_loads out;
  out.load.resize(p.devices());
  out.memory.resize(p.devices());
  out.nodes.resize(p.devices());
  for (std::size_t i = 0; i < device.size(); ++i) {
    const auto& n = p.nodes[i];
    if (device[i] >= p.devices()) return fail(errc::invalid_plan, shown(n), "is on a device that does not exist");
    const bool cpu = device[i] >= p.accelerators;
    if (!cpu && !n.on_accelerator) return fail(errc::invalid_plan, shown(n), "cannot run on an accelerator");
    out.load[device[i]] += cpu ? n.cpu_time : n.accelerator_time;
    out.memory[device[i]] += n.size;
    ++out.nodes[device[i]];
  }
  // Each node pays once on its own side if any output leaves, and once on every other device that uses it.
  std::vector<std::pair<std::uint32_t, std::uint32_t>> crossing;
  for (const auto& e : p.edges)
    if (device[e.from] != device[e.to]) {
      crossing.emplace_back(e.from, device[e.from]);
      crossing.emplace_back(e.from, device[e.to]);
    }
  std::sort(crossing.begin(), crossing.end());
  crossing.erase(std::unique(crossing.begin(), crossing.end()), crossing.end());
  for (const auto& [node, payer] : crossing)
    if (payer < p.accelerators) out.load[payer] += p.nodes[node].output_cost;
  for (const auto l : out.load) out.maximum = std::max(out.maximum, l);
  return out;
}

/// Forward edges as they are; backward edges turned around, but only
/// where one end has no forward partner that would speak for it.
std::vector<std::pair<dag_index, dag_index>> precedence_edges(const dag_problem& p) {
  std::unordered_map<std::int64_t, bool> has_forward;
  for (const auto& n : p.nodes)
    if (n.color && !n.backward) has_forward[*n.color] = true;
  const auto orphan = [&](const dag_node& n) { return !n.color || !has_forward.contains(*n.color); };
  std::vector<std::pair<dag_index, dag_index>> out;
  for (const auto& e : p.edges) {
    const auto &a = p.nodes[e.from], &b = p.nodes[e.to];
    if (!a.backward && !b.backward) out.emplace_back(e.from, e.to);
    if (a.backward && b.backward && (orphan(a) || orphan(b))) out.emplace_back(e.to, e.from);
  }
  return out;
}

result<done> check_pipeline(const dag_problem& p, const std::vector<std::uint32_t>& device) {
  auto loads = loads_of(p, device);
  if (!loads) return loads.propagate();
  for (std::uint32_t d = 0; d < p.accelerators; ++d)
    if (loads->memory[d] > p.accelerator_memory)
      return fail(errc::does_not_fit, text<32>("accelerator ").append(d), "its nodes need more than its memory",
                  loads->memory[d], p.accelerator_memory);
  std::unordered_map<std::int64_t, std::uint32_t> device_of_color;
  for (std::size_t i = 0; i < device.size(); ++i)
    if (const auto& n = p.nodes[i]; n.color && device_of_color.emplace(*n.color, device[i]).first->second != device[i])
      return fail(errc::invalid_plan, shown(n), "is apart from another node of its colour");
  dag_problem quotient;
  quotient.nodes.resize(p.devices());
  for (const auto& [from, to] : precedence_edges(p))
    if (device[from] != device[to]) quotient.edges.push_back({device[from], device[to]});
  if (const auto d = find_cycle(quotient); d < p.devices())
    return fail(
        errc::invalid_plan,
        text<32>(d < p.accelerators ? "accelerator " : "CPU ").append(d < p.accelerators ? d : d - p.accelerators),
        "lies on or behind a cycle of devices that feed each other");
  return done{};
}

}  // namespace berth
