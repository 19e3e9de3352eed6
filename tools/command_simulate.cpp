// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

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

using berth::errc;
using berth::fail;
using berth::result;

/// What is run: a plan from a file, or one that is made now.
struct subject {
  std::optional<session> asked;
  berth::plan plan;
  std::vector<std::string> notes;
};

result<std::optional<subject>> plan_from_file(const std::string& path) {
  if (path != "-" && !path.ends_with(".json")) return std::optional<subject>();
  auto text = read_input(path);
  if (!text || text->find("\"berth.plan/") == std::string::npos) {
    if (path == "-") return fail(errc::unknown_format, "standard input", "is not a berth.plan/1 document");
    return std::optional<subject>();
  }
  const std::string what = path == "-" ? "standard input" : path;
  auto read = checked_plan(*text, what);
  if (!read) return read.propagate();
  subject s;
  s.plan = std::move(read->plan);
  s.notes = std::move(read->notes);
  return std::optional(std::move(s));
}

/// Options about planning mean nothing for a plan that is made already.
std::optional<berth::failure> refuse_for_plan(const simulate_arguments& a) {
  const std::pair<bool, std::string_view> given[] = {
      {!a.topology.empty(), "--topology"},   {!a.max_memory.empty(), "--max-memory"},
      {!a.reserve.empty(), "--reserve"},     {!a.strategy.empty(), "--strategy"},
      {!a.context.empty(), "--context"},     {!a.batch.empty(), "--batch"},
      {!a.prompt.empty(), "--prompt"},       {!a.generate.empty(), "--generate"},
      {!a.objective.empty(), "--objective"}, {!a.dtype.empty(), "--dtype"},
      {!a.quantize.empty(), "--quantize"},   {!a.sweep.empty(), "--sweep"}};
  for (const auto& [present, option] : given)
    if (present) return fail(errc::invalid_argument, option, "the plan says this itself; give the model instead");
  return std::nullopt;
}

result<subject> subject_of(const simulate_arguments& a) {
  auto from_file = plan_from_file(a.model);
  if (!from_file) return from_file.propagate();
  if (*from_file) {
    if (auto refused = refuse_for_plan(a)) return *refused;
    return *std::move(*from_file);
  }
  subject s;
  auto opened = session::open(a);
  if (!opened) return opened.propagate();
  s.asked = *std::move(opened);
  auto choice = s.asked->choice(a.strategy);
  if (!choice) return choice.propagate();
  auto p = s.asked->plan(*choice, s.asked->asked());
  if (!p) return berth::failure{with_alternatives(*s.asked, *choice, p.error())};
  s.plan = *std::move(p);
  s.notes = s.asked->notes();
  return s;
}

bool write_files(const simulate_arguments& a, const subject& s, const berth::compiled_plan& programs,
                 const simulated_run& run) {
  if (!a.trace.empty() && !write_output(a.trace, berth::write_trace(s.plan, run.trace, run.marks))) return false;
  if (!a.program.empty() &&
      !write_output(a.program, berth::json::write(berth::write_program(programs.decode), 1) + "\n"))
    return false;
  if (a.page.empty() || run.error) return true;
  auto notes = s.notes;
  if (!run.injected.empty()) notes.push_back("faults that happened: " + run.injected);
  return write_output(a.page, report_page(s.plan, run.report, run.trace, run.marks, notes));
}

int say_failed(const simulated_run& run) {
  complain(berth::name_of(run.error->code), fmt::format("{}: {}", run.error->subject.view(), run.error->detail.view()));
  return exit_no;
}

int one_run(const simulate_arguments& a, const subject& s, const simulation_setting& setting,
            const berth::compiled_plan& programs) {
  auto run = simulate(s.plan, programs, setting);
  if (!run) return report(run.error());
  if (!write_files(a, s, programs, *run)) return exit_usage;
  if (run->leaks > 0) {
    complain("simulate", fmt::format("{} buffers were never freed, a fault of berth itself", run->leaks));
    return exit_usage;
  }
  if (run->error) return say_failed(*run);
  const auto broken = exceeded_limits(a, s.plan, run->report);
  if (!broken) return report(broken.error());
  std::string text;
  if (a.format == "json") {
    text = berth::json::write(report_json(s.plan, run->report), 2) + "\n";
  } else {
    text = report_table(s.plan, run->report);
    if (!run->injected.empty()) text += fmt::format("  faults that happened: {}\n", run->injected);
    for (const auto& n : s.notes) text += fmt::format("  note: {}\n", n);
  }
  if (!write_output(a.output, text)) return exit_usage;
  for (const auto& b : *broken) complain("limit exceeded", b);
  return broken->empty() ? exit_done : exit_no;
}

/// The same plan with one seed after the other.
int many_runs(const simulate_arguments& a, const subject& s, simulation_setting setting,
              const berth::compiled_plan& programs) {
  std::string text = fmt::format("  {:>8}  {:<12} {:>11} {:>10}  {}\n", "seed", "outcome", "1st token", "per token",
                                 "faults that happened");
  std::uint64_t completed = 0, different = 0, leaks = 0;
  std::optional<std::uint64_t> first;
  for (std::uint64_t i = 0; i < a.repeat; ++i, ++setting.seed) {
    auto run = simulate(s.plan, programs, setting);
    if (!run) return report(run.error());
    leaks += run->leaks;
    const auto print = berth::fingerprint(run->trace);
    if (!first) first = print;
    different += print == *first ? 0 : 1;
    completed += run->error ? 0 : 1;
    const auto outcome = run->error ? berth::name_of(run->error->code) : "completed";
    text += fmt::format("  {:>8}  {:<12} ", setting.seed, outcome);
    text += run->error ? fmt::format("{:>11} {:>10}", "-", "-")
                       : fmt::format("{:>11} {:>10}", shown_time(berth::seconds_from(run->report.first_token)),
                                     shown_time(run->report.period()));
    text += fmt::format("  {}\n", run->injected.empty() ? "none" : run->injected);
  }
  text +=
      fmt::format("{} of {} runs completed, {} buffers leaked, {}\n", completed, a.repeat, leaks,
                  different == 0 ? "all traces identical" : fmt::format("{} traces differ from the first", different));
  if (!write_output(a.output, text)) return exit_usage;
  return completed == a.repeat && leaks == 0 ? exit_done : exit_no;
}

}  // namespace

int run_simulate(const simulate_arguments& a) {
  if (a.format == "csv" && a.sweep.empty()) {
    complain("--format csv", "belongs to --sweep; table and json describe one run");
    return exit_usage;
  }
  if (!a.sweep.empty()) return run_sweep(a);
  if (a.repeat > 1 && (!a.trace.empty() || !a.page.empty() || a.format != "table")) {
    complain("--repeat", "gives a table of all runs; repeat one seed alone for its trace, report or JSON");
    return exit_usage;
  }
  auto s = subject_of(a);
  if (!s) return report(s.error());
  const auto setting = setting_of(a);
  auto programs = programs_of(s->plan, setting);
  if (!programs) return report(programs.error());
  return a.repeat > 1 ? many_runs(a, *s, setting, *programs) : one_run(a, *s, setting, *programs);
}

}  // namespace tool
