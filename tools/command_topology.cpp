// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

module berth.tool;

import berth;
import berth.formats;

namespace tool {
namespace {

std::string rate(double per_second, double unit, std::string_view name) {
  return per_second > 0 ? fmt::format("{:.4g} {}", per_second / unit, name) : std::string("-");
}

std::string device_table(const berth::topology& t) {
  std::size_t width = 5;
  for (const auto& d : t.devices) width = std::max(width, d.model.size());
  auto out = fmt::format("  {:<8} {:<{}} {:>12} {:>12} {:>12} {:>16}\n", "device", "model", width, "memory", "usable",
                         "memory rate", "bf16 matrix rate");
  for (const auto& d : t.devices)
    out += fmt::format("  {:<8} {:<{}} {:>12} {:>12} {:>12} {:>16}\n", d.id.view(), d.model.view(), width,
                       berth::format_size(d.memory), berth::format_size(d.free), rate(d.bandwidth(), 1e9, "GB/s"),
                       d.executes() ? rate(d.flops(berth::rate_class::half), 1e12, "TFLOP/s") : "-");
  return out;
}

/// GB/s from row to column; "-" where the pair cannot exchange anything.
std::string link_table(const berth::topology& t) {
  const auto view = t.view();
  std::string out = fmt::format("\n  {:<8}", "GB/s");
  for (const auto& d : t.devices) out += fmt::format(" {:>7}", d.id.view());
  out += "\n";
  for (std::size_t i = 0; i < t.devices.size(); ++i) {
    out += fmt::format("  {:<8}", t.devices[i].id.view());
    for (std::size_t j = 0; j < t.devices.size(); ++j) {
      const auto* r = view.route(static_cast<berth::device_index>(i), static_cast<berth::device_index>(j));
      out += i == j
                 ? fmt::format(" {:>7}", "X")
                 : (r == nullptr ? fmt::format(" {:>7}", "-") : fmt::format(" {:>7.4g}", view.bandwidth_of(*r) / 1e9));
    }
    out += "\n";
  }
  return out;
}

std::string segment_table(const berth::topology& t) {
  if (t.segments.empty()) return {};
  std::string out = "\n  shared segments\n";
  for (const auto& s : t.segments)
    out += fmt::format("  {:<40} {:<12} {:>10}\n", s.name.view(), name_of(s.kind), rate(s.capacity, 1e9, "GB/s"));
  return out;
}

int list_presets(const topology_arguments& a) {
  std::string out;
  if (a.format == "json") {
    berth::json::array names;
    for (const auto& name : berth::preset_names()) names.emplace_back(name);
    out = berth::json::write(names, 2) + "\n";
  } else {
    for (const auto& name : berth::preset_names()) out += name + "\n";
  }
  return write_output(a.output, out) ? exit_done : exit_usage;
}

}  // namespace

int run_topology(const topology_arguments& a) {
  if (a.list) return list_presets(a);
  auto chosen = choose_machine(a.topology, a.gpu);
  if (!chosen) return report(chosen.error());
  const auto& t = chosen->topology;
  if (a.format == "json") {
    for (const auto& n : chosen->notes) warn(n);
    return write_output(a.output, berth::json::write(berth::write_topology_json(t), 2) + "\n") ? exit_done : exit_usage;
  }
  std::string out = fmt::format("{}\n\n", t.name.view()) + device_table(t) + link_table(t) + segment_table(t);
  if (!chosen->notes.empty()) out += "\n";
  for (const auto& n : chosen->notes) out += fmt::format("  note: {}\n", n);
  return write_output(a.output, out) ? exit_done : exit_usage;
}

}  // namespace tool
