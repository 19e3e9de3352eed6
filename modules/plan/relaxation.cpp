// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <utility>
#include <vector>

module berth.plan;

import :linear_program;
import :relaxation;

namespace berth {

relaxation::relaxation(const relaxed_machine& m, const device_set& set, std::pmr::memory_resource* memory)
    : m_(m),
      set_(set),
      memory_(memory),
      options_(memory),
      pairs_(memory),
      share_(memory),
      busy_(memory),
      memory_price_(memory),
      memory_use_(memory),
      count_price_(memory),
      pair_price_(memory),
      pair_option_(memory),
      path_(memory),
      from_(memory),
      chosen_(memory) {
  make_options();
  const auto n = m_.atoms();
  count_price_.assign(m_.classes.size() * m_.groups.size(), 0);
  share_.assign(phase_count * resources(), 0);
  busy_.assign(phase_count * resources(), 0);
  memory_price_.assign(m_.groups.size(), 0);
  memory_use_.assign(m_.groups.size(), 0);
  pair_price_.assign(n * pairs_.size(), 0);
  pair_option_.assign(n * pairs_.size(), 0);
  from_.assign(n * pairs_.size(), 0);
  path_.assign(2 * pairs_.size(), 0);
  chosen_.assign(n, 0);
  start_shares();
}

void relaxation::make_options() {
  const auto add = [&](std::size_t prompt, std::size_t decode, std::size_t home, bool pc, bool dc) {
    std::size_t pair = 0;
    while (pair < pairs_.size() && pairs_[pair] != std::array{prompt, decode}) ++pair;
    if (pair == pairs_.size()) pairs_.push_back({prompt, decode});
    options_.push_back({prompt, decode, home, pair, pc, dc});
  };
  for (std::size_t g = 0; g < m_.groups.size(); ++g) {
    if (!m_.groups[g].executes || set_.used[g] == 0) continue;
    add(g, g, g, false, false);
    if (!set_.streams) continue;
    for (const auto store : {m_.cpu, m_.disk})
      if (store != no_group && store != g) add(g, g, store, true, true);
    if (m_.cpu == no_group || set_.used[m_.cpu] == 0 || g == m_.cpu) continue;
    add(g, m_.cpu, m_.cpu, true, false);
    if (m_.disk != no_group) add(g, m_.cpu, m_.disk, true, true);
  }
}

bool relaxation::allowed(const option& o, std::size_t i) const {
  const bool copied = o.prompt_copied || o.decode_copied;
  if (copied && static_cast<double>(m_.p.loads[i]) > set_.largest_high) return false;
  if (m_.p.open(i)) return true;
  const auto& f = m_.p.fixed[i];
  return m_.groups[o.decode].first == f.execution && m_.groups[o.home].first == f.home &&
         m_.groups[o.prompt].first == f.runs(phase::prefill);
}

/// Calls `visit(phase, resource, seconds)` for all that atom i keeps busy under option `o`.
template <class Visit>
void relaxation::visit_resources(const option& o, std::size_t i, Visit visit) const {
  for (const auto ph : all_phases) {
    if (m_.weight(ph) <= 0) continue;
    const auto g = ph == phase::prefill ? o.prompt : o.decode;
    const double t = m_.time(ph, g, i);
    visit(ph, chain, t);
    visit(ph, compute_of(g), t / static_cast<double>(set_.used[g]));
    if (m_.dram > 0 && g == m_.cpu && set_.streams) visit(ph, dram(), m_.p.atoms[i].in(ph).touched / m_.dram);
    if (!(ph == phase::prefill ? o.prompt_copied : o.decode_copied)) continue;
    visit(ph, engine_of(g), m_.copy(o.home, g, i) / static_cast<double>(set_.used[g]));
    if (m_.dram > 0 && o.home == m_.cpu && m_.crosses_dram[g])
      visit(ph, dram(), static_cast<double>(m_.p.atoms[i].weights) / m_.dram);
  }
}

double relaxation::capacity(std::size_t g) const {
  const auto copies = m_.groups[g].executes ? set_.used[g] : 1;
  double room = m_.groups[g].limit * static_cast<double>(copies);
  if (set_.streams && g == m_.cpu && copies == 0) room = m_.groups[g].limit;
  if (!set_.streams) return room;
  // Slots for the largest streamed atom, on one device at least: known which group only if there is one.
  std::size_t targets = 0;
  for (std::size_t t = 0; t < m_.groups.size(); ++t)
    if (m_.groups[t].executes && set_.used[t] > 0 && (t != m_.cpu || m_.disk != no_group)) ++targets;
  if (targets == 1 && m_.groups[g].executes && set_.used[g] > 0 && (g != m_.cpu || m_.disk != no_group))
    room -= set_.largest_low * static_cast<double>(m_.p.staging_slots);
  return room;
}

/// Whole atoms of a size class, or larger, that are resident on a group at most; slots take room from it.
double relaxation::whole(std::size_t c, std::size_t g) const {
  const auto& k = m_.classes[c];
  const double each = k.most[g] * static_cast<double>(set_.used[g]);
  return std::min(each, std::max(0.0, std::floor(capacity(g) / k.size * (1 + 1e-12))));
}

double relaxation::price(const option& o, std::size_t i) {
  double sum = memory_price_[o.home] * m_.weights[i] + memory_price_[o.decode] * m_.states[i];
  if (o.home == o.decode && m_.groups[o.home].executes)
    for (std::size_t c = 0; c < m_.classes.size(); ++c)
      if (m_.resident(i) >= m_.classes[c].size) sum += count_price_[c * m_.groups.size() + o.home];
  visit_resources(o, i, [&](phase ph, std::size_t r, double t) {
    if (const double s = share(ph, r); s > 0) sum += m_.weight(ph) * s * t;
  });
  return sum;
}

void relaxation::price_all() {
  std::fill(pair_price_.begin(), pair_price_.end(), forever);
  for (std::size_t i = 0; i < m_.atoms(); ++i)
    for (std::size_t o = 0; o < options_.size(); ++o) {
      if (!allowed(options_[o], i)) continue;
      const auto at = i * pairs_.size() + options_[o].pair;
      const double v = price(options_[o], i);
      if (!(v < pair_price_[at])) continue;
      pair_price_[at] = v;
      pair_option_[at] = static_cast<std::uint16_t>(o);
    }
}

/// Every atom on its own, messages left out.
double relaxation::free_minimum() {
  double sum = 0;
  const auto q = pairs_.size();
  for (std::size_t i = 0; i < m_.atoms(); ++i) {
    const auto* row = pair_price_.data() + i * q;
    const auto best = static_cast<std::size_t>(std::min_element(row, row + q) - row);
    sum += row[best];
    chosen_[i] = pair_option_[i * q + best];
  }
  return sum;
}

double relaxation::message(std::size_t from, std::size_t to, std::size_t i, phase ph) const {
  // Two atoms on one group may be on one device: then nothing is sent.
  return from == to ? 0 : hop_seconds(m_.p, i, m_.groups[from].first, m_.groups[to].first, ph);
}

/// Cheapest path through the layered graph of (prompt, decode) pairs.
double relaxation::path_minimum() {
  const auto q = pairs_.size(), n = m_.atoms();
  double* now = path_.data();
  double* next = now + q;
  const double wp = m_.weight(phase::prefill) * share(phase::prefill, chain);
  const double wd = m_.weight(phase::decode) * share(phase::decode, chain);
  std::copy_n(pair_price_.data(), q, now);
  for (std::size_t i = 1; i < n; ++i) {
    for (std::size_t b = 0; b < q; ++b) {
      double best = forever;
      std::size_t from = 0;
      for (std::size_t a = 0; a < q; ++a) {
        if (now[a] == forever) continue;
        double v = now[a];
        if (a != b) {
          if (wp > 0) v += wp * message(pairs_[a][0], pairs_[b][0], i - 1, phase::prefill);
          if (wd > 0) v += wd * message(pairs_[a][1], pairs_[b][1], i - 1, phase::decode);
        }
        if (v < best) {
          best = v;
          from = a;
        }
      }
      next[b] = best + pair_price_[i * q + b];
      from_[i * q + b] = static_cast<std::uint16_t>(from);
    }
    std::swap(now, next);
  }
  auto last = static_cast<std::size_t>(std::min_element(now, now + q) - now);
  const double value = now[last];
  if (value == forever) return forever;
  for (std::size_t i = n; i-- > 0;) {
    chosen_[i] = pair_option_[i * q + last];
    last = from_[i * q + last];
  }
  return value;
}

/// What the chosen options use: the direction of the subgradient.
void relaxation::measure() {
  std::fill(busy_.begin(), busy_.end(), 0);
  std::fill(memory_use_.begin(), memory_use_.end(), 0);
  for (std::size_t i = 0; i < m_.atoms(); ++i) {
    const auto& o = options_[chosen_[i]];
    visit_resources(o, i, [&](phase ph, std::size_t r, double t) { busy(ph, r) += t; });
    memory_use_[o.home] += m_.weights[i];
    memory_use_[o.decode] += m_.states[i];
    if (i == 0 || m_.throughput()) continue;
    const auto& before = options_[chosen_[i - 1]];
    busy(phase::prefill, chain) += message(before.prompt, o.prompt, i - 1, phase::prefill);
    busy(phase::decode, chain) += message(before.decode, o.decode, i - 1, phase::decode);
  }
}

void relaxation::start_shares() {
  for (const auto ph : all_phases) {
    if (!m_.throughput()) {
      share(ph, chain) = set_.streams ? 0.6 : 1;
      if (!set_.streams) continue;
      double devices = 0;
      for (std::size_t g = 0; g < m_.groups.size(); ++g) devices += m_.groups[g].executes ? double(set_.used[g]) : 0;
      for (std::size_t g = 0; g < m_.groups.size(); ++g)
        if (m_.groups[g].executes) share(ph, engine_of(g)) = 0.35 * double(set_.used[g]) / devices;
      share(ph, dram()) = 0.05;
      continue;
    }
    double devices = 0;
    for (std::size_t g = 0; g < m_.groups.size(); ++g) devices += m_.groups[g].executes ? double(set_.used[g]) : 0;
    const double computing = set_.streams ? 0.7 : 1;
    for (std::size_t g = 0; g < m_.groups.size(); ++g) {
      if (!m_.groups[g].executes) continue;
      share(ph, compute_of(g)) = computing * double(set_.used[g]) / devices;
      if (set_.streams) share(ph, engine_of(g)) = 0.25 * double(set_.used[g]) / devices;
    }
    if (set_.streams) share(ph, dram()) = 0.05;
  }
}

/// The relaxation without messages is a linear program over kinds of atoms: its duals are the best multipliers.
/// Rows: every kind is placed; every resource's busy time is at most the pass; every group's memory and
/// whole atoms. `scale` is a time near the optimum.
bool relaxation::solve_program(double scale) {
  constexpr std::size_t largest_table = 400'000;
  const auto kinds = m_.first_of_kind.size(), q = options_.size(), groups = m_.groups.size();
  const auto classes = m_.classes.size();
  const auto rows = kinds + phase_count * resources() + groups + classes * groups, columns = kinds * q + phase_count;
  if (rows * (rows + columns) > largest_table || !(scale > 0) || !(scale < forever)) return false;
  linear_program lp(rows, columns, memory_);
  const auto pass_column = [&](phase ph) { return kinds * q + static_cast<std::size_t>(ph); };
  const auto resource_row = [&](phase ph, std::size_t r) {
    return kinds + static_cast<std::size_t>(ph) * resources() + r;
  };
  const auto memory_row = [&](std::size_t g) { return kinds + phase_count * resources() + g; };
  const auto count_row = [&](std::size_t c, std::size_t g) {
    return kinds + phase_count * resources() + groups + c * groups + g;
  };
  for (const auto ph : all_phases) {
    lp.cost(pass_column(ph), m_.weight(ph) > 0 ? m_.weight(ph) : 1);
    for (std::size_t r = 0; r < resources(); ++r) lp.coefficient(resource_row(ph, r), pass_column(ph), -1);
  }
  for (std::size_t kind = 0; kind < kinds; ++kind) {
    const auto i = m_.first_of_kind[kind];
    lp.bound(kind, static_cast<double>(m_.kind_size[kind]), true);
    for (std::size_t o = 0; o < q; ++o) {
      const auto column = kind * q + o;
      bool usable = allowed(options_[o], i);
      if (usable)
        visit_resources(options_[o], i, [&](phase, std::size_t, double t) { usable = usable && t < forever; });
      if (!usable) {
        lp.cost(column, 1e6);  // never part of a solution worth having; its price is not trusted
        lp.coefficient(kind, column, 1);
        continue;
      }
      lp.coefficient(kind, column, 1);
      visit_resources(options_[o], i, [&](phase ph, std::size_t r, double t) {
        if (counts(r)) lp.coefficient(resource_row(ph, r), column, t / scale);
      });
      for (const auto& [g, amount] : {std::pair(options_[o].home, m_.weights[i]), {options_[o].decode, m_.states[i]}})
        if (capacity(g) > 0) lp.coefficient(memory_row(g), column, amount / capacity(g));
      const auto g = options_[o].home;
      if (g != options_[o].decode || !m_.groups[g].executes) continue;
      for (std::size_t c = 0; c < classes; ++c)
        if (m_.resident(i) >= m_.classes[c].size) lp.coefficient(count_row(c, g), column, 1);
    }
  }
  for (std::size_t g = 0; g < groups; ++g) {
    lp.bound(memory_row(g), 1, false);
    for (std::size_t c = 0; c < classes; ++c) lp.bound(count_row(c, g), whole(c, g), false);
  }
  if (!lp.solve()) return false;
  for (const auto ph : all_phases) {
    if (m_.weight(ph) <= 0) continue;
    double sum = 0;
    for (std::size_t r = 0; r < resources(); ++r) sum += lp.price(resource_row(ph, r));
    if (!(sum > 0)) continue;
    for (std::size_t r = 0; r < resources(); ++r) share(ph, r) = lp.price(resource_row(ph, r)) / sum;
  }
  for (std::size_t g = 0; g < groups; ++g) {
    if (capacity(g) > 0) memory_price_[g] = lp.price(memory_row(g)) * scale / capacity(g);
    for (std::size_t c = 0; c < classes; ++c) count_price_[c * groups + g] = lp.price(count_row(c, g)) * scale;
  }
  return true;
}

/// Whether a resource is one that bounds the objective's passes: the whole chain for a single stream, each device's
/// compute when several streams overlap.
bool relaxation::counts(std::size_t r) const {
  if (r == chain) return !m_.throughput();
  return m_.throughput() || r >= engine_of(0);
}

/// Memory prices by Polyak's rule, shares by exponentiated gradient (they sum to 1 in each phase).
void relaxation::step(double target, double value, int round) {
  double norm = 0;
  for (std::size_t g = 0; g < m_.groups.size(); ++g) {
    const double room = capacity(g);
    const double excess = room > 0 ? memory_use_[g] / room - 1 : 0;
    if (excess > 0 || memory_price_[g] > 0) norm += excess * excess;
  }
  if (norm > 0) {
    const double length = std::max(target - value, target * 1e-4) / norm;
    for (std::size_t g = 0; g < m_.groups.size(); ++g) {
      const double room = capacity(g);
      if (room > 0) memory_price_[g] = std::max(0.0, memory_price_[g] + length * (memory_use_[g] / room - 1) / room);
    }
  }
  if (!m_.throughput() && !set_.streams) return;
  const double rate = 1.0 / std::sqrt(1.0 + 0.15 * round);
  for (const auto ph : all_phases) {
    double largest = 0, sum = 0;
    for (std::size_t r = 0; r < resources(); ++r) {
      if (!counts(r)) continue;
      largest = std::max(largest, busy(ph, r));
    }
    if (!(largest > 0)) continue;
    for (std::size_t r = 0; r < resources(); ++r) {
      if (share(ph, r) <= 0) continue;
      share(ph, r) *= std::exp(rate * (busy(ph, r) / largest - 0.5));
      sum += share(ph, r);
    }
    for (std::size_t r = 0; r < resources(); ++r) share(ph, r) /= sum;
  }
}

lower_bound relaxation::run(lower_bound start, double target, double budget) {
  const double cost = static_cast<double>(m_.atoms() * (options_.size() * 8 + pairs_.size() * pairs_.size()));
  int rounds = std::clamp(static_cast<int>(budget / std::max(cost, 1.0)), 8, 120);
  const double messages = set_.exactly && !m_.throughput() ? m_.visiting_cost(set_) : 0;
  const bool programmed = solve_program(target < forever ? target : start.bound);
  // What the devices' own work proves, kept apart from what the links prove.
  lower_bound best = start.name == "links" && m_.throughput() ? lower_bound{0, "work"} : start;
  const auto take = [&](double v) {
    if (v > best.bound) best = {v, "memory"};
  };
  // Good multipliers need no search where messages do not count.
  if (programmed) rounds = m_.throughput() ? 1 : std::min(rounds, 30);
  for (int round = 0; round < rounds && best.bound < target; ++round) {
    price_all();
    double rent = 0;
    for (std::size_t g = 0; g < m_.groups.size(); ++g) {
      rent += memory_price_[g] * capacity(g);
      for (std::size_t c = 0; c < m_.classes.size(); ++c) rent += count_price_[c * m_.groups.size() + g] * whole(c, g);
    }
    const double alone = free_minimum() - rent;
    if (!(alone < forever)) return {forever, "memory"};
    take(alone + messages * least_chain_share());
    double value = alone;
    if (!m_.throughput()) {
      value = path_minimum() - rent;
      take(value);
    }
    measure();
    step(std::min(target, best.bound * 1.5), value, round);
  }
  if (!m_.throughput()) return best;
  if (const double v = m_.whole_atoms(set_); v > best.bound) best = {v, "whole atoms"};
  if (const double v = round_up(best.bound); v > best.bound) best = {v, "lattice"};
  return start.bound > best.bound ? start : best;
}

/// Messages lengthen the chain, which counts with its share.
double relaxation::least_chain_share() {
  if (m_.throughput()) return 0;
  return set_.streams ? std::min(share(phase::prefill, chain), share(phase::decode, chain)) : 1;
}

/// The fullest device's time is a sum of times of atoms. Where atoms have few different times, the least such sum at
/// or above the bound is a bound as well.
double relaxation::round_up(double bound) const {
  if (set_.streams) return bound;
  constexpr std::size_t max_rare = 10;
  double least = forever;
  for (std::size_t g = 0; g < m_.groups.size(); ++g) {
    if (!m_.groups[g].executes || set_.used[g] == 0) continue;
    std::pmr::vector<double> t(share_.get_allocator());
    for (std::size_t i = 0; i < m_.atoms(); ++i) t.push_back(m_.time(phase::decode, g, i));
    std::sort(t.begin(), t.end());
    // The most common time is counted, the others are taken or not.
    double common = 0;
    std::size_t most = 0;
    for (std::size_t i = 0; i < t.size();) {
      std::size_t end = i;
      while (end < t.size() && t[end] <= t[i] * (1 + 1e-9)) ++end;
      if (end - i > most) {
        most = end - i;
        common = t[i];
      }
      i = end;
    }
    std::pmr::vector<double> rare(share_.get_allocator());
    for (const double v : t)
      if (!(v >= common * (1 - 1e-9) && v <= common * (1 + 1e-9))) rare.push_back(v);
    if (rare.size() > max_rare || common <= 0) return bound;
    for (std::size_t subset = 0; subset < (std::size_t{1} << rare.size()); ++subset) {
      double sum = 0;
      for (std::size_t r = 0; r < rare.size(); ++r) sum += (subset >> r & 1) != 0 ? rare[r] : 0;
      const double missing = std::max(0.0, bound * (1 - 1e-9) - sum);
      const double count = std::ceil(missing / common - 1e-9);
      if (count <= static_cast<double>(most)) least = std::min(least, sum + count * common * (1 - 1e-9));
    }
  }
  return least == forever ? bound : std::max(bound, least);
}

}  // namespace berth
