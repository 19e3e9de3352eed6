// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

module berth.tool;

import berth;
import berth.formats;

namespace tool {
namespace {

using berth::json::array;
using berth::json::object;
using berth::json::value;

value time_value(bool known, double seconds) {
  return known && seconds < berth::forever ? value(seconds) : value(nullptr);
}

value use_value(const berth::engine_use& u) { return object{{"decode", u.decode}, {"overall", u.overall}}; }

value times_value(const berth::report& r) {
  return object{{"load_ps", r.load_time},
                {"first_token_ps", r.first_token},
                {"first_round_ps", r.first_round},
                {"cycle_ps", r.cycle_time},
                {"cycle_rounds", std::uint64_t{r.cycle_rounds}},
                {"periodic", r.periodic},
                {"rounds", std::uint64_t{r.rounds}},
                {"steady_rounds", std::uint64_t{r.steady_rounds}},
                {"total_ps", r.total},
                {"extrapolated", r.extrapolated},
                {"exposed_copy_ps", r.exposed_copy}};
}

value bottleneck_value(const berth::plan& p, const berth::bottleneck& b) {
  object out{{"kind", berth::name_of(b.kind)}, {"words", b.words.view()}, {"share", b.share}};
  if (b.device != berth::no_index) out.push_back({"device", p.devices[b.device].id.view()});
  if (b.segment != berth::no_index) out.push_back({"segment", p.segments[b.segment].name.view()});
  return out;
}

}  // namespace

value report_json(const berth::plan& p, const berth::report& r) {
  array devices, segments;
  for (const auto& d : r.devices)
    devices.push_back(object{{"id", p.devices[d.device].id.view()},
                             {"compute", use_value(d.compute)},
                             {"copy_in", use_value(d.copy_in)},
                             {"copy_out", use_value(d.copy_out)},
                             {"peak", d.peak},
                             {"planned", d.planned},
                             {"budget", d.budget},
                             {"state", d.state}});
  for (const auto& s : r.segments)
    segments.push_back(object{
        {"name", p.segments[s.segment].name.view()}, {"total", s.total}, {"per_round", s.per_round}, {"use", s.use}});
  return object{{"format", "berth.report/1"},
                {"model", p.model_id.view()},
                {"strategy", p.strategy.view()},
                {"machine", p.topology_name.view()},
                {"pipelined", r.pipelined},
                {"times", times_value(r)},
                {"period", r.period()},
                {"tokens_per_second", r.tokens_per_second},
                {"predicted", object{{"prefill", time_value(r.priced, r.predicted.prefill)},
                                     {"period", time_value(r.priced, r.predicted_period())}}},
                {"bottleneck", bottleneck_value(p, r.bottleneck)},
                {"computing", r.computing},
                {"messages", r.messages},
                {"devices", std::move(devices)},
                {"segments", std::move(segments)},
                {"faults", std::uint64_t{r.faults}},
                {"lost", std::uint64_t{r.lost}}};
}

}  // namespace tool
