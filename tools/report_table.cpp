// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>

module berth.tool;

import berth;

namespace tool {
namespace {

using berth::format_size;

std::string beside(bool priced, double predicted, double simulated) {
  if (!priced || !(predicted < berth::forever)) return {};
  if (!(predicted > 0)) return fmt::format("  (predicted {})", shown_time(predicted));
  auto off = 100 * (simulated / predicted - 1);
  if (std::abs(off) < 0.005) off = 0;
  return fmt::format("  (predicted {}, {:+.2f} %)", shown_time(predicted), off);
}

std::string times_lines(const berth::plan& p, const berth::report& r) {
  const auto seconds = [](berth::picoseconds t) { return berth::seconds_from(t); };
  auto out = fmt::format("  {:<22} {:>10}\n", "load", shown_time(seconds(r.load_time)));
  out += fmt::format("  {:<22} {:>10}{}\n", "time to first token", shown_time(seconds(r.first_token)),
                     beside(r.priced, r.predicted.prefill, seconds(r.first_token)));
  if (r.rounds == 0) return out;
  out += fmt::format("  {:<22} {:>10}{}\n", r.pipelined ? "per token, pipelined" : "per token", shown_time(r.period()),
                     beside(r.priced, r.predicted_period(), r.period()));
  if (!r.periodic)
    out += fmt::format("  {:<22} {:>10}  (the rounds have no exact period: the mean of the last {})\n", "", "",
                       r.steady_rounds);
  out += fmt::format("  {:<22} {:>10}\n", "first decode round", shown_time(seconds(r.first_round)));
  out += fmt::format("  {:<22} {:>10}\n", "tokens/s", shown_rate(r.tokens_per_second));
  out += fmt::format("  {:<22} {:>10}  per round\n", "waiting for copies", shown_time(seconds(r.exposed_copy)));
  const auto what = fmt::format("prompt + {} tokens", p.workload.generate);
  return out + fmt::format("  {:<22} {:>10}{}\n", what, shown_time(seconds(r.total)),
                           r.extrapolated ? fmt::format("  ({} rounds run, the rest extrapolated)", r.rounds) : "");
}

std::string device_lines(const berth::plan& p, const berth::report& r) {
  constexpr std::size_t width = 20;
  auto out = fmt::format("\n  {:<8} {:>9} {:>9} {:>10} {:>10} {:>10}  {:<{}}\n", "device", "compute", "copies in",
                         "copies out", "peak", "budget", "memory", width + 2);
  for (const auto& d : r.devices)
    out += fmt::format("  {:<8} {:>9} {:>9} {:>10} {:>10} {:>10}  [{}]\n", p.devices[d.device].id.view(),
                       shown_percent(d.compute.decode), shown_percent(d.copy_in.decode),
                       shown_percent(d.copy_out.decode), format_size(d.peak), format_size(d.budget),
                       bar({{d.peak, '#'}}, std::max(d.budget, d.peak), width));
  return out;
}

std::string segment_lines(const berth::plan& p, const berth::report& r) {
  std::size_t width = 8;
  for (const auto& s : r.segments)
    if (s.total > 0) width = std::max(width, p.segments[s.segment].name.size());
  auto out = fmt::format("\n  {:<{}} {:>12} {:>12} {:>12} {:>8}\n", "segment", width, "capacity", "per round",
                         "whole run", "use");
  for (const auto& s : r.segments)
    if (s.total > 0)
      out += fmt::format("  {:<{}} {:>12} {:>12} {:>12} {:>8}\n", p.segments[s.segment].name.view(), width,
                         format_size(static_cast<berth::bytes>(p.segments[s.segment].capacity)) + "/s",
                         format_size(s.per_round), format_size(s.total), shown_percent(s.use));
  return out;
}

}  // namespace

std::string report_table(const berth::plan& p, const berth::report& r) {
  auto out = fmt::format("{}: strategy {} on {}, batch {}\n", model_words(p), p.strategy.view(), p.topology_name.view(),
                         p.workload.batch);
  if (r.steady_rounds > 0)
    out +=
        fmt::format("limited by {} ({} of the time)\n", r.bottleneck.words.view(), shown_percent(r.bottleneck.share));
  out += "\n" + times_lines(p, r) + device_lines(p, r) + segment_lines(p, r);
  if (r.faults > 0 || r.lost > 0 || !p.warnings.empty()) out += "\n";
  if (r.faults > 0) out += fmt::format("  faults: {}\n", r.faults);
  if (r.lost > 0) out += fmt::format("  warning: the trace had no room for {} activities\n", r.lost);
  for (const auto& w : p.warnings) out += fmt::format("  warning: {}\n", w.view());
  return out;
}

}  // namespace tool
