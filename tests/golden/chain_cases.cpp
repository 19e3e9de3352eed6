// SPDX-License-Identifier: Apache-2.0
// Golden kinds "berth.chain/1", "baselines" and "berth.balance/1": optima of chain instances, rules of other tools and
// exact balance.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <limits>
#include <memory_resource>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kinds.hpp"
#include "report.hpp"

import berth.formats;
import berth.plan;

namespace golden {
namespace {

constexpr std::string_view kind = "berth.chain/1";
constexpr double tolerance = 1e-9;

bool close(double a, double b) { return a == b || std::abs(a - b) <= tolerance * std::max(std::abs(a), std::abs(b)); }

std::string shown(std::optional<double> v) {
  if (!v) return "no plan";
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", *v);
  return text;
}

/// null: no plan.
std::optional<double> value_of(const json::value* object, std::string_view key) {
  const auto* v = object == nullptr ? nullptr : object->find(key);
  return v == nullptr ? std::nullopt : v->to_double();
}

berth::place_options options_for(const berth::chain_instance& c, berth::objective o) {
  berth::place_options options;
  options.workload = c.workload;
  options.workload.objective = o;
  options.use_disk = true;
  options.staging_slots = 0;
  return options;
}

/// The assignment in the words of the data: [["0",0,3],...].
std::string assignment_of(const berth::plan& p) {
  json::array out;
  for (std::size_t i = 0; i < p.placements.size();) {
    std::size_t end = i;
    while (end < p.placements.size() && p.placements[end] == p.placements[i]) ++end;
    out.push_back(
        json::array{p.devices[p.placements[i].execution].id.view(), std::uint64_t{i}, std::uint64_t{end - 1}});
    i = end;
  }
  return json::write(out);
}

class chain_case {
 public:
  chain_case(const std::string& name, const berth::chain_instance& c, const json::value& expect, gaps& spread,
             report& out)
      : name_(name), c_(c), expect_(expect), spread_(spread), out_(out) {}

  void run() {
    for (const auto o : {berth::objective::latency, berth::objective::throughput})
      if (!interval(o) || !any(o)) return;
    out_.passed(kind);
  }

 private:
  static std::string_view word(berth::objective o) { return o == berth::objective::latency ? "latency" : "throughput"; }
  bool wrong(berth::objective o, std::string_view what, const std::string& expected, const std::string& got) {
    out_.failed(kind, name_, std::string(word(o)) + " " + std::string(what), expected, got);
    return false;
  }

  /// The optimum over intervals, and the assignment where it is unique enough to compare.
  bool interval(berth::objective o) {
    const auto* expected = expect_.find(word(o));
    const auto value = value_of(expected, "value");
    auto options = options_for(c_, o);
    const auto p = berth::Place<berth::Intervals>(c_.model, c_.topology, options);
    const auto got = p ? std::optional(p->times.value) : std::nullopt;
    if (value.has_value() != got.has_value() || (value && !close(*value, *got)))
      return wrong(o, "value", shown(value), p ? shown(got) : std::string(p.error().detail.view()));
    if (!p) return true;
    if (const auto* fewest = expected->find("fewest_devices"); fewest != nullptr && fewest->to_uint64()) {
      std::vector<berth::device_index> used;
      for (const auto& at : p->placements) used.push_back(at.execution);
      std::sort(used.begin(), used.end());
      const auto count = static_cast<std::uint64_t>(std::unique(used.begin(), used.end()) - used.begin());
      if (count != *fewest->to_uint64())
        return wrong(o, "fewest_devices", std::to_string(*fewest->to_uint64()), std::to_string(count));
    }
    const auto* runner_up = expected->find("runner_up");
    if (runner_up == nullptr) return true;  // not tie-broken
    const auto next = runner_up->to_double();
    if (next && *next <= *value * (1 + tolerance)) return true;
    const auto* assignment = expected->find("assignment");
    if (assignment != nullptr && assignment_of(*p) != json::write(*assignment))
      return wrong(o, "assignment", json::write(*assignment), assignment_of(*p));
    return true;
  }

  /// Auto: never above the interval optimum, its bound never above what any placement reaches.
  bool any(berth::objective o) {
    const auto interval = value_of(expect_.find(word(o)), "value");
    const auto* all = expect_.find("any_placement");
    const auto best = all == nullptr ? std::nullopt : value_of(all->find(word(o)), "value");
    const auto p = berth::Place<berth::Auto>(c_.model, c_.topology, options_for(c_, o));
    if (!p) {
      if (interval || best)
        return wrong(o, "auto", shown(best ? best : interval), std::string(p.error().detail.view()));
      return true;
    }
    if (interval && p->times.value > *interval * (1 + tolerance))
      return wrong(o, "auto, at most the interval optimum", shown(interval), shown(p->times.value));
    if (best && p->times.value < *best * (1 - tolerance))
      return wrong(o, "auto, at least any placement", shown(best), shown(p->times.value));
    const auto reachable = best ? *best : interval ? std::min(*interval, p->times.value) : p->times.value;
    if (p->certificate.bound > reachable * (1 + tolerance))
      return wrong(o, "bound, at most what is reached", shown(reachable), shown(p->certificate.bound));
    spread_.add(best ? "to the true optimum of any placement" : "certified", word(o),
                best ? (p->times.value - *best) / std::max(*best, 1e-300) : p->certificate.gap());
    if (best) spread_.add("certified where the optimum is known", word(o), p->certificate.gap());
    return true;
  }

  std::string name_;
  const berth::chain_instance& c_;
  const json::value& expect_;
  gaps& spread_;
  report& out_;
};

}  // namespace

void gaps::add(std::string_view what, std::string_view objective, double gap) {
  values_[std::string(what) + ", " + std::string(objective)].push_back(gap);
}
void gaps::print() {
  for (auto& [what, list] : values_) {
    std::sort(list.begin(), list.end());
    const auto at = [&](double q) {
      return 100 * list[static_cast<std::size_t>(q * static_cast<double>(list.size() - 1))];
    };
    std::printf("gap of auto %s: %zu plans, median %.3g %%, 95 of 100 within %.3g %%, worst %.3g %%\n", what.c_str(),
                list.size(), at(0.5), at(0.95), at(1));
  }
}

void run_chain_case(const std::string& name, const json::value& line, gaps& spread, report& out) {
  if (!out.wants(kind, name)) return;
  const auto c = berth::read_chain(*line.find("instance"), name);
  if (!c) return out.failed(kind, name, "instance", "readable", std::string(c.error().detail.view()));
  const auto* expect = line.find("expect");
  if (expect == nullptr) return out.failed(kind, name, "expect", "present", "missing");
  chain_case(name, *c, *expect, spread, out).run();
}

void run_baseline_case(const std::string& name, const json::value& line, const json::value& instance, report& out) {
  constexpr std::string_view own = "baselines";
  if (!out.wants(own, name)) return;
  const auto c = berth::read_chain(instance, name);
  if (!c) return out.failed(own, name, "instance", "readable", std::string(c.error().detail.view()));
  const auto* rules = line.find("baselines");
  for (const auto rule : berth::all_baselines) {
    const auto* expected = rules->find(berth::name_of(rule));
    if (expected == nullptr) return out.failed(own, name, berth::name_of(rule), "a rule", "missing");
    for (const auto o : {berth::objective::latency, berth::objective::throughput}) {
      const auto word = o == berth::objective::latency ? "latency" : "throughput";
      const auto value = value_of(expected, word);
      const auto options = options_for(*c, o);
      const auto owned =
          berth::planning_problem::make(c->model, c->topology, options, std::pmr::get_default_resource());
      if (!owned) return out.failed(own, name, "problem", "made", std::string(owned.error().detail.view()));
      const auto problem = owned->view();
      std::vector<berth::placement> placed(problem.loads.size());
      std::vector<std::uint64_t> scratch(berth::interval_loads::cells(problem));
      std::optional<double> got;
      if (berth::apply_baseline(rule, problem, placed, scratch)) {
        const double v = berth::price(problem, placed).value;
        if (v < berth::forever) got = v;
      }
      if (value.has_value() != got.has_value() || (value && !close(*value, *got)))
        return out.failed(own, name, std::string(berth::name_of(rule)) + " " + word, shown(value), shown(got));
      const auto p = berth::Place<berth::Auto>(c->model, c->topology, options);
      if (value && (!p || p->times.value > *value * (1 + tolerance)))
        return out.failed(own, name, std::string("auto against ") + std::string(berth::name_of(rule)), shown(value),
                          p ? shown(p->times.value) : "no plan");
    }
  }
  out.passed(own);
}

namespace {

/// Balance as `Balanced` computes it, without a topology: loads and budgets alone.
struct balance_case {
  std::vector<berth::bytes> loads;
  std::vector<berth::seat> seats;
  bool given_order = false;
};

std::optional<balance_case> read_balance(const json::value& instance) {
  balance_case c;
  const auto* atoms = instance.find("atoms");
  if (atoms == nullptr || atoms->if_array() == nullptr) return std::nullopt;
  for (const auto& a : *atoms->if_array()) {
    if (!a.to_uint64()) return std::nullopt;
    c.loads.push_back(*a.to_uint64());
  }
  const auto* budgets = instance.find("budgets");
  const auto* devices = instance.find("devices");
  const berth::bytes total = std::accumulate(c.loads.begin(), c.loads.end(), berth::bytes{0});
  std::vector<berth::bytes> limits;
  if (budgets != nullptr && budgets->if_array() != nullptr)
    for (const auto& b : *budgets->if_array()) limits.push_back(b.to_uint64().value_or(0));
  else if (devices != nullptr && devices->to_uint64())
    limits.assign(*devices->to_uint64(), total);
  else
    return std::nullopt;
  for (std::size_t d = 0; d < limits.size(); ++d)
    c.seats.push_back({static_cast<berth::device_index>(d), berth::device_id(static_cast<int>(d)),
                       berth::device_kind::gpu, berth::accelerator_api::cuda, limits[d]});
  const auto* order = instance.find("order");
  c.given_order = order != nullptr && order->if_string() != nullptr && *order->if_string() == "given";
  return c;
}

std::vector<berth::balancer::part> balance(const balance_case& c, berth::load_ratio& best) {
  berth::problem_view p;
  p.loads = c.loads;
  p.seats = c.seats;
  std::vector<berth::balancer::part> parts(c.seats.size());
  if (c.given_order) {
    std::vector<std::uint64_t> scratch(berth::ordered_balancer::cells(p, c.seats.size()));
    berth::ordered_balancer b(p, c.seats, scratch);
    bool found = false;
    best = b.best_ratio(false, found);
    parts.resize(b.choose(best, parts));
    return parts;
  }
  std::vector<std::uint64_t> scratch(berth::balancer::cells(p, c.seats));
  berth::balancer b(p, c.seats, berth::none, scratch);
  best = b.best_ratio(false);
  parts.resize(b.choose(best, parts));
  return parts;
}

}  // namespace

void run_balance_case(const std::string& name, const json::value& line, report& out) {
  constexpr std::string_view own = "berth.balance/1";
  if (!out.wants(own, name)) return;
  const auto c = read_balance(*line.find("instance"));
  const auto* expect = line.find("expect");
  if (!c || expect == nullptr) return out.failed(own, name, "case", "atoms, devices or budgets", "another shape");
  berth::load_ratio best;
  const auto parts = balance(*c, best);
  json::array cuts, devices;
  for (const auto& part : parts) {
    cuts.push_back(std::uint64_t{part.end} - 1);
    devices.push_back(std::uint64_t{part.seat});
  }
  std::string expected, got;
  if (const auto* bytes = expect->find("min_max_bytes")) {
    berth::bytes most = 0;
    for (const auto& part : parts) {
      berth::bytes sum = 0;
      for (auto i = part.begin; i < part.end; ++i) sum += c->loads[i];
      most = std::max(most, sum);
    }
    expected = json::write(*bytes);
    got = std::to_string(most);
  } else if (const auto* ratio = expect->find("min_max_ratio"); ratio != nullptr && ratio->if_string() != nullptr) {
    const auto divisor = std::gcd(best.load, best.limit);
    expected = *ratio->if_string();
    got = std::to_string(best.load / divisor) + "/" + std::to_string(best.limit / divisor);
  }
  if (expected != got) return out.failed(own, name, "minimum", expected, got);
  if (const auto* e = expect->find("cuts"); e != nullptr && json::write(*e) != json::write(cuts))
    return out.failed(own, name, "cuts", json::write(*e), json::write(cuts));
  if (const auto* e = expect->find("devices"); e != nullptr && json::write(*e) != json::write(devices))
    return out.failed(own, name, "devices", json::write(*e), json::write(devices));
  out.passed(own);
}

}  // namespace golden
