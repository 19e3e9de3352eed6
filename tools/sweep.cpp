// SPDX-License-Identifier: Apache-2.0
// `simulate --sweep`: one plan and one run per value of one option.
module;

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
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

constexpr std::size_t most_values = 64;

struct sweep {
  std::string key;
  std::vector<std::uint64_t> values;
};

/// "context=2k..128k" doubles from value to value; "batch=1,2,3" lists them.
result<sweep> parse_sweep(const std::string& text) {
  const auto bad = [&] {
    return fail(errc::invalid_argument, "--sweep",
                berth::text<192>("\"").append(text).append(
                    "\" is not KEY=FROM..TO or KEY=A,B,C with context, batch, prompt or generate"));
  };
  const auto equals = text.find('=');
  if (equals == std::string::npos) return bad();
  sweep out{text.substr(0, equals), {}};
  if (out.key != "context" && out.key != "batch" && out.key != "prompt" && out.key != "generate") return bad();
  const auto rest = text.substr(equals + 1);
  const auto dots = rest.find("..");
  if (dots == std::string::npos) {
    for (const auto& word : split_words(rest)) {
      const auto n = parse_tokens(word, "--sweep");
      if (!n) return n.propagate();
      out.values.push_back(*n);
    }
  } else {
    const auto from = parse_tokens(rest.substr(0, dots), "--sweep"),
               to = parse_tokens(rest.substr(dots + 2), "--sweep");
    if (!from) return from.propagate();
    if (!to) return to.propagate();
    if (*from == 0 || *to < *from) return bad();
    for (auto v = *from; v <= *to && out.values.size() <= most_values; v *= 2) out.values.push_back(v);
  }
  if (out.values.empty() || out.values.size() > most_values) return bad();
  return out;
}

struct row {
  std::uint64_t value = 0;
  std::optional<berth::error> error;
  std::string where;                  ///< "gpu", or what left the GPUs
  berth::bytes peak = 0, budget = 0;  ///< of the fullest GPU
  double first_token = 0, per_token = 0, tokens_per_second = 0;
  std::string bottleneck;
};

std::string where_words(const berth::plan& p) {
  std::size_t streamed = 0, cpu = 0;
  for (const auto& at : p.placements) {
    streamed += at.streamed(berth::phase::decode) ? 1 : 0;
    cpu += p.devices[at.execution].kind == berth::device_kind::cpu ? 1 : 0;
  }
  if (streamed + cpu == 0) return "GPUs";
  std::string out;
  if (streamed > 0) out = fmt::format("{} of {} streamed", streamed, p.atoms.size());
  if (cpu > 0) out += fmt::format("{}{} of {} on the CPU", out.empty() ? "" : ", ", cpu, p.atoms.size());
  return out;
}

row measure(const simulate_arguments& a, const std::string& key, std::uint64_t value) {
  row r;
  r.value = value;
  auto q = a;
  const auto text = std::to_string(value);
  (key == "context" ? q.context : key == "batch" ? q.batch : key == "prompt" ? q.prompt : q.generate) = text;
  const auto failed = [&](const berth::error& e) {
    r.error = e;
    return r;
  };
  auto s = session::open(q);
  if (!s) return failed(s.error());
  auto choice = s->choice(a.strategy);
  if (!choice) return failed(choice.error());
  auto p = s->plan(*choice, s->asked());
  if (!p) return failed(p.error());
  const auto setting = setting_of(a);
  auto programs = programs_of(*p, setting);
  if (!programs) return failed(programs.error());
  auto run = simulate(*p, *programs, setting);
  if (!run) return failed(run.error());
  if (run->error) return failed(*run->error);
  r.where = where_words(*p);
  for (const auto& d : run->report.devices)
    if (p->devices[d.device].kind == berth::device_kind::gpu && d.peak >= r.peak) {
      r.peak = d.peak;
      r.budget = d.budget;
    }
  r.first_token = berth::seconds_from(run->report.first_token);
  r.per_token = run->report.period();
  r.tokens_per_second = run->report.tokens_per_second;
  r.bottleneck = run->report.bottleneck.words.view();
  return r;
}

std::string csv_field(std::string_view s) {
  if (s.find_first_of(",\"\n") == std::string_view::npos) return std::string(s);
  std::string out = "\"";
  for (const char c : s) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string as_csv(const std::string& key, const std::vector<row>& rows) {
  std::string out = fmt::format(
      "{},outcome,first_token_s,decode_period_s,tokens_per_second,peak_bytes,budget_bytes,placement,bottleneck\n", key);
  for (const auto& r : rows) {
    if (r.error)
      out += fmt::format("{},{},,,,,,,\n", r.value, berth::name_of(r.error->code));
    else
      out += fmt::format("{},completed,{},{},{},{},{},{},{}\n", r.value, r.first_token, r.per_token,
                         r.tokens_per_second, r.peak, r.budget, csv_field(r.where), csv_field(r.bottleneck));
  }
  return out;
}

std::string as_table(const std::string& key, const std::vector<row>& rows) {
  std::string out = fmt::format("  {:>9} {:>11} {:>10} {:>9} {:>19}  {:<28} {}\n", key, "1st token", "per token",
                                "tokens/s", "fullest GPU", "weights", "limit");
  for (const auto& r : rows) {
    out += fmt::format("  {:>9} ", r.value);
    if (r.error) {
      out += fmt::format("{}: {}\n", r.error->subject.view(), r.error->detail.view());
      continue;
    }
    out += fmt::format("{:>11} {:>10} {:>9} {:>19}  {:<28} {}\n", shown_time(r.first_token), shown_time(r.per_token),
                       shown_rate(r.tokens_per_second),
                       fmt::format("{} / {}", berth::format_size(r.peak), berth::format_size(r.budget)), r.where,
                       r.bottleneck);
  }
  return out;
}

berth::json::value as_json(const std::string& key, const std::vector<row>& rows) {
  berth::json::array list;
  for (const auto& r : rows) {
    if (r.error)
      list.push_back(berth::json::object{{key, r.value}, {"outcome", berth::name_of(r.error->code)}});
    else
      list.push_back(berth::json::object{{key, r.value},
                                         {"outcome", "completed"},
                                         {"first_token_s", r.first_token},
                                         {"decode_period_s", r.per_token},
                                         {"tokens_per_second", r.tokens_per_second},
                                         {"peak_bytes", r.peak},
                                         {"budget_bytes", r.budget},
                                         {"placement", r.where},
                                         {"bottleneck", r.bottleneck}});
  }
  return berth::json::object{{"format", "berth.sweep/1"}, {"key", key}, {"runs", std::move(list)}};
}

}  // namespace

int run_sweep(const simulate_arguments& a) {
  for (const auto& [given, option] :
       {std::pair{!a.trace.empty(), "--trace"}, std::pair{!a.page.empty(), "--report"},
        std::pair{!a.program.empty(), "--program"}, std::pair{!a.faults.empty(), "--fault"},
        std::pair{a.repeat > 1, "--repeat"}, std::pair{!a.baseline.empty(), "--baseline"}})
    if (given) {
      complain(option, "describes one run, --sweep makes many; leave one of them out");
      return exit_usage;
    }
  auto what = parse_sweep(a.sweep);
  if (!what) return report(what.error());
  std::vector<row> rows;
  progress_bar bar;
  for (std::size_t i = 0; i < what->values.size(); ++i) {
    bar.show(i, what->values.size(), what->key);
    rows.push_back(measure(a, what->key, what->values[i]));
    // What is wrong with the question is wrong with all of it.
    if (rows.back().error && exit_code_of(rows.back().error->code) == exit_usage) return report(*rows.back().error);
  }
  const auto text = a.format == "csv"    ? as_csv(what->key, rows)
                    : a.format == "json" ? berth::json::write(as_json(what->key, rows), 2) + "\n"
                                         : as_table(what->key, rows);
  if (!write_output(a.output, text)) return exit_usage;
  bool within = std::all_of(rows.begin(), rows.end(), [](const row& r) { return !r.error; });
  double most = 0;
  if (!a.max_first_token.empty()) {
    const auto parsed = parse_duration(a.max_first_token, "--max-ttft");
    if (!parsed) return report(parsed.error());
    most = *parsed;
  }
  for (const auto& r : rows)
    if (!r.error && ((most > 0 && r.first_token > most) || r.tokens_per_second < a.min_tokens_per_second))
      within = false;
  return within ? exit_done : exit_no;
}

}  // namespace tool
