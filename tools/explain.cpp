// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.tool;

import berth;

namespace tool {
namespace {

using berth::forever;
using berth::phase;

/// A plan as the planner sees it, with an evaluator.
class pricing {
 public:
  explicit pricing(const berth::plan& p)
      : problem_(p, std::pmr::get_default_resource()),
        view_(problem_.view()),
        scratch_(berth::evaluator::cells(view_)),
        evaluator_(view_, scratch_) {}
  const berth::problem_view& view() const { return view_; }
  std::span<const berth::placement> placements() const { return problem_.placements(); }
  double busy(berth::seat_index s, phase ph) const { return evaluator_.busy(placements(), s, ph); }

 private:
  berth::planning_problem problem_;
  berth::problem_view view_;
  std::vector<std::uint64_t> scratch_;
  berth::evaluator evaluator_;
};

/// What limits the atoms of a seat in a phase: whichever takes most of the time.
std::string_view limiting(const pricing& w, berth::seat_index s, phase ph) {
  double compute = 0, memory = 0, launches = 0;
  const auto& p = w.view();
  for (std::size_t i = 0; i < p.atoms.size(); ++i) {
    if (w.placements()[i].runs(ph) != s) continue;
    const auto& work = p.atoms[i].in(ph);
    const double c = berth::seconds_of(
        work.flops, p.seats[s].flops[static_cast<std::size_t>(berth::rate_class_of(p.atoms[i].compute))]);
    const double m = berth::seconds_of(work.touched, p.seats[s].bandwidth);
    (c > m ? compute : memory) += std::max(c, m);
    launches += p.seats[s].overhead;
  }
  if (launches > compute && launches > memory) return "launches";
  return compute > memory ? "compute" : "memory bandwidth";
}

std::string time_shares(const berth::plan& p, const pricing& w) {
  std::string out;
  for (const auto ph : berth::all_phases) {
    const double pass = ph == phase::prefill ? p.times.prefill : p.times.decode;
    if (!(pass < forever) || !(pass > 0)) continue;
    out += fmt::format("  {:<7} {:>8}:", ph == phase::prefill ? "prompt" : "token", shown_time(pass));
    double computing = 0;
    for (berth::seat_index s = 0; s < w.view().seats.size(); ++s) {
      const double busy = w.busy(s, ph);
      if (!(busy > 0)) continue;
      computing += busy;
      out += fmt::format(" {} {:.0f} % ({}),", w.view().seats[s].id.view(), 100 * busy / pass, limiting(w, s, ph));
    }
    const double rest = pass - computing;
    if (rest > pass * 0.005)
      out += fmt::format(" {} {:.0f} %", p.streams() ? "waiting for copies and messages" : "messages between devices",
                         100 * rest / pass);
    if (out.back() == ',') out.pop_back();
    out += "\n";
  }
  return out;
}

/// Which devices are full: nothing more of the model would fit there.
std::string memory_lines(const berth::plan& p) {
  std::string out;
  for (const auto& u : p.uses) {
    berth::bytes next = 0;  // the smallest part that lies elsewhere and could be here
    for (std::size_t i = 0; i < p.atoms.size(); ++i)
      if (p.placements[i].home != u.device && p.loads[i] > 0 && (next == 0 || p.loads[i] < next)) next = p.loads[i];
    const auto& d = p.devices[u.device];
    if (d.kind == berth::device_kind::disk || u.used() == 0) continue;
    const auto free = berth::format_size(u.free());
    if (next > 0 && u.free() < next)
      out += fmt::format("  {} is full: {} left, less than any part that lies elsewhere\n", d.id.view(), free);
    else
      out += fmt::format("  {} has {} left\n", d.id.view(), free);
  }
  for (const auto& u : p.uses)
    if (u.used() == 0 && p.devices[u.device].executes())
      out += fmt::format("  {} is not used: {}\n", p.devices[u.device].id.view(),
                         p.devices[u.device].kind == berth::device_kind::cpu
                             ? "nothing has to leave the GPUs"
                             : "handing over to it would cost more than it saves");
  return out;
}

std::string change(const berth::plan& from, const berth::plan& to) {
  const double was = from.times.value, is = to.times.value;
  if (!(was > 0) || !(is < forever)) return "no plan";
  const double percent = 100 * (is - was) / was;
  if (percent > -0.05 && percent < 0.05) return "no change";
  return fmt::format("{:+.1f} % ({})", percent, shown_time(is));
}

/// The best of the other strategies whose plan is another one.
std::string next_best(const session& s, const berth::plan& p) {
  std::optional<berth::plan> best;
  for (const std::string_view word : {"auto", "balanced", "sequential", "balanced_low_0"}) {
    if (word == p.strategy.view()) continue;
    strategy_choice c;
    c.name = word;
    auto other = s.plan(c, s.asked());
    if (!other || other->placements == p.placements || !(other->times.value < forever)) continue;
    if (!best || other->times.value < best->times.value) best = std::move(*other);
  }
  if (!best) return "  next best: no other strategy finds a different plan\n";
  return fmt::format("  next best: {}, {}\n", best->strategy.view(), change(p, *best));
}

std::string one_more_gib(const session& s, const strategy_choice& choice, const berth::plan& p) {
  std::string out;
  for (const auto& u : p.uses) {
    const auto& d = p.devices[u.device];
    if (!d.executes()) continue;
    auto larger = s.asked();
    larger.topology.devices[u.device].memory += berth::GiB;
    larger.topology.devices[u.device].free += berth::GiB;
    for (auto& b : larger.max_memory)
      if (b.id == d.id) b.amount += berth::GiB;
    const auto other = s.plan(choice, larger);
    out += fmt::format("{}{}: {}", out.empty() ? "  one more GiB on " : ", ", d.id.view(),
                       other ? change(p, *other) : "no plan");
  }
  return out.empty() ? out : out + "\n";
}

/// A copy of GPU `like` with its links; the two are connected as other pairs of that model are, else as the GPU is to
/// the host.
berth::device_id add_gpu(berth::topology& t, berth::device_index like) {
  std::uint32_t number = 0;
  const auto taken = [&](std::uint32_t n) {
    return std::any_of(t.devices.begin(), t.devices.end(),
                       [&](const auto& d) { return d.id == berth::device_id(static_cast<int>(n)); });
  };
  while (taken(number)) ++number;
  auto d = t.devices[like];
  d.id = berth::device_id(static_cast<int>(number));
  const auto old_routes = t.routes;
  const auto hops_of = [&](const berth::route& r) {
    return std::vector<berth::segment_index>(t.hops.begin() + r.hops_begin,
                                             t.hops.begin() + r.hops_begin + r.hop_count);
  };
  const auto added = t.add(d);
  const berth::route* pair = nullptr;
  const berth::route* host = nullptr;
  for (const auto& r : old_routes) {
    const bool out = r.from == like, in = r.to == like;
    if (!out && !in) continue;
    const auto other = out ? r.to : r.from;
    if (t.devices[other].model == d.model && out) pair = &r;
    if (t.devices[other].kind == berth::device_kind::cpu && out) host = &r;
    auto copy = r;
    (out ? copy.from : copy.to) = added;
    t.connect(copy, hops_of(r));
  }
  if (const auto* between = pair != nullptr ? pair : host) {
    for (const auto& [from, to] : {std::pair(like, added), std::pair(added, like)}) {
      auto r = *between;
      r.from = from;
      r.to = to;
      t.connect(r, hops_of(*between));
    }
  }
  t.sort_routes();
  return d.id;
}

std::string one_more_gpu(const session& s, const strategy_choice& choice, const berth::plan& p) {
  for (const auto& u : p.uses) {
    const auto& d = p.devices[u.device];
    if (d.kind != berth::device_kind::gpu) continue;
    auto larger = s.asked();
    const auto id = add_gpu(larger.topology, u.device);
    if (!larger.max_memory.empty()) larger.max_memory.push_back({id, u.budget});
    const auto other = s.plan(choice, larger);
    return fmt::format("  one more GPU like {}: {}\n", d.id.view(), other ? change(p, *other) : "no plan");
  }
  return {};
}

}  // namespace

std::string explain(const session& s, const strategy_choice& choice, const berth::plan& p) {
  std::string out = "\nwhy:\n";
  if (!p.priced) return out + memory_lines(p);
  const pricing w(p);
  out += time_shares(p, w) + memory_lines(p) + next_best(s, p);
  if (p.workload.objective == berth::objective::memory) return out;
  out += one_more_gib(s, choice, p) + one_more_gpu(s, choice, p);
  const auto& c = p.certificate;
  if (c.present() && c.gap() > 1e-9)
    out += fmt::format("  no placement can be better than {} (bound: {})\n", shown_time(c.bound), c.bound_name.view());
  if (c.interval_value > 0 && c.interval_value < forever && p.times.value < c.interval_value * (1 - 1e-9))
    out += fmt::format("  the best placement of consecutive resident parts takes {}\n", shown_time(c.interval_value));
  return out;
}

}  // namespace tool
