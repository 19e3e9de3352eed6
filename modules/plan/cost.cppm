// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

export module berth.plan:cost;

import berth.model;
import berth.topology;
import :problem;

export namespace berth {

/// No time at all: what cannot be done takes this long.
inline constexpr double forever = std::numeric_limits<double>::infinity();

/// `work / rate`, where no work takes no time on a device without that rate.
constexpr double seconds_of(double work, double rate) { return work <= 0 ? 0 : rate > 0 ? work / rate : forever; }

/// Time of atom i on seat s in one pass: overhead + max(FLOPs / FLOP rate, bytes touched / memory rate), the roofline
/// model. `forever` on a disk.
constexpr double atom_seconds(const problem_view& p, std::size_t i, seat_index s, phase ph) {
  const auto& seat = p.seats[s];
  if (!seat.executes()) return forever;
  const auto& work = p.atoms[i].in(ph);
  const double compute =
      seconds_of(work.flops, seat.flops[static_cast<std::size_t>(rate_class_of(p.atoms[i].compute))]);
  const double memory = seconds_of(work.touched, seat.bandwidth);
  return seat.overhead + (compute > memory ? compute : memory);
}

/// Time to hand the activation of atom i from seat `from` to seat `to`: latency + bytes / bandwidth; 0 on one seat.
constexpr double hop_seconds(const problem_view& p, std::size_t i, seat_index from, seat_index to, phase ph) {
  if (from == to) return 0;
  const auto link = p.link(from, to);
  return link.usable() ? link.latency + p.atoms[i].in(ph).out / link.bandwidth : forever;
}

/// Time of a bare copy of `amount` bytes between two seats. What lies on the disk passes through the CPU's memory
/// when no route leads straight to the device: the slower of the two copies counts, since they overlap.
constexpr double copy_seconds(const problem_view& p, double amount, seat_index from, seat_index to) {
  if (from == to) return 0;
  const auto link = p.link(from, to);
  if (link.usable()) return link.setup + amount / link.bandwidth;
  const auto cpu = find_seat(p, device_kind::cpu);
  if (cpu == none || cpu == from || cpu == to) return forever;
  const auto first = p.link(from, cpu), second = p.link(cpu, to);
  if (!first.usable() || !second.usable()) return forever;
  const double slower = first.bandwidth < second.bandwidth ? first.bandwidth : second.bandwidth;
  return first.setup + second.setup + amount / slower;
}
constexpr double weight_copy_seconds(const problem_view& p, std::size_t i, seat_index from, seat_index to) {
  return copy_seconds(p, static_cast<double>(p.atoms[i].weights), from, to);
}

/// How often a phase counts in the objective: latency is the prompt once and every generated token, throughput is the
/// period of decode alone.
constexpr double weight_of(const workload& w, phase ph) {
  if (w.objective == objective::throughput) return ph == phase::decode ? 1 : 0;
  return ph == phase::decode ? static_cast<double>(w.generate) : 1;
}
/// Time of atom i on seat s as the objective counts it.
constexpr double objective_seconds(const problem_view& p, std::size_t i, seat_index s) {
  double sum = 0;
  for (const auto ph : all_phases)
    if (const double w = weight_of(p.workload, ph); w > 0) sum += w * atom_seconds(p, i, s, ph);
  return sum;
}
/// The same for the message after atom i.
constexpr double objective_hop(const problem_view& p, std::size_t i, seat_index from, seat_index to) {
  double sum = 0;
  for (const auto ph : all_phases)
    if (const double w = weight_of(p.workload, ph); w > 0) sum += w * hop_seconds(p, i, from, to, ph);
  return sum;
}

/// True if times can be computed: atoms have work, and every seat that executes has a memory rate and a FLOP rate.
constexpr bool rates_known(const problem_view& p) {
  bool work = false;
  for (const auto& a : p.atoms) work = work || a.in(phase::decode).touched > 0 || a.in(phase::prefill).touched > 0;
  bool executing = false;
  for (const auto& s : p.seats) {
    if (!s.executes()) continue;
    executing = true;
    if (!(s.bandwidth > 0)) return false;
    bool any = false;
    for (const double f : s.flops) any = any || f > 0;
    if (!any) return false;
  }
  return work && executing && p.atoms.size() == p.loads.size();
}

/// True if exchanging two seats changes no limit, rate or link: then plans need not tell them apart.
constexpr bool exchangeable(const problem_view& p, seat_index a, seat_index b) {
  const auto &x = p.seats[a], &y = p.seats[b];
  if (x.kind != y.kind || x.limit != y.limit || x.flops != y.flops || x.bandwidth != y.bandwidth ||
      x.overhead != y.overhead)
    return false;
  const auto same = [](const link_cost& l, const link_cost& m) {
    return l.latency == m.latency && l.setup == m.setup && l.bandwidth == m.bandwidth;
  };
  if (!same(p.link(a, b), p.link(b, a))) return false;
  for (seat_index s = 0; s < p.seats.size(); ++s)
    if (s != a && s != b && (!same(p.link(a, s), p.link(b, s)) || !same(p.link(s, a), p.link(s, b)))) return false;
  for (const auto& f : p.fixed)
    if (f.home == a || f.home == b || f.execution == a || f.execution == b || f.prompt == a || f.prompt == b)
      return false;
  return true;
}

}  // namespace berth
