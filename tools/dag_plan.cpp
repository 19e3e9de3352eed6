// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
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
namespace {

/// An option that says something about models or machines; the graph's file has its own devices.
std::optional<std::string_view> meaningless_option(const plan_arguments& a) {
  const std::pair<std::string_view, bool> given[] = {{"--topology", !a.topology.empty()},
                                                     {"--gpu", !a.gpu.empty()},
                                                     {"--strategy", !a.strategy.empty()},
                                                     {"--compat", !a.compat.empty()},
                                                     {"--max-memory", !a.max_memory.empty()},
                                                     {"--reserve", !a.reserve.empty()},
                                                     {"--offload-folder", !a.offload_folder.empty()},
                                                     {"--dtype", !a.dtype.empty()},
                                                     {"--tensor-dtype", !a.tensor_dtypes.empty()},
                                                     {"--quantize", !a.quantize.empty()},
                                                     {"--int8-skip", !a.int8_skip.empty()},
                                                     {"--no-split", !a.no_split.empty()},
                                                     {"--pin", !a.pins.empty()},
                                                     {"--complete", !a.complete.empty()},
                                                     {"--offload-buffers", a.offload_buffers},
                                                     {"--fallback-allocation", a.fallback_allocation}};
  for (const auto& [name, is_given] : given)
    if (is_given) return name;
  return std::nullopt;
}

/// True for a file whose first character is "{": weights, which can be large, need not be read to know what they are.
bool looks_like_json(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;
  std::ifstream in(path, std::ios::binary);
  char first = 0;
  return in >> first && first == '{';
}

std::string plural(std::size_t n, std::string_view what) { return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s"); }

std::string dag_table(const berth::dag_problem& p, const berth::dag_split& split) {
  auto out = fmt::format("graph of {} and {} on {} of {} and {}\n", plural(p.nodes.size(), "node"),
                         plural(p.edges.size(), "edge"), plural(p.accelerators, "accelerator"),
                         berth::format_size(p.accelerator_memory), plural(p.cpus, "CPU"));
  out += fmt::format("maximum load {:.6g}", split.loads.maximum);
  if (split.proven)
    out += ", the optimum of all pipelines\n";
  else
    out += fmt::format("; no pipeline is below {:.6g}\n", split.lower_bound);
  out += fmt::format("\n  {:<8} {:>12} {:>7} {:>11}\n", "device", "load", "nodes", "memory");
  for (std::uint32_t d = 0; d < p.devices(); ++d)
    out += fmt::format("  {:<8} {:>12.6g} {:>7} {:>11}\n", berth::dag_device_id(p, d), split.loads.load[d],
                       split.loads.nodes[d], berth::format_size(split.loads.memory[d]));
  return out;
}

}  // namespace

std::optional<int> run_dag_plan(const plan_arguments& a) {
  if (!looks_like_json(a.model)) return std::nullopt;
  // Only a file that names the member is parsed here; what is wrong with others is for their readers to say.
  const auto text = read_input(a.model);
  if (!text || text->find("\"maxFPGAs\"") == std::string::npos) return std::nullopt;
  const auto document = berth::json::parse(*text, a.model);
  if (!document) return report(document.error());
  if (!berth::is_dag(*document)) return std::nullopt;
  if (const auto option = meaningless_option(a)) {
    complain(*option, "does nothing for a graph of operators, whose file names its devices");
    return exit_usage;
  }
  if (a.format == "device-map") {
    complain("--format", "a graph of operators has no device map; table or json");
    return exit_usage;
  }
  const auto p = berth::read_dag(*document, a.model);
  if (!p) return report(p.error());
  const auto split = berth::split_dag(*p);
  if (!split) return report(split.error());
  const auto answer =
      a.format == "json" ? berth::json::write(berth::write_dag_split(*p, *split), 2) + "\n" : dag_table(*p, *split);
  return write_output(a.output, answer) ? exit_done : exit_usage;
}

}  // namespace tool
