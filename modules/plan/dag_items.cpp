// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <numeric>
#include <unordered_map>
#include <utility>
#include <vector>

module berth.plan;

import :dag_items;

namespace berth {

dag_rows::dag_rows(std::size_t rows, std::vector<std::pair<dag_index, dag_index>> entries) : start_(rows + 1) {
  std::sort(entries.begin(), entries.end());
  entries.erase(std::unique(entries.begin(), entries.end()), entries.end());
  values_.reserve(entries.size());
  for (const auto& [row, value] : entries) {
    ++start_[row + 1];
    values_.push_back(value);
  }
  std::partial_sum(start_.begin(), start_.end(), start_.begin());
}

namespace {

/// Labels of sets that are joined step by step; the label of a set is its smallest member.
class joined_sets {
 public:
  explicit joined_sets(std::size_t n) : parent_(n) { std::iota(parent_.begin(), parent_.end(), dag_index{0}); }

  dag_index label(dag_index i) {
    while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
    return i;
  }
  void join(dag_index a, dag_index b) {
    a = label(a);
    b = label(b);
    parent_[std::max(a, b)] = std::min(a, b);
  }
  std::vector<dag_index> labels() {
    std::vector<dag_index> out(parent_.size());
    for (dag_index i = 0; i < out.size(); ++i) out[i] = label(i);
    return out;
  }

 private:
  std::vector<dag_index> parent_;
};

/// Strongly connected components by Tarjan's algorithm without recursion. Components are numbered so that edges lead
/// from larger to smaller numbers.
class components {
 public:
  explicit components(const dag_rows& successors)
      : next_(successors), order_(successors.rows()), low_(successors.rows()), component(successors.rows()) {
    for (dag_index i = 0; i < order_.size(); ++i)
      if (order_[i] == 0) visit(i);
  }

 private:
  struct frame {
    dag_index item;
    std::size_t edge;
  };
  void enter(dag_index item) {
    order_[item] = low_[item] = ++clock_;
    open_.push_back(item);
    frames_.push_back({item, 0});
  }
  void visit(dag_index root) {
    enter(root);
    while (!frames_.empty()) {
      auto& f = frames_.back();
      const auto row = next_[f.item];
      if (f.edge < row.size()) {
        const auto to = row[f.edge++];
        if (order_[to] == 0)
          enter(to);
        else
          low_[f.item] = std::min(low_[f.item], low_[to]);
        continue;
      }
      const auto item = f.item;
      frames_.pop_back();
      if (!frames_.empty()) low_[frames_.back().item] = std::min(low_[frames_.back().item], low_[item]);
      if (low_[item] == order_[item]) close(item);
    }
  }
  void close(dag_index root) {
    for (dag_index item = none; item != root;) {
      item = open_.back();
      open_.pop_back();
      component[item] = count;
      low_[item] = static_cast<dag_index>(-1);  // finished: never lowers another item again
    }
    ++count;
  }

  const dag_rows& next_;
  std::vector<dag_index> order_, low_, open_;
  std::vector<frame> frames_;
  dag_index clock_ = 0;

 public:
  std::vector<dag_index> component;
  dag_index count = 0;
};

/// New number of every item: components of the labelled graph, in a topological order that stays close to the old one.
std::pair<std::vector<dag_index>, dag_index> renumber(const dag_items& items, const std::vector<dag_index>& label) {
  std::vector<std::pair<dag_index, dag_index>> entries;
  for (dag_index i = 0; i < items.count(); ++i)
    for (const auto j : items.successors[i])
      if (label[i] != label[j]) entries.emplace_back(label[i], label[j]);
  const components parts(dag_rows(items.count(), std::move(entries)));
  std::vector<dag_index> number(items.count(), none);
  std::vector<dag_index> out(items.count());
  dag_index used = 0;
  // Labels that are nobody's are components of their own and are left out.
  std::vector<std::uint8_t> real(parts.count);
  for (dag_index i = 0; i < items.count(); ++i) real[parts.component[label[i]]] = 1;
  for (dag_index c = parts.count; c > 0; --c)
    if (real[c - 1] != 0) number[c - 1] = used++;
  for (dag_index i = 0; i < items.count(); ++i) out[i] = number[parts.component[label[i]]];
  return {std::move(out), used};
}

void set_edges(dag_items& out, const dag_items& items, const std::vector<dag_index>& number, dag_index count) {
  std::vector<std::pair<dag_index, dag_index>> next, previous;
  for (dag_index i = 0; i < items.count(); ++i)
    for (const auto j : items.successors[i])
      if (number[i] != number[j]) {
        next.emplace_back(number[i], number[j]);
        previous.emplace_back(number[j], number[i]);
      }
  out.successors = dag_rows(count, std::move(next));
  out.predecessors = dag_rows(count, std::move(previous));
}

void set_nets(dag_items& out, const dag_items& items, const std::vector<dag_index>& number, dag_index count) {
  std::map<std::vector<dag_index>, double> costs;
  for (std::size_t n = 0; n < items.net_cost.size(); ++n) {
    std::vector<dag_index> pins;
    for (const auto i : items.nets[n]) pins.push_back(number[i]);
    std::sort(pins.begin(), pins.end());
    pins.erase(std::unique(pins.begin(), pins.end()), pins.end());
    if (pins.size() > 1 && items.net_cost[n] > 0) costs[std::move(pins)] += items.net_cost[n];
  }
  std::vector<std::pair<dag_index, dag_index>> pins_of, nets_of;
  for (const auto& [pins, cost] : costs) {
    const auto net = static_cast<dag_index>(out.net_cost.size());
    out.net_cost.push_back(cost);
    for (const auto i : pins) {
      pins_of.emplace_back(net, i);
      nets_of.emplace_back(i, net);
    }
  }
  out.nets = dag_rows(costs.size(), std::move(pins_of));
  out.nets_of = dag_rows(count, std::move(nets_of));
}

}  // namespace

dag_items merged(const dag_items& items, const std::vector<dag_index>& label) {
  const auto [number, count] = renumber(items, label);
  dag_items out;
  out.accelerator_memory = items.accelerator_memory;
  out.accelerators = std::min(items.accelerators, count);
  out.cpus = std::min(items.cpus, count);
  out.memory_matters = items.memory_matters;
  out.accelerator_time.resize(count);
  out.cpu_time.resize(count);
  out.size.resize(count);
  out.on_accelerator.resize(count, 1);
  for (dag_index i = 0; i < items.count(); ++i) {
    const auto to = number[i];
    out.accelerator_time[to] += items.accelerator_time[i];
    out.cpu_time[to] += items.cpu_time[i];
    out.size[to] += items.size[i];
    if (items.on_accelerator[i] == 0) out.on_accelerator[to] = 0;
  }
  set_edges(out, items, number, count);
  set_nets(out, items, number, count);
  for (const auto i : items.item_of_node) out.item_of_node.push_back(number[i]);
  return out;
}

dag_items plain_items(const dag_problem& p) {
  dag_items out;
  const auto n = p.nodes.size();
  out.accelerator_memory = p.accelerator_memory;
  out.accelerators = p.accelerators;
  out.cpus = p.cpus;
  std::vector<std::pair<dag_index, dag_index>> next, previous, pins, nets_of;
  for (dag_index i = 0; i < n; ++i) {
    const auto& node = p.nodes[i];
    out.accelerator_time.push_back(node.accelerator_time);
    out.cpu_time.push_back(node.cpu_time);
    out.size.push_back(node.size);
    out.on_accelerator.push_back(node.on_accelerator ? 1 : 0);
    out.net_cost.push_back(node.output_cost);
    out.item_of_node.push_back(i);
    pins.emplace_back(i, i);
    nets_of.emplace_back(i, i);
  }
  for (const auto& e : p.edges) {
    pins.emplace_back(e.from, e.to);
    nets_of.emplace_back(e.to, e.from);
  }
  for (const auto& [from, to] : precedence_edges(p)) {
    next.emplace_back(from, to);
    previous.emplace_back(to, from);
  }
  out.successors = dag_rows(n, std::move(next));
  out.predecessors = dag_rows(n, std::move(previous));
  out.nets = dag_rows(n, std::move(pins));
  out.nets_of = dag_rows(n, std::move(nets_of));
  return out;
}

namespace {

/// The only item that `i` shares an edge or net with, or `none`.
dag_index only_neighbour(const dag_items& items, dag_index i) {
  dag_index found = none;
  const auto differs = [&](dag_index j) {
    if (j == i || j == found) return false;
    if (found != none) return true;
    found = j;
    return false;
  };
  for (const auto j : items.successors[i])
    if (differs(j)) return none;
  for (const auto j : items.predecessors[i])
    if (differs(j)) return none;
  return found;
}

/// Moving an item without any time to its only neighbour raises no load: the nets of both lose a cut or keep it. Only
/// memory can speak against it. Nets of `i` may have more items than these two when the neighbour made the output.
bool stays_with(const dag_items& items, dag_index i, dag_index neighbour) {
  if (items.accelerator_time[i] != 0 || items.cpu_time[i] != 0) return false;
  if (items.on_accelerator[i] == 0 && items.on_accelerator[neighbour] != 0) return false;
  for (const auto net : items.nets_of[i]) {
    const auto pins = items.nets[net];
    if (std::find(pins.begin(), pins.end(), neighbour) == pins.end()) return false;
  }
  return true;
}

}  // namespace

dag_items items_of(const dag_problem& p, bool merge_idle) {
  auto items = plain_items(p);
  joined_sets colors(items.count());
  std::unordered_map<std::int64_t, dag_index> first;
  for (dag_index i = 0; i < p.nodes.size(); ++i)
    if (p.nodes[i].color) colors.join(first.emplace(*p.nodes[i].color, i).first->second, i);
  items = merged(items, colors.labels());
  bytes total = 0;
  for (const auto s : items.size) total += s;
  for (bool changed = merge_idle; changed;) {
    changed = false;
    joined_sets sets(items.count());
    std::vector<std::uint8_t> touched(items.count());
    for (dag_index i = 0; i < items.count(); ++i) {
      const auto neighbour = only_neighbour(items, i);
      if (neighbour == none || touched[i] != 0 || !stays_with(items, i, neighbour)) continue;
      if (items.size[i] > 0 && total > items.accelerator_memory) items.memory_matters = true;
      touched[i] = touched[neighbour] = 1;
      sets.join(i, neighbour);
      changed = true;
    }
    if (changed) items = merged(items, sets.labels());
  }
  items.accelerators = std::min<std::uint32_t>(items.accelerators, static_cast<std::uint32_t>(items.count()));
  items.cpus = std::min<std::uint32_t>(items.cpus, static_cast<std::uint32_t>(items.count()));
  return items;
}

dag_items merged_by_limit(const dag_items& items, double limit) {
  joined_sets sets(items.count());
  // With two CPUs a net may be cut between them at no cost.
  if (items.cpus <= 1)
    for (std::size_t n = 0; n < items.net_cost.size(); ++n) {
      const auto pins = items.nets[n];
      double least = items.accelerator_time[pins.front()];
      for (const auto i : pins) least = std::min(least, items.accelerator_time[i]);
      if (items.net_cost[n] + least < limit) continue;
      for (const auto i : pins) sets.join(pins.front(), i);
    }
  return merged(items, sets.labels());
}

dag_items merged_by_cost(const dag_items& items, double cost) {
  joined_sets sets(items.count());
  for (std::size_t n = 0; n < items.net_cost.size(); ++n)
    if (items.net_cost[n] >= cost)
      for (const auto i : items.nets[n]) sets.join(items.nets[n].front(), i);
  return merged(items, sets.labels());
}

void dag_set::add(dag_index item) {
  sums_.accelerator += items_.accelerator_time[item];
  sums_.cpu += items_.cpu_time[item];
  sums_.size += items_.size[item];
  sums_.cpu_only += items_.on_accelerator[item] == 0 ? 1 : 0;
  for (const auto net : items_.nets_of[item]) {
    const auto inside = ++inside_[net];
    if (inside == 1) sums_.nets += items_.net_cost[net];
    if (inside == items_.nets[net].size()) sums_.nets -= items_.net_cost[net];
  }
}

void dag_set::undo(dag_index item, const sums& before) {
  for (const auto net : items_.nets_of[item]) --inside_[net];
  sums_ = before;
}

dag_split split_of(const dag_problem& p, const dag_items& items, const dag_stages& stages) {
  std::vector<std::uint32_t> device_of_stage;
  std::uint32_t accelerators = 0, cpus = 0;
  for (const auto cpu : stages.is_cpu) device_of_stage.push_back(cpu != 0 ? p.accelerators + cpus++ : accelerators++);
  dag_split out;
  for (const auto item : items.item_of_node) out.device.push_back(device_of_stage[stages.stage[item]]);
  if (auto loads = loads_of(p, out.device)) out.loads = *std::move(loads);
  return out;
}

}  // namespace berth
