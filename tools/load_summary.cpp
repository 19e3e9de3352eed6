// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

module berth.tool;

import berth;
import berth.formats;
import berth.runtime;
import :load_summary;
import :real_run;
import :stand_in;

namespace tool {
namespace {

using berth::format_size;
using berth::json::array;
using berth::json::object;
using berth::json::value;

constexpr std::string_view rehearsal_note =
    "rehearsed: every device is memory of this computer, so times are this computer's, not the plan's devices'";
constexpr std::string_view stand_in_note =
    "rounds run stand-in work, which reads all weights of every atom and writes its activation on one thread per "
    "stream";

std::string line(std::string_view what, std::string_view measured, std::string_view predicted) {
  if (predicted.empty()) return fmt::format("  {:<22} {:>12}\n", what, measured);
  return fmt::format("  {:<22} {:>12} {:>12}\n", what, measured, predicted);
}
std::string rate_of(berth::bytes n, double seconds) {
  return seconds > 0 ? format_size(static_cast<berth::bytes>(static_cast<double>(n) / seconds)) + "/s" : "-";
}

std::string time_lines(const load_summary& s) {
  const auto& r = s.run;
  const auto& ahead = s.predicted;
  const auto shown = [&](berth::picoseconds t) { return ahead.known ? shown_time(berth::seconds_from(t)) : "-"; };
  auto out = fmt::format("\n  {:<22} {:>12} {:>12}\n", "", "measured", "predicted");
  out += line("load", shown_time(r.load.seconds), shown(ahead.report.load_time));
  out += line("  rate", rate_of(r.load.stored, r.load.seconds),
              ahead.known ? rate_of(r.load.stored, berth::seconds_from(ahead.report.load_time)) : "-");
  out += line("  set-up", shown_time(r.load.preparing), "");
  out += line("  readers at work", shown_time(r.load.reading), "");
  out += line("  waiting", shown_time(r.load.waiting), "");
  if (r.load.writing > 0) out += line("  offload folder", shown_time(r.load.writing), "");
  if (r.load.verified > 0) out += line("verify", shown_time(r.load.verifying), "");
  if (s.setting.rounds == 0) return out;
  out += line("time to first token", shown_time(berth::seconds_from(r.report.first_token)),
              shown(ahead.report.first_token));
  out += line("per round", shown_time(r.report.period()), ahead.known ? shown_time(ahead.report.period()) : "-");
  return out;
}

std::string device_lines(const load_summary& s) {
  auto out = fmt::format("\n  {:<8} {:>11} {:>11} {:>11} {:>11} {:>11} {:>11}\n", "device", "read", "planned", "taken",
                         "peak", "pinned", "staging");
  for (const auto& d : s.run.load.devices) {
    const auto* use = s.plan.use_of(s.plan.devices[d.device].id);
    out += fmt::format("  {:<8} {:>11} {:>11} {:>11} {:>11} {:>11} {:>11}\n", s.plan.devices[d.device].id.view(),
                       format_size(d.stored), format_size(use == nullptr ? 0 : use->used()), format_size(d.taken),
                       format_size(s.run.peaks[d.device]), format_size(d.pinned), format_size(d.staging));
  }
  return out + fmt::format("  {:<22} {:>12} {:>12}\n", "process, peak", format_size(s.run.load.peak_resident),
                           format_size(s.expected_resident()));
}

std::string stream_name(const berth::plan& p, const berth::program_stream& s) {
  auto out = fmt::format("{} of {}", berth::name_of(s.role), p.devices[s.device].id.view());
  if (s.peer != berth::no_index) out += fmt::format(" to {}", p.devices[s.peer].id.view());
  return out;
}

std::string stream_lines(const load_summary& s) {
  auto out = fmt::format("\n  {:<22} {:>12} {:>12}\n", "stream, time at work", "measured", "predicted");
  const auto& streams = s.programs.load.frame.streams;
  for (std::size_t i = 0; i < streams.size(); ++i)
    out += line(stream_name(s.plan, streams[i]), shown_time(s.run.busy[i]),
                s.predicted.known ? shown_time(s.predicted.busy[i]) : "-");
  return out;
}

std::string words_below(const load_summary& s) {
  const auto& r = s.run;
  auto out = std::string("\n");
  if (s.setting.machine == real_machine::host) out += fmt::format("  note: {}\n", rehearsal_note);
  if (s.setting.rounds > 0) out += fmt::format("  note: {}\n", stand_in_note);
  for (const auto& z : r.load.zeros)
    out += fmt::format("  note: {} is in no file and was filled with zeros; the program that runs the model fills it\n",
                       z.name);
  if (!r.load.offloaded.tensors.empty())
    out += fmt::format("  note: {} tensors were written to {}\n", r.load.offloaded.tensors.size(),
                       s.setting.offload_folder);
  for (const auto& n : s.notes) out += fmt::format("  note: {}\n", n);
  for (const auto& w : r.load.warnings) out += fmt::format("  warning: {}\n", w);
  for (const auto& w : r.warnings) out += fmt::format("  warning: {}\n", w);
  return out == "\n" ? std::string() : out;
}

value seconds_or_null(bool known, double seconds) { return known ? value(seconds) : value(nullptr); }

value load_value(const berth::load_report& l) {
  return object{{"stored", l.stored},
                {"from_cache", l.from_cache},
                {"from_disk", l.from_disk},
                {"reads", l.reads},
                {"readers", std::uint64_t(static_cast<unsigned>(l.readers))},
                {"seconds", l.seconds},
                {"set_up_seconds", l.preparing},
                {"reading_seconds", l.reading},
                {"waiting_seconds", l.waiting},
                {"offload_seconds", l.writing},
                {"bytes_per_second", l.seconds > 0 ? static_cast<double>(l.stored) / l.seconds : 0.0}};
}

}  // namespace

berth::bytes load_summary::expected_resident() const {
  berth::bytes sum = run.resident_before;
  for (const auto& d : run.load.devices) {
    const bool in_host =
        setting.machine == real_machine::host || plan.devices[d.device].kind == berth::device_kind::cpu;
    sum += d.staging + (in_host ? d.taken + d.scratch : 0);
  }
  return sum;
}

std::string load_table(const load_summary& s) {
  const auto& r = s.run;
  auto out = fmt::format("{}: strategy {} on {}, loaded on {}\n", model_words(s.plan), s.plan.strategy.view(),
                         s.plan.topology_name.view(), s.setting.machine == real_machine::host ? "host" : "cuda");
  out += fmt::format("{} in {} reads by {}, {} of it past the page cache{}\n", format_size(r.load.stored), r.load.reads,
                     r.load.readers == 0 ? "the calling thread" : fmt::format("{} readers", r.load.readers),
                     format_size(r.load.from_disk),
                     r.load.verified > 0 ? fmt::format("; {} verified", format_size(r.load.verified)) : "");
  return out + time_lines(s) + device_lines(s) + stream_lines(s) + words_below(s);
}

value load_json(const load_summary& s) {
  const auto& r = s.run;
  const bool rounds = s.setting.rounds > 0;
  array devices, streams, zeros, warnings;
  for (const auto& d : r.load.devices) {
    const auto* use = s.plan.use_of(s.plan.devices[d.device].id);
    devices.push_back(object{{"id", s.plan.devices[d.device].id.view()},
                             {"stored", d.stored},
                             {"planned", use == nullptr ? berth::bytes{0} : use->used()},
                             {"taken", d.taken},
                             {"peak", r.peaks[d.device]},
                             {"pinned", d.pinned},
                             {"staging", d.staging},
                             {"scratch", d.scratch},
                             {"seconds", d.seconds}});
  }
  const auto& frame = s.programs.load.frame.streams;
  for (std::size_t i = 0; i < frame.size(); ++i) {
    object o{{"device", s.plan.devices[frame[i].device].id.view()}, {"role", berth::name_of(frame[i].role)}};
    if (frame[i].peer != berth::no_index) o.push_back({"peer", s.plan.devices[frame[i].peer].id.view()});
    o.push_back({"busy_seconds", r.busy[i]});
    o.push_back(
        {"predicted_busy_seconds", seconds_or_null(s.predicted.known, s.predicted.known ? s.predicted.busy[i] : 0)});
    streams.push_back(std::move(o));
  }
  for (const auto& z : r.load.zeros) zeros.push_back(std::string_view(z.name));
  for (const auto& w : r.load.warnings) warnings.push_back(std::string_view(w));
  for (const auto& w : r.warnings) warnings.push_back(std::string_view(w));
  const auto& ahead = s.predicted.report;
  return object{
      {"format", "berth.load/1"},
      {"model", s.plan.model_id.view()},
      {"strategy", s.plan.strategy.view()},
      {"topology", s.plan.topology_name.view()},
      {"machine", s.setting.machine == real_machine::host ? "host" : "cuda"},
      {"rehearsed", s.setting.machine == real_machine::host},
      {"load", load_value(r.load)},
      {"verified",
       s.setting.verify ? value(object{{"bytes", r.load.verified}, {"seconds", r.load.verifying}}) : value(nullptr)},
      {"rounds", s.setting.rounds},
      {"first_token_seconds", seconds_or_null(rounds, berth::seconds_from(r.report.first_token))},
      {"round_seconds", seconds_or_null(rounds, r.report.period())},
      {"predicted",
       object{{"load_seconds", seconds_or_null(s.predicted.known, berth::seconds_from(ahead.load_time))},
              {"first_token_seconds", seconds_or_null(s.predicted.known, berth::seconds_from(ahead.first_token))},
              {"round_seconds", seconds_or_null(s.predicted.known, ahead.period())}}},
      {"resident",
       object{{"before", r.resident_before}, {"peak", r.load.peak_resident}, {"predicted", s.expected_resident()}}},
      {"devices", std::move(devices)},
      {"streams", std::move(streams)},
      {"zero_filled", std::move(zeros)},
      {"offloaded_tensors", std::uint64_t{r.load.offloaded.tensors.size()}},
      {"warnings", std::move(warnings)}};
}

}  // namespace tool
