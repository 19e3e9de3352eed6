// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.tool;

import berth;

namespace tool {

std::string bar(const std::vector<bar_part>& parts, berth::bytes whole, std::size_t width) {
  std::string out;
  if (whole == 0) return std::string(width, '.');
  for (const auto& part : parts) {
    // Something that is there is shown, however small.
    auto cells = static_cast<std::size_t>(
        static_cast<double>(part.amount) / static_cast<double>(whole) * static_cast<double>(width) + 0.5);
    if (part.amount > 0 && cells == 0) cells = 1;
    out.append(std::min(cells, width - out.size()), part.mark);
  }
  return out.append(width - out.size(), '.');
}

std::string shown_time(double seconds) {
  if (!(seconds < berth::forever)) return "never";
  if (seconds >= 99.5) return fmt::format("{:.0f} s", seconds);
  if (seconds >= 0.9995) return fmt::format("{:.3g} s", seconds);
  if (seconds >= 0.9995e-3) return fmt::format("{:.3g} ms", seconds * 1e3);
  return fmt::format("{:.3g} us", seconds * 1e6);
}

std::string shown_rate(double per_second) {
  return per_second >= 99.5 ? fmt::format("{:.0f}", per_second) : fmt::format("{:.3g}", per_second);
}

std::string_view class_words(berth::plan_class c) {
  return c == berth::plan_class::interval ? "interval placements" : "all placements";
}

namespace {

/// "model.layers.12" -> ("model.layers.", 12).
struct numbered {
  std::string_view stem;
  std::optional<std::uint64_t> number;
};

numbered split_number(std::string_view name) {
  std::size_t at = name.size();
  while (at > 0 && name[at - 1] >= '0' && name[at - 1] <= '9') --at;
  if (at == name.size() || name.size() - at > 9) return {name, std::nullopt};
  std::uint64_t n = 0;
  for (const char c : name.substr(at)) n = n * 10 + static_cast<std::uint64_t>(c - '0');
  return {name.substr(0, at), n};
}

}  // namespace

std::string shorten(const std::vector<std::string_view>& names, std::size_t limit) {
  std::vector<std::string> pieces;
  for (std::size_t i = 0; i < names.size();) {
    const auto first = split_number(names[i]);
    std::size_t end = i + 1;
    while (first.number && end < names.size()) {
      const auto next = split_number(names[end]);
      if (next.stem != first.stem || !next.number || *next.number != *first.number + (end - i)) break;
      ++end;
    }
    pieces.push_back(end - i == 1 ? std::string(names[i])
                                  : fmt::format("{}-{}", names[i], *first.number + (end - i - 1)));
    i = end;
  }
  std::string out;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (i == limit && pieces.size() > limit + 1) return out + fmt::format(" and {} more", pieces.size() - limit);
    out += (i > 0 ? ", " : "") + pieces[i];
  }
  return out;
}

namespace {

using berth::format_size;

std::string_view objective_words(berth::objective o) {
  switch (o) {
    case berth::objective::latency:
      return "latency";
    case berth::objective::throughput:
      return "throughput";
    default:
      return "memory";
  }
}

std::string heading(const berth::plan& p, std::string_view dtype) {
  std::string blocks;
  std::size_t count = 0;
  for (const auto& a : p.atoms) count += a.kind == berth::atom_kind::block ? 1 : 0;
  if (count > 0) blocks = fmt::format(", {} blocks", count);
  return fmt::format("{}: {}{}, {} of weights{}\nstrategy {} for {} on {}\n",
                     p.model_id.empty() ? "model" : p.model_id.view(),
                     p.model_type.empty() ? "unknown type" : p.model_type.view(), blocks,
                     format_size(berth::total_weights(p.model())), dtype.empty() ? "" : fmt::format(" ({})", dtype),
                     p.strategy.view(), objective_words(p.workload.objective), p.topology_name.view());
}

std::string device_rows(const berth::plan& p) {
  constexpr std::size_t width = 28;
  std::size_t model_width = 5;
  bool reserve = false, state = false, workspace = false;
  for (const auto& u : p.uses) {
    model_width = std::max(model_width, p.devices[u.device].model.size());
    reserve = reserve || u.reserve > 0;
    state = state || u.state > 0;
    workspace = workspace || u.workspace > 0;
  }
  model_width = std::min<std::size_t>(model_width, 24);
  // Columns that would be empty are left out.
  const auto column = [](bool shown, std::string_view text) { return shown ? fmt::format(" {:>10}", text) : ""; };
  const auto size = [](berth::bytes n) { return n > 0 ? format_size(n) : std::string(); };
  auto out = fmt::format("\n  {:<8} {:<{}} {:>10} {:<{}}{}{}{}{}{}\n", "device", "model", model_width, "budget", " use",
                         width + 2, column(true, "weights"), column(state, "KV/state"), column(workspace, "workspace"),
                         column(p.streams(), "staging"), column(true, "free"));
  for (const auto& u : p.uses) {
    const auto& d = p.devices[u.device];
    const auto drawn =
        bar({{u.weights + u.padding, '#'}, {u.state, '+'}, {u.workspace, '~'}, {u.staging, '='}, {u.reserve, '-'}},
            u.budget, width);
    out += fmt::format("  {:<8} {:<{}.{}} {:>10} [{}]{}{}{}{}{}\n", d.id.view(), d.model.view(), model_width,
                       model_width, format_size(u.budget), drawn, column(true, format_size(u.weights)),
                       column(state, size(u.state)), column(workspace, size(u.workspace)),
                       column(p.streams(), size(u.staging)), column(true, format_size(u.free())));
  }
  std::string legend = "# weights";
  if (state) legend += "  + KV/state";
  if (workspace) legend += "  ~ workspace";
  if (p.streams()) legend += "  = staging slots";
  if (reserve) legend += "  - reserve";
  return out + fmt::format("  {:{}} {}  . free\n", "", 8 + 1 + model_width + 1 + 10 + 1, legend);
}

/// How an atom is used, in the words of the table; empty: it simply lives and runs there.
std::string mode_words(const berth::plan& p, const berth::atom_placement& at) {
  using berth::phase;
  const auto id = [&](berth::device_index d) { return p.devices[d].id.view(); };
  if (at.streamed(phase::decode)) return fmt::format(" (streamed to {})", id(at.execution));
  if (at.prompt != berth::no_index)
    return fmt::format(" (computed here, streamed to {} for the prompt)", id(at.prompt));
  return p.devices[at.home].kind == berth::device_kind::cpu ? " (computed here)" : "";
}

std::string placement_rows(const berth::plan& p) {
  std::string out = "\n";
  for (const auto& u : p.uses) {
    // One row per device and mode, in the order in which the modes appear.
    std::vector<std::pair<berth::atom_placement, std::vector<std::string_view>>> rows;
    for (std::size_t i = 0; i < p.atoms.size(); ++i) {
      if (p.placements[i].home != u.device) continue;
      auto row = std::find_if(rows.begin(), rows.end(), [&](const auto& r) { return r.first == p.placements[i]; });
      if (row == rows.end()) row = rows.insert(rows.end(), {p.placements[i], {}});
      row->second.push_back(p.atoms[i].name);
    }
    const auto id = p.devices[u.device].id;
    if (rows.empty()) out += fmt::format("  {:<8} empty\n", id.view());
    for (const auto& [at, names] : rows)
      out += fmt::format("  {:<8} {}{}\n", id.view(), shorten(names, 8), mode_words(p, at));
  }
  return out;
}

std::string workload_line(const berth::plan& p) {
  const auto& w = p.workload;
  if (p.model_type == "chain") return fmt::format("workload: of the instance, {} generated tokens\n", w.generate);
  const auto tokens = fmt::format("batch {}, prompt {}, generate {}", w.batch, w.prompt, w.generate);
  if (w.context == 0)
    return fmt::format("workload: {}; context 0: only weights and buffers are counted, not the KV cache\n", tokens);
  return fmt::format("workload: context {}, {}\n", w.context, tokens);
}

std::string worth_lines(const berth::plan& p) {
  if (!p.priced) return "times: not known (a device or the model has no rates)\n";
  const auto& t = p.times;
  auto out =
      fmt::format("predicted: first token after {}, then {} per token", shown_time(t.prefill), shown_time(t.decode));
  const double streams = static_cast<double>(std::max<std::uint64_t>(p.workload.batch, 1));
  if (t.decode < berth::forever && t.decode > 0) out += fmt::format(" ({} tokens/s)", shown_rate(streams / t.decode));
  if (p.workload.objective == berth::objective::throughput)
    out += fmt::format("; pipelined {} per token ({} tokens/s)", shown_time(t.period), shown_rate(streams / t.period));
  out += "\n";
  const auto& c = p.certificate;
  if (!c.present()) return out;
  if (c.gap() <= 1e-9)
    out += fmt::format("certificate: optimal among {} ({})\n", class_words(c.of), c.bound_name.view());
  else
    out += fmt::format("certificate: at most {:.2g} % above the best of {} (bound: {})\n", 100 * c.gap(),
                       class_words(c.of), c.bound_name.view());
  return out;
}

}  // namespace

std::string_view model_words(const berth::plan& p) {
  return !p.model_id.empty() ? p.model_id.view() : !p.model_type.empty() ? p.model_type.view() : "model";
}

std::string plan_table(const berth::plan& p, std::string_view dtype, const std::vector<std::string>& notes) {
  std::string out = heading(p, dtype) + workload_line(p) + worth_lines(p);
  out += device_rows(p) + placement_rows(p);
  if (!notes.empty() || !p.warnings.empty()) out += "\n";
  for (const auto& n : notes) out += fmt::format("  note: {}\n", n);
  for (const auto& warning : p.warnings) out += fmt::format("  warning: {}\n", warning.view());
  return out;
}

}  // namespace tool
