// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

module berth.plan;

import :cells;

namespace berth {
namespace {

/// s; sums of four rounds must fit 63 bits of picoseconds, and nobody waits days for a token.
constexpr double longest_round = 1e6;
double longest_step(std::size_t atoms) { return longest_round / static_cast<double>(std::max<std::size_t>(atoms, 1)); }

}  // namespace

std::size_t evaluator::cells(const problem_view& p) {
  const auto n = p.loads.size();
  const auto slots = std::max<std::uint32_t>(p.staging_slots, 1);
  const auto one = cells_for<ring_item>(n) + ring_cells(n, 1) + 8;
  const auto many = cells_for<event_arc>(5 * n) + cells_for<double>(cycle_values(2 * n) + n) +
                    cells_for<std::uint32_t>(cycle_marks(2 * n, 5 * n) + n) + 8;
  const auto prompt = p.seats.size() * (slots + 4) + 8;
  return std::max({one, many, prompt, p.seats.size() * p.seats.size(), p.machine.segments.size()}) + 16;
}

evaluator::evaluator(const problem_view& p, std::span<std::uint64_t> scratch) : p_(p), scratch_(scratch) {}

double evaluator::resident_pass(std::span<const placement> out, phase ph) const {
  double sum = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (i > 0) sum += hop_seconds(p_, i - 1, out[i - 1].runs(ph), out[i].runs(ph), ph);
    sum += atom_seconds(p_, i, out[i].runs(ph), ph);
  }
  return sum;
}

double evaluator::pass(std::span<const placement> out, phase ph) const {
  bool streamed = false;
  for (const auto& o : out) streamed = streamed || o.streamed(ph);
  double time = 0;
  if (!streamed)
    time = resident_pass(out, ph);
  else
    time = ph == phase::prefill ? streamed_prompt(out) : decode_round(out);
  if (ph == phase::prefill) time += state_move(out);
  return std::max(time, segments_floor(out, ph));
}

/// What the prompt wrote on another device than decode reads it from must be moved; the moves overlap the pass except
/// for the last one.
double evaluator::state_move(std::span<const placement> out) const {
  const auto& w = p_.workload;
  if (w.context == 0) return 0;
  const double share = std::min(1.0, static_cast<double>(w.prompt) / static_cast<double>(w.context));
  double last = 0;
  for (std::size_t i = 0; i < out.size(); ++i)
    if (out[i].runs(phase::prefill) != out[i].execution)
      last = copy_seconds(p_, share * static_cast<double>(p_.state(i)), out[i].runs(phase::prefill), out[i].execution);
  return last;
}

/// One pass with empty slots at its start: longest path, in chain order.
double evaluator::streamed_prompt(std::span<const placement> out) const {
  cell_cutter cut(scratch_);
  const auto k = p_.seats.size();
  const std::size_t slots = std::max<std::uint32_t>(p_.staging_slots, 1);
  const auto copied = cut.take<double>(k);
  const auto count = cut.take<std::uint64_t>(k);
  const auto freed = cut.take<double>(k * slots);
  double now = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto s = out[i].runs(phase::prefill);
    if (i > 0) now += hop_seconds(p_, i - 1, out[i - 1].runs(phase::prefill), s, phase::prefill);
    const double compute = atom_seconds(p_, i, s, phase::prefill);
    if (!out[i].streamed(phase::prefill)) {
      now += compute;
      continue;
    }
    auto& slot = freed[s * slots + count[s]++ % slots];
    copied[s] = std::max(copied[s], slot) + weight_copy_seconds(p_, i, out[i].home, s);
    now = std::max(now, copied[s]) + compute;
    slot = now;
  }
  return now;
}

double evaluator::decode_round(std::span<const placement> out) const {
  seat_index streamer = none;
  for (const auto& o : out) {
    if (!o.streamed(phase::decode)) continue;
    if (streamer != none && streamer != o.execution) return round_of_many(out);
    streamer = o.execution;
  }
  return round_of_one(out, streamer, false);
}

/// Period of a round in which seat `s` streams. `alone`: only its own atoms count (pipelined), else the whole chain.
double evaluator::round_of_one(std::span<const placement> out, seat_index s, bool alone) const {
  cell_cutter cut(scratch_);
  const auto items = cut.take<ring_item>(out.size());
  const double longest = longest_step(out.size());
  std::size_t m = 0;
  double before = 0, since = 0;  // resident time ahead of the first streamed atom, and since the last one
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto on = out[i].execution;
    if (i > 0 && !alone) since += hop_seconds(p_, i - 1, out[i - 1].execution, on, phase::decode);
    if (alone && on != s) continue;
    const double compute = atom_seconds(p_, i, on, phase::decode);
    if (!out[i].streamed(phase::decode)) {
      since += compute;
      continue;
    }
    const double copy = weight_copy_seconds(p_, i, out[i].home, on);
    if (compute > longest || copy > longest || since > longest_round) return forever;
    if (m == 0)
      before = since;
    else
      items[m - 1].resident_after = to_picoseconds(since);
    items[m++] = {to_picoseconds(copy), to_picoseconds(compute), 0};
    since = 0;
  }
  if (m == 0) return since;
  if (since + before > longest_round) return forever;
  items[m - 1].resident_after = to_picoseconds(since + before);
  const auto slots = std::max<std::uint32_t>(p_.staging_slots, 1);
  // Whole picoseconds may come out below the sum of the computes: then streaming would seem to gain something.
  const double computes = alone ? busy(out, s, phase::decode) : resident_pass(out, phase::decode);
  return std::max(computes,
                  seconds_from(ring_period(items.first(m), slots, cut.take<picoseconds>(ring_cells(m, slots)))));
}

/// Several seats stream under one chain of computes: events 2j (copy) and 2j + 1 (compute) of the j-th streamed atom.
double evaluator::round_of_many(std::span<const placement> out) const {
  cell_cutter cut(scratch_);
  const auto arcs = cut.take<event_arc>(5 * out.size());
  const auto atom_of = cut.take<std::uint32_t>(out.size());
  const auto after = cut.take<double>(out.size());
  std::size_t m = 0, count = 0;
  double before = 0, since = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (i > 0) since += hop_seconds(p_, i - 1, out[i - 1].execution, out[i].execution, phase::decode);
    if (!out[i].streamed(phase::decode)) {
      since += atom_seconds(p_, i, out[i].execution, phase::decode);
      continue;
    }
    (m == 0 ? before : after[m - 1]) = since;
    atom_of[m++] = static_cast<std::uint32_t>(i);
    since = 0;
  }
  after[m - 1] = since + before;
  const auto compute = [&](std::size_t j) {
    return atom_seconds(p_, atom_of[j], out[atom_of[j]].execution, phase::decode);
  };
  const auto copy = [&](std::size_t j) {
    const auto& o = out[atom_of[j]];
    return weight_copy_seconds(p_, atom_of[j], o.home, o.execution);
  };
  const auto event = [](std::size_t j, bool computes) {
    return static_cast<std::uint32_t>(2 * j + (computes ? 1 : 0));
  };
  const std::size_t slots = std::max<std::uint32_t>(p_.staging_slots, 1);
  for (std::size_t j = 0; j < m; ++j) {
    if (compute(j) == forever || copy(j) == forever || after[j] == forever) return forever;
    const auto next = (j + 1) % m;
    const auto wraps = static_cast<std::uint32_t>(j + 1 == m ? 1 : 0);
    arcs[count++] = {event(j, true), event(next, true), after[j] + compute(next), wraps};
    arcs[count++] = {event(j, false), event(j, true), compute(j), 0};
    // The next copy on this seat, and the one that reuses this slot: the `slots`-th from here on the same seat.
    const auto s = out[atom_of[j]].execution;
    std::size_t steps = 0;
    std::uint32_t tokens = 0;
    for (std::size_t at = j; steps < slots;) {
      at = at + 1 == m ? (++tokens, std::size_t{0}) : at + 1;
      if (out[atom_of[at]].execution != s) continue;
      if (++steps == 1) arcs[count++] = {event(j, false), event(at, false), copy(at), tokens};
      if (steps == slots) arcs[count++] = {event(j, true), event(at, false), copy(at), tokens};
    }
  }
  const auto values = cut.take<double>(cycle_values(2 * m));
  const auto marks = cut.take<std::uint32_t>(cycle_marks(2 * m, count));
  return std::max(resident_pass(out, phase::decode), max_cycle_ratio(arcs.first(count), 2 * m, values, marks));
}

template <class Visit>
void evaluator::visit_traffic(std::span<const placement> out, phase ph, Visit visit) const {
  const auto& machine = p_.machine;
  const auto along = [&](seat_index from, seat_index to, double amount) {
    const auto* r = machine.route(p_.seats[from].device, p_.seats[to].device);
    if (r == nullptr) return false;
    for (const auto hop : machine.hops_of(*r)) visit(hop, amount);
    return true;
  };
  const auto cpu = find_seat(p_, device_kind::cpu);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto on = out[i].runs(ph);
    if (out[i].home != on) {
      const auto amount = static_cast<double>(p_.atoms[i].weights);
      if (!along(out[i].home, on, amount) && cpu != none) {
        along(out[i].home, cpu, amount);
        along(cpu, on, amount);
      }
    }
    const auto own = machine.devices[p_.seats[on].device].memory_segment;
    if (own != no_index && p_.seats[on].kind == device_kind::cpu) visit(own, p_.atoms[i].in(ph).touched);
    if (i > 0 && out[i - 1].runs(ph) != on) along(out[i - 1].runs(ph), on, p_.atoms[i - 1].in(ph).out);
  }
}

/// A resident pass of one stream crosses nothing twice at a time; only copies behind the compute share segments.
double evaluator::segments_floor(std::span<const placement> out, phase ph) const {
  bool streamed = false;
  for (const auto& o : out) streamed = streamed || o.streamed(ph);
  if (!streamed || p_.machine.segments.empty()) return 0;
  cell_cutter cut(scratch_);
  const auto load = cut.take<double>(p_.machine.segments.size());
  visit_traffic(out, ph, [&](segment_index s, double amount) { load[s] += amount; });
  double floor = 0;
  for (std::size_t s = 0; s < load.size(); ++s) floor = std::max(floor, load[s] / p_.machine.segments[s].capacity);
  return floor;
}

double evaluator::pipelined(std::span<const placement> out) const {
  double worst = segments_floor(out, phase::decode);
  for (seat_index s = 0; s < p_.seats.size(); ++s)
    if (p_.seats[s].executes()) worst = std::max(worst, round_of_one(out, s, true));
  // A directed link carries its messages one after the other.
  cell_cutter cut(scratch_);
  const auto k = p_.seats.size();
  const auto link_load = cut.take<double>(k * k);
  for (std::size_t i = 0; i + 1 < out.size(); ++i) {
    const auto from = out[i].execution, to = out[i + 1].execution;
    if (from == to) continue;
    auto& load = link_load[from * k + to];
    load += hop_seconds(p_, i, from, to, phase::decode);
    worst = std::max(worst, load);
  }
  return worst;
}

double evaluator::headroom(std::span<const placement> out) const {
  double least = forever;
  for (seat_index s = 0; s < p_.seats.size(); ++s) {
    bool used = false;
    for (const auto& o : out) used = used || o.execution == s || o.prompt == s;
    if (!used) continue;
    const double left = static_cast<double>(p_.seats[s].limit) - static_cast<double>(seat_load(p_, out, s));
    least = std::min(least, left);
  }
  return least;
}

double evaluator::busy(std::span<const placement> out, seat_index s, phase ph) const {
  double sum = 0;
  for (std::size_t i = 0; i < out.size(); ++i)
    if (out[i].runs(ph) == s) sum += atom_seconds(p_, i, s, ph);
  return sum;
}

bool evaluator::fits(std::span<const placement> out) const {
  cell_cutter cut(scratch_);
  const auto k = p_.seats.size();
  const auto held = cut.take<bytes>(k), workspace = cut.take<bytes>(k), slot = cut.take<bytes>(k);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto& o = out[i];
    held[o.home] += p_.loads[i];
    held[o.execution] += p_.state(i);
    for (const auto on : {o.execution, o.runs(phase::prefill)}) {
      workspace[on] = std::max(workspace[on], p_.workspace(i));
      if (on != o.home) slot[on] = std::max(slot[on], p_.loads[i]);
    }
  }
  // A storage is charged once per device that holds it.
  for (std::size_t u = 1; u < p_.ties.size(); ++u)
    for (std::size_t v = u; v > 0 && p_.ties[v - 1].storage == p_.ties[u].storage; --v)
      if (out[p_.ties[v - 1].atom].home == out[p_.ties[u].atom].home) {
        held[out[p_.ties[u].atom].home] -= p_.ties[u].size;
        break;
      }
  for (std::size_t s = 0; s < k; ++s)
    if (held[s] + workspace[s] + slot[s] * p_.staging_slots > p_.seats[s].limit) return false;
  return true;
}

double evaluator::value(std::span<const placement> out) const {
  const auto& w = p_.workload;
  if (w.objective == objective::memory) return -headroom(out);
  if (w.objective == objective::throughput) return pipelined(out);
  const double prompt = pass(out, phase::prefill);
  return w.generate == 0 ? prompt : prompt + static_cast<double>(w.generate) * pass(out, phase::decode);
}

plan_times evaluator::times(std::span<const placement> out) const {
  plan_times t;
  t.prefill = pass(out, phase::prefill);
  t.decode = pass(out, phase::decode);
  t.period = pipelined(out);
  t.value = value(out);
  return t;
}

}  // namespace berth
