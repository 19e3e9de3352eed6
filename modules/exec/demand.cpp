// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory_resource>
#include <span>
#include <utility>
#include <vector>

module berth.exec;

import berth.base;
import berth.model;
import berth.topology;
import berth.plan;
import :demand;

namespace berth::detail {
namespace {

bytes aligned(const plan& p, bytes amount) {
  return p.padded && amount % 256 != 0 ? amount + 256 - amount % 256 : amount;
}

void demand_weights(const plan& p, demand& d, findings& found, std::pmr::memory_resource* memory) {
  for (std::size_t i = 0; i < p.atoms.size(); ++i) {
    d.atoms[i].own = p.atoms[i].weights;
    d.devices[p.placements[i].home].weights += p.loads[i];
  }
  std::pmr::map<std::pair<device_index, std::uint32_t>, std::uint32_t> holders(memory);
  for (const auto& u : p.ties) {
    const auto home = p.placements[u.atom].home;
    const auto [at, first] = holders.emplace(std::pair{home, u.storage}, u.atom);
    if (first || u.size == 0) continue;
    d.loans.push_back({u.atom, u.storage, at->second, 0, u.size});
    if (u.size > d.atoms[u.atom].own) return found.add(p.atoms[u.atom].name, "shares more bytes than it has");
    d.atoms[u.atom].own -= u.size;
    d.devices[home].weights -= aligned(p, u.size);
  }
  // Held storages end the region of their holder, the one with the greatest number last.
  std::pmr::map<std::pair<std::uint32_t, std::uint32_t>, bytes> starts(memory);
  std::pmr::vector<bytes> ends(p.atoms.size(), memory);
  for (std::size_t i = 0; i < p.atoms.size(); ++i) ends[i] = d.atoms[i].own;
  for (auto u = p.ties.rbegin(); u != p.ties.rend(); ++u) {
    if (holders[{p.placements[u->atom].home, u->storage}] != u->atom) continue;
    if (u->size > ends[u->atom]) return found.add(p.atoms[u->atom].name, "shares more bytes than it has");
    ends[u->atom] -= u->size;
    starts[{u->atom, u->storage}] = ends[u->atom];
  }
  for (auto& l : d.loans) l.at = starts[{l.holder, l.storage}];
  std::sort(d.loans.begin(), d.loans.end(),
            [](const loan& a, const loan& b) { return a.atom != b.atom ? a.atom < b.atom : a.storage < b.storage; });
}

void demand_passes(const plan& p, demand& d) {
  for (const auto ph : all_phases) {
    const auto k = static_cast<std::size_t>(ph);
    for (std::size_t i = 0; i < p.atoms.size(); ++i) {
      auto& a = d.atoms[i];
      const auto on = p.placements[i].runs(ph);
      d.devices[on].workspace = std::max(d.devices[on].workspace, aligned(p, p.atoms[i].workspace));
      if (p.placements[i].home != on) {
        a.step[k] = d.devices[on].steps[k]++;
        d.devices[on].staging = std::max(d.devices[on].staging, p.loads[i] * p.staging_slots);
      }
      a.hops[k] = i + 1 < p.atoms.size() && p.placements[i + 1].runs(ph) != on;
      const double out = p.atoms[i].in(ph).out;
      if (a.hops[k] && out > 0 && out < 9e18) a.message[k] = static_cast<bytes>(std::ceil(out));
    }
  }
}

void demand_states(const plan& p, demand& d) {
  for (std::size_t i = 0; i < p.atoms.size(); ++i) {
    const auto& at = p.placements[i];
    auto& on = d.devices[at.execution];
    d.atoms[i].state_at = on.weights + on.states;
    on.states += aligned(p, p.atoms[i].state);
    if (at.runs(phase::prefill) == at.execution || p.workload.context == 0) continue;
    const double filled = static_cast<double>(p.workload.prompt) / static_cast<double>(p.workload.context);
    d.atoms[i].moved = filled >= 1 ? p.atoms[i].state
                                   : static_cast<bytes>(std::llround(filled * static_cast<double>(p.atoms[i].state)));
  }
}

}  // namespace

std::span<const loan> demand::loans_of(std::uint32_t atom) const {
  const auto first =
      std::lower_bound(loans.begin(), loans.end(), atom, [](const loan& l, std::uint32_t a) { return l.atom < a; });
  auto last = first;
  while (last != loans.end() && last->atom == atom) ++last;
  return {loans.data() + (first - loans.begin()), static_cast<std::size_t>(last - first)};
}

demand make_demand(const plan& p, findings& found, std::pmr::memory_resource* memory) {
  demand d(memory);
  d.devices.resize(p.devices.size());
  d.atoms.resize(p.atoms.size());
  for (const auto& u : p.uses) {
    d.devices[u.device].used = true;
    d.devices[u.device].total = u.used();
  }
  demand_weights(p, d, found, memory);
  if (!found.empty()) return d;
  demand_passes(p, d);
  demand_states(p, d);
  return d;
}

}  // namespace berth::detail
