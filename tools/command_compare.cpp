// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.tool;

import berth;
import berth.formats;

namespace tool {
namespace {

/// One strategy's answer: a plan, or why there is none.
struct row {
  std::string name;
  std::optional<berth::plan> plan;
  std::string why;
};

row try_choice(const session& s, std::string name, const strategy_choice& choice) {
  row r;
  r.name = std::move(name);
  auto p = s.plan(choice, s.asked());
  if (p)
    r.plan = *std::move(p);
  else
    r.why = fmt::format("{}: {}", p.error().subject.view(), p.error().detail.view());
  return r;
}

std::vector<row> all_rows(const session& s) {
  std::vector<row> rows;
  for (const std::string_view word :
       {"auto", "balanced", "balanced_low_0", "balanced_in_order", "sequential", "current", "cpu"}) {
    strategy_choice c;
    c.name = word;
    rows.push_back(try_choice(s, std::string(word), c));
  }
  strategy_choice interval;
  interval.interval_only = true;
  rows.insert(rows.begin() + 1, try_choice(s, "interval", interval));
  if (s.is_chain()) return rows;
  for (const std::string_view peer : {"accelerate", "transformers"}) {
    const auto map = peer_map(s.asked_as(), s.model(), peer);
    row r;
    r.name = fmt::format("{} auto", peer);
    if (map) {
      strategy_choice c;
      c.name = "manual";
      c.fixed = *map;
      r = try_choice(s, r.name, c);
    } else {
      r.why = map.error().detail.view();
    }
    rows.push_back(std::move(r));
  }
  return rows;
}

const berth::plan* best_of(const std::vector<row>& rows) {
  const berth::plan* best = nullptr;
  for (const auto& r : rows)
    if (r.plan && r.plan->priced && (best == nullptr || r.plan->times.value < best->times.value)) best = &*r.plan;
  return best;
}

std::string as_table(const session& s, const std::vector<row>& rows) {
  const auto* best = best_of(rows);
  std::string out;
  const auto& w = s.asked().workload;
  const auto* any = best;
  for (const auto& r : rows)
    if (any == nullptr && r.plan) any = &*r.plan;
  if (any == nullptr) {
    out = "no strategy finds a plan\n";
    for (const auto& r : rows) out += fmt::format("  {:<18} {}\n", r.name, r.why);
    return out;
  }
  out += fmt::format("{} on {}\n", model_words(*any), any->topology_name.view());
  if (s.is_chain())
    out += fmt::format("workload of the instance, {} generated tokens\n\n", w.generate);
  else
    out += fmt::format("context {}, batch {}, prompt {}, generate {}{}\n\n", w.context, w.batch, w.prompt, w.generate,
                       s.dtype_words().empty() ? "" : "; " + s.dtype_words());
  out += fmt::format("  {:<18}", "strategy");
  for (const auto& u : any->uses) out += fmt::format(" {:>10}", any->devices[u.device].id.view());
  out += fmt::format(" {:>10} {:>10} {:>9} {:>10} {:>8}\n", "1st token", "per token", "tokens/s", "total", "vs best");
  for (const auto& r : rows) {
    out += fmt::format("  {:<18}", r.name);
    if (!r.plan) {
      out += fmt::format(" - {}\n", r.why.size() > 96 ? r.why.substr(0, 93) + "..." : r.why);
      continue;
    }
    const auto& p = *r.plan;
    for (const auto& u : any->uses) {
      const auto* use = p.use_of(any->devices[u.device].id);
      out += fmt::format(" {:>10}", use == nullptr || use->used() == 0 ? "-" : berth::format_size(use->used()));
    }
    if (!p.priced) {
      out += "  times not known\n";
      continue;
    }
    const bool pipelined = w.objective == berth::objective::throughput;
    const double token = pipelined ? p.times.period : p.times.decode;
    const double batch = static_cast<double>(std::max<std::uint64_t>(w.batch, 1));
    out += fmt::format(" {:>10} {:>10} {:>9} {:>10}", shown_time(p.times.prefill), shown_time(token),
                       shown_rate(batch / token), shown_time(p.times.value));
    if (best != nullptr) out += fmt::format(" {:>7.2f}x", p.times.value / best->times.value);
    out += "\n";
  }
  if (best != nullptr && best->certificate.present())
    out +=
        best->certificate.gap() <= 1e-9
            ? fmt::format("\n  the best is optimal among {} ({})\n", class_words(best->certificate.of),
                          best->certificate.bound_name.view())
            : fmt::format("\n  no placement can take less than {} (bound: {}): the best is at most {:.2g} % above it\n",
                          shown_time(best->certificate.bound), best->certificate.bound_name.view(),
                          100 * best->certificate.gap());
  for (const auto& n : s.notes()) out += fmt::format("  note: {}\n", n);
  return out;
}

std::string as_json(const std::vector<row>& rows) {
  berth::json::array list;
  for (const auto& r : rows) {
    if (r.plan)
      list.push_back(berth::json::object{{"strategy", r.name}, {"plan", berth::write_plan(*r.plan)}});
    else
      list.push_back(berth::json::object{{"strategy", r.name}, {"plan", nullptr}, {"why", r.why}});
  }
  return berth::json::write(berth::json::object{{"format", "berth.comparison/1"}, {"strategies", std::move(list)}}, 2) +
         "\n";
}

}  // namespace

int run_compare(const compare_arguments& a) {
  auto s = session::open(a);
  if (!s) return report(s.error());
  const auto rows = all_rows(*s);
  if (!write_output(a.output, a.format == "json" ? as_json(rows) : as_table(*s, rows))) return exit_usage;
  return std::any_of(rows.begin(), rows.end(), [](const row& r) { return r.plan.has_value(); }) ? exit_done : exit_no;
}

}  // namespace tool
