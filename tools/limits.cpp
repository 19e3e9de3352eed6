// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

module berth.tool;

import berth;
import berth.formats;

namespace tool {

using berth::errc;
using berth::fail;
using berth::result;

result<double> parse_duration(const std::string& text, std::string_view option) {
  double number = 0;
  const auto* last = text.data() + text.size();
  const auto [end, status] = std::from_chars(text.data(), last, number);
  const std::string_view unit(end, static_cast<std::size_t>(last - end));
  const double factor = unit == "s" ? 1 : unit == "ms" ? 1e-3 : unit == "us" ? 1e-6 : unit == "min" ? 60 : 0;
  if (status != std::errc{} || factor == 0 || !(number > 0) || number > 1e9)
    return fail(errc::invalid_argument, option,
                berth::text<128>("\"").append(text).append("\" is not a time such as 2s, 350ms or 80us"));
  return number * factor;
}

namespace {

/// The times that limits and baselines speak of.
struct figures {
  double first_token = 0, per_token = 0, tokens_per_second = 0;
};
figures figures_of(const berth::report& r) {
  return {berth::seconds_from(r.first_token), r.period(), r.tokens_per_second};
}

result<figures> read_baseline(const std::string& path) {
  auto text = read_input(path);
  if (!text) return text.propagate();
  auto document = berth::json::parse(*text, path);
  if (!document) return document.propagate();
  const auto* format = document->find("format");
  if (format == nullptr || !format->if_string() || *format->if_string() != "berth.report/1")
    return fail(errc::unknown_format, path, "is not a berth.report/1 document; write one with --format json");
  figures f;
  const auto* times = document->find("times");
  const auto* first = times == nullptr ? nullptr : times->find("first_token_ps");
  const auto* period = document->find("period");
  if (first == nullptr || !first->to_int64() || period == nullptr || !period->to_double())
    return fail(errc::malformed, path, "times.first_token_ps and period must be numbers");
  f.first_token = berth::seconds_from(*first->to_int64());
  f.per_token = *period->to_double();
  return f;
}

}  // namespace

result<std::vector<std::string>> exceeded_limits(const simulate_arguments& a, const berth::plan& p,
                                                 const berth::report& r) {
  std::vector<std::string> out;
  const auto now = figures_of(r);
  if (!a.max_first_token.empty()) {
    const auto most = parse_duration(a.max_first_token, "--max-ttft");
    if (!most) return most.propagate();
    if (now.first_token > *most)
      out.push_back(fmt::format("--max-ttft: the first token takes {}, {} are allowed", shown_time(now.first_token),
                                shown_time(*most)));
  }
  if (a.min_tokens_per_second > 0 && now.tokens_per_second < a.min_tokens_per_second)
    out.push_back(fmt::format("--min-tokens-per-second: decode reaches {}, {} are asked for",
                              shown_rate(now.tokens_per_second), shown_rate(a.min_tokens_per_second)));
  const auto wants = [&](std::string_view what) {
    return std::find(a.fail_on.begin(), a.fail_on.end(), what) != a.fail_on.end();
  };
  if (wants("offload"))
    for (std::size_t i = 0; i < p.atoms.size(); ++i)
      if (p.devices[p.placements[i].home].kind != berth::device_kind::gpu) {
        out.push_back(fmt::format("--fail-on offload: {} lives on {}", p.atoms[i].name,
                                  p.devices[p.placements[i].home].id.view()));
        break;
      }
  if (wants("warning"))
    for (const auto& w : p.warnings) out.push_back(fmt::format("--fail-on warning: {}", w.view()));
  if (a.baseline.empty()) return out;
  const auto before = read_baseline(a.baseline);
  if (!before) return before.propagate();
  const double factor = 1 + a.max_slowdown / 100 + 1e-9;
  const auto compare = [&](std::string_view what, double then, double here) {
    if (here > then * factor)
      out.push_back(fmt::format("--baseline: {} takes {}, {} before ({:+.1f} %, {:g} % are allowed)", what,
                                shown_time(here), shown_time(then), 100 * (here / then - 1), a.max_slowdown));
  };
  compare("the first token", before->first_token, now.first_token);
  compare("a token", before->per_token, now.per_token);
  return out;
}

}  // namespace tool
