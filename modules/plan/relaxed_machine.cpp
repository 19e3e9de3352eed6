// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <vector>

module berth.plan;

import :relaxation;

namespace berth {

relaxed_machine::relaxed_machine(const problem_view& problem, std::pmr::memory_resource* memory)
    : p(problem),
      groups(memory),
      weights(memory),
      states(memory),
      times(memory),
      copies(memory),
      least_message(memory),
      first_of_kind(memory),
      kind_size(memory),
      classes(memory) {
  for (seat_index s = 0; s < p.seats.size(); ++s) {
    const auto& seat = p.seats[s];
    seat_group* same = nullptr;
    for (auto& g : groups)
      if (seat.executes() && g.executes && exchangeable(p, g.first, s)) same = &g;
    if (same == nullptr) {
      if (groups.size() == max_groups) {
        complete = false;
        return;
      }
      if (seat.kind == device_kind::cpu) cpu = groups.size();
      if (!seat.executes()) disk = groups.size();
      groups.push_back({s, s, 1, static_cast<double>(seat.limit), seat.executes()});
      continue;
    }
    if (same->copies++ == 1) same->second = s;
  }
  const auto n = p.loads.size(), k = groups.size();
  for (std::size_t i = 0; i < n; ++i) {
    weights.push_back(static_cast<double>(p.loads[i]));
    states.push_back(static_cast<double>(p.state(i)));
  }
  for (std::size_t u = 1; u < p.ties.size(); ++u)
    if (p.ties[u].storage == p.ties[u - 1].storage) weights[p.ties[u].atom] -= static_cast<double>(p.ties[u].size);
  times.assign(phase_count * k * n, 0);
  copies.assign(k * k * n, forever);
  for (std::size_t g = 0; g < k; ++g)
    for (std::size_t i = 0; i < n; ++i) {
      for (const auto ph : all_phases)
        times[(static_cast<std::size_t>(ph) * k + g) * n + i] = atom_seconds(p, i, groups[g].first, ph);
      for (const auto store : {cpu, disk})
        if (p.staging_slots > 0 && store != no_group && store != g && groups[g].executes)
          copies[(store * k + g) * n + i] = weight_copy_seconds(p, i, groups[store].first, groups[g].first);
    }
  least_message.assign(k * k, forever);
  for (std::size_t a = 0; a < k; ++a)
    for (std::size_t b = 0; b < k; ++b) {
      if ((a == b && groups[a].copies == 1) || !groups[a].executes || !groups[b].executes) continue;
      auto& least = least_message[a * k + b];
      for (std::size_t i = 0; i + 1 < n; ++i)
        least = std::min(least, objective_hop(p, i, groups[a].first, a == b ? groups[a].second : groups[b].first));
    }
  for (std::size_t i = 0; i < n; ++i) {
    std::uint32_t kind = 0;
    while (kind < first_of_kind.size() && !same_kind(first_of_kind[kind], i)) ++kind;
    if (kind == first_of_kind.size()) {
      first_of_kind.push_back(static_cast<std::uint32_t>(i));
      kind_size.push_back(0);
    }
    ++kind_size[kind];
  }
  make_classes();
  if (cpu == no_group || p.machine.devices.empty()) return;
  const auto& host = p.machine.devices[p.seats[groups[cpu].first].device];
  if (host.memory_segment == no_index) return;
  // A resident plan is not held to the segment, so the CPU's own rate counts if it is larger.
  dram = std::max(p.machine.segments[host.memory_segment].capacity, p.seats[groups[cpu].first].bandwidth);
  const auto crosses = [&](seat_index s) {
    if (const auto* r = p.machine.route(p.seats[groups[cpu].first].device, p.seats[s].device))
      for (const auto hop : p.machine.hops_of(*r))
        if (hop == host.memory_segment) return true;
    return false;
  };
  // Seats of one group have equal links, but may reach them by different segments (one memory per socket).
  for (std::size_t g = 0; g < k; ++g) {
    crosses_dram[g] = true;
    for (seat_index s = 0; s < p.seats.size(); ++s)
      if (s == groups[g].first || (groups[g].copies > 1 && exchangeable(p, groups[g].first, s)))
        crosses_dram[g] = crosses_dram[g] && crosses(s);
  }
}

bool relaxed_machine::same_kind(std::size_t i, std::size_t j) const {
  if (weights[i] != weights[j] || states[i] != states[j] || p.loads[i] != p.loads[j]) return false;
  if (!p.open(i) || !p.open(j)) return false;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    if (time(phase::prefill, g, i) != time(phase::prefill, g, j)) return false;
    if (time(phase::decode, g, i) != time(phase::decode, g, j)) return false;
    for (const auto store : {cpu, disk})
      if (store != no_group && copy(store, g, i) != copy(store, g, j)) return false;
  }
  return p.atoms[i].in(phase::decode).touched == p.atoms[j].in(phase::decode).touched &&
         p.atoms[i].in(phase::prefill).touched == p.atoms[j].in(phase::prefill).touched;
}

void relaxed_machine::make_classes() {
  constexpr std::size_t most_classes = 12;
  std::pmr::vector<double> sizes(weights.get_allocator());
  for (const auto i : first_of_kind)
    if (resident(i) > 0) sizes.push_back(resident(i));
  std::sort(sizes.begin(), sizes.end(), [](double a, double b) { return a > b; });
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  const auto step = (sizes.size() + most_classes - 1) / most_classes;
  for (std::size_t at = 0; at < sizes.size(); at += std::max<std::size_t>(step, 1)) {
    size_class c;
    c.size = sizes[at];
    double workspace = forever;
    for (std::size_t i = 0; i < atoms(); ++i) {
      if (resident(i) < c.size) continue;
      ++c.atoms;
      workspace = std::min(workspace, static_cast<double>(p.workspace(i)));
    }
    for (std::size_t g = 0; g < groups.size(); ++g)
      c.most[g] = std::max(0.0, std::floor((groups[g].limit - workspace) / c.size * (1 + 1e-12)));
    classes.push_back(c);
  }
}

double relaxed_machine::whole_atoms(const device_set& set) const {
  if (set.streams) return 0;
  double worst = 0;
  for (std::size_t kind = 0; kind < first_of_kind.size(); ++kind) {
    const auto i = first_of_kind[kind];
    // Periods at which one more atom fits on some device, in turn: at most as many as there are atoms.
    std::array<std::size_t, max_groups> count{};
    double period = 0;
    for (std::size_t placed = 0; placed < kind_size[kind];) {
      double next = forever;
      for (std::size_t g = 0; g < groups.size(); ++g) {
        if (!groups[g].executes || set.used[g] == 0) continue;
        const double held = static_cast<double>(count[g] + 1) * (weights[i] + states[i]);
        if (held <= groups[g].limit * (1 + 1e-12))
          next = std::min(next, static_cast<double>(count[g] + 1) * time(phase::decode, g, i));
      }
      if (next == forever) return forever;
      period = next;
      for (std::size_t g = 0; g < groups.size(); ++g) {
        if (!groups[g].executes || set.used[g] == 0) continue;
        while (static_cast<double>(count[g] + 1) * (weights[i] + states[i]) <= groups[g].limit * (1 + 1e-12) &&
               static_cast<double>(count[g] + 1) * time(phase::decode, g, i) <= period && placed < kind_size[kind]) {
          ++count[g];
          placed += set.used[g];
        }
      }
    }
    worst = std::max(worst, period);
  }
  return worst;
}

double relaxed_machine::visiting_cost(const device_set& set) const {
  // Every device but the first of the chain is entered by at least one message.
  const auto k = groups.size();
  double sum = 0, largest = 0, smallest = forever;
  std::size_t count = 0, closed = 0;
  for (std::size_t b = 0; b < k; ++b) {
    if (!groups[b].executes || set.used[b] == 0) continue;
    double into = forever;
    for (std::size_t a = 0; a < k; ++a)
      if (groups[a].executes && set.used[a] > (a == b ? 1u : 0u)) into = std::min(into, least_message[a * k + b]);
    count += set.used[b];
    if (into == forever) {
      closed += set.used[b];
      continue;
    }
    sum += into * static_cast<double>(set.used[b]);
    largest = std::max(largest, into);
    smallest = std::min(smallest, into);
  }
  // A plan that streams may leave the CPU, or the GPUs, out of one phase.
  if (count <= 1 || (set.streams && cpu != no_group && set.used[cpu] > 0)) return 0;
  if (closed > 1) return forever;
  if (throughput()) return smallest;
  return closed == 1 ? sum : sum - largest;
}

double relaxed_machine::least_time(const device_set& set, std::size_t i) const {
  double prompt = forever, decode = forever, together = forever;
  const double wp = weight(phase::prefill), wd = weight(phase::decode);
  for (std::size_t g = 0; g < groups.size(); ++g) {
    if (!groups[g].executes || set.used[g] == 0) continue;
    if (!p.open(i) && p.fixed[i].execution != groups[g].first) continue;
    const double tp = wp > 0 ? wp * time(phase::prefill, g, i) : 0, td = wd > 0 ? wd * time(phase::decode, g, i) : 0;
    prompt = std::min(prompt, tp);
    decode = std::min(decode, td);
    together = std::min(together, tp + td);
  }
  // Only a plan that streams may run the phases on different devices.
  return set.streams ? prompt + decode : together;
}

bool relaxed_machine::could_hold(const device_set& set) const {
  double weight_sum = 0, state_sum = 0, room = 0, running = 0;
  for (std::size_t i = 0; i < atoms(); ++i) {
    weight_sum += weights[i];
    state_sum += states[i];
  }
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const double own = groups[g].limit * static_cast<double>(set.used[g]);
    if (groups[g].executes) running += own;
    if (groups[g].executes) room += own;
    if (set.streams && (g == disk || (g == cpu && set.used[g] == 0))) room += groups[g].limit;
  }
  constexpr double slack = 1 + 1e-12;
  if (!set.streams)
    for (const auto& c : classes) {
      double most = 0;
      for (std::size_t g = 0; g < groups.size(); ++g)
        if (groups[g].executes) most += c.most[g] * static_cast<double>(set.used[g]);
      if (most < static_cast<double>(c.atoms)) return false;
    }
  return weight_sum + state_sum <= room * slack && state_sum <= running * slack;
}

lower_bound relaxed_machine::quick_bound(const device_set& set) const {
  if (!could_hold(set)) return {forever, "memory"};
  const double messages = set.exactly ? visiting_cost(set) : 0;
  if (messages == forever) return {forever, "links"};
  double sum = 0, longest = 0, devices = 0;
  for (std::size_t i = 0; i < atoms(); ++i) {
    const double t = least_time(set, i);
    sum += t;
    longest = std::max(longest, t);
  }
  for (std::size_t g = 0; g < groups.size(); ++g)
    if (groups[g].executes) devices += static_cast<double>(set.used[g]);
  if (!throughput()) return {sum + messages, "work"};
  const double shared = std::max(longest, sum / devices);
  return messages > shared ? lower_bound{messages, "links"} : lower_bound{shared, "work"};
}

}  // namespace berth
