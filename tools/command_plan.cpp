// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

module berth.tool;

import berth;
import berth.formats;

namespace tool {
namespace {

/// The answer "no" for programs: what JSON readers find instead of a plan.
std::string no_plan(const berth::error& e) {
  const berth::json::value document =
      berth::json::object{{"format", "berth.plan/1"},
                          {"objective_value", nullptr},
                          {"assignment", nullptr},
                          {"error", berth::json::object{{"code", berth::name_of(e.code)},
                                                        {"subject", e.subject.view()},
                                                        {"detail", e.detail.view()},
                                                        {"needed", e.needed},
                                                        {"available", e.available}}}};
  return berth::json::write(document, 2) + "\n";
}

std::string as_text(const plan_arguments& a, const session& s, const strategy_choice& choice, const berth::plan& p) {
  if (a.format == "json") return berth::json::write(berth::write_plan(p), 2) + "\n";
  if (a.format == "device-map") {
    for (const auto& w : p.warnings) warn(w.view());
    return berth::json::write(berth::write_device_map(berth::collapse(berth::device_map_of(p))), 2) + "\n";
  }
  auto notes = s.notes();
  notes.push_back(fmt::format("names are those of the {}", p.naming.view()));
  if (!s.quantize_if_better() && berth::precision_from(p.precision.view()).value_or(berth::precision{}).int8)
    notes.emplace_back(berth::int8_bound_statement);
  auto text = plan_table(p, s.dtype_words(), notes);
  if (a.explain) text += explain(s, choice, p);
  return text;
}

}  // namespace

int run_plan(const plan_arguments& a) {
  if (const auto code = run_dag_plan(a)) return *code;
  if (!a.compat.empty()) {
    auto model = load(a.model);
    return model ? run_peer_plan(a, *model) : report(model.error());
  }
  if (a.fallback_allocation) {
    complain("--fallback-allocation",
             "is for --compat accelerate; berth's own strategies always look for a part that fits");
    return exit_usage;
  }
  if (a.explain && a.format != "table") {
    complain("--explain", "belongs to the table; leave --format out");
    return exit_usage;
  }
  auto s = session::open(a);
  if (!s) return report(s.error());
  auto choice = s->choice(a.strategy);
  if (!choice) return report(choice.error());
  auto p = s->plan(*choice, s->asked());
  if (!p) {
    // A file keeps what it holds: there is no plan to replace it.
    const bool to_standard_output = a.output.empty() || a.output == "-";
    const auto why = with_alternatives(*s, *choice, p.error());
    if (a.format == "json" && to_standard_output && why.code == berth::errc::does_not_fit)
      write_output("-", no_plan(why));
    return report(why);
  }
  if (a.offload_buffers)
    p->warnings.push_back("--offload-buffers: berth's own strategies always keep buffers with their module");
  return write_output(a.output, as_text(a, *s, *choice, *p)) ? exit_done : exit_usage;
}

}  // namespace tool
