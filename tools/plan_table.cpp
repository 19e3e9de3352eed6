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

std::string heading(const berth::plan& p, std::string_view dtype) {
  std::string blocks;
  std::size_t count = 0;
  for (const auto& a : p.atoms) count += a.kind == berth::atom_kind::block ? 1 : 0;
  if (count > 0) blocks = fmt::format(", {} blocks", count);
  return fmt::format("{}: {}{}, {} of weights{}\nstrategy {} on {}\n", p.model_id.empty() ? "model" : p.model_id.view(),
                     p.model_type.empty() ? "unknown type" : p.model_type.view(), blocks,
                     format_size(berth::total_weights(p.model())), dtype.empty() ? "" : fmt::format(" ({})", dtype),
                     p.strategy.view(), p.topology_name.view());
}

std::string device_rows(const berth::plan& p) {
  constexpr std::size_t width = 32;
  std::size_t model_width = 5;
  bool reserve = false;
  for (const auto& u : p.uses) {
    model_width = std::max(model_width, p.devices[u.device].model.size());
    reserve = reserve || u.reserve > 0;
  }
  model_width = std::min<std::size_t>(model_width, 24);
  auto out = fmt::format("\n  {:<8} {:<{}} {:>11} {:<{}} {:>11} {:>11} {:>11}\n", "device", "model", model_width,
                         "budget", " use", width + 2, "weights", p.streams() ? "staging" : "", "free");
  for (const auto& u : p.uses) {
    const auto& d = p.devices[u.device];
    out += fmt::format("  {:<8} {:<{}.{}} {:>11} [{}] {:>11} {:>11} {:>11}\n", d.id.view(), d.model.view(), model_width,
                       model_width, format_size(u.budget),
                       bar({{u.weights + u.padding, '#'}, {u.staging, '='}, {u.reserve, '-'}}, u.budget, width),
                       format_size(u.weights), u.staging > 0 ? format_size(u.staging) : "", format_size(u.free()));
  }
  std::string legend = "# weights";
  if (p.streams()) legend += "  = staging slots";
  if (reserve) legend += "  - reserve";
  return out + fmt::format("  {:{}} {}  . free\n", "", 8 + 1 + model_width + 1 + 11 + 1, legend);
}

std::string placement_rows(const berth::plan& p) {
  std::string out = "\n";
  for (const auto& u : p.uses) {
    std::vector<std::string_view> resident, streamed;
    for (std::size_t i = 0; i < p.atoms.size(); ++i)
      if (p.placements[i].home == u.device)
        (p.placements[i].streamed() ? streamed : resident).push_back(p.atoms[i].name);
    const auto id = p.devices[u.device].id;
    const bool cpu = p.devices[u.device].kind == berth::device_kind::cpu;
    if (resident.empty() && streamed.empty()) out += fmt::format("  {:<8} empty\n", id.view());
    if (!resident.empty())
      out += fmt::format("  {:<8} {}{}\n", id.view(), shorten(resident, 8), cpu ? " (computed here)" : "");
    if (streamed.empty()) continue;
    berth::device_index target = 0;
    for (std::size_t i = 0; i < p.atoms.size(); ++i)
      if (p.placements[i].home == u.device && p.placements[i].streamed()) target = p.placements[i].execution;
    out += fmt::format("  {:<8} {} (streamed to {})\n", id.view(), shorten(streamed, 8), p.devices[target].id.view());
  }
  return out;
}

}  // namespace

std::string plan_table(const berth::plan& p, std::string_view dtype, const std::vector<std::string>& notes) {
  std::string out = heading(p, dtype);
  const auto& w = p.workload;
  if (w.context == 0)
    out += "workload: weights and buffers only; KV cache, activations and workspace are not counted\n";
  out += device_rows(p) + placement_rows(p);
  if (!notes.empty() || !p.warnings.empty()) out += "\n";
  for (const auto& n : notes) out += fmt::format("  note: {}\n", n);
  for (const auto& warning : p.warnings) out += fmt::format("  warning: {}\n", warning.view());
  return out;
}

}  // namespace tool
