// SPDX-License-Identifier: Apache-2.0
// Golden kind "msr_fiddle": published device placement workloads, the loads of splits made by hand, known optima.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kinds.hpp"

import berth.formats;

namespace golden {
namespace {

constexpr std::string_view kind = "msr_fiddle";
/// Relative: sums differ by the order of additions, and optima are stored with ten digits.
constexpr double below = 1e-9, reached = 1e-6;
/// Where no optimum could be proven.
constexpr double tolerated_gap = 0.004;

struct row {
  std::string file;
  std::uint32_t accelerators = 0;
  double optimum = 0;
  std::optional<double> expert;  ///< rounded to three decimals
};

std::optional<row> row_of(std::string line) {
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
  std::istringstream in(line);
  std::string fields[4];
  for (auto& f : fields) std::getline(in, f, ',');
  if (fields[0].empty()) return std::nullopt;
  row r{fields[0], static_cast<std::uint32_t>(std::strtoul(fields[1].c_str(), nullptr, 10)),
        std::strtod(fields[2].c_str(), nullptr), std::nullopt};
  if (!fields[3].empty()) r.expert = std::strtod(fields[3].c_str(), nullptr);
  return r;
}

berth::result<json::value> read_json(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  return json::parse(text, file.filename().string());
}

std::string shown(double x) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.10g", x);
  return buffer;
}

/// experts/NAME_expert.json beside the folder of the workload, without the word for its granularity.
std::filesystem::path expert_file(const std::filesystem::path& workload) {
  auto stem = workload.stem().string();
  stem.erase(0, stem.find('_') + 1);
  return workload.parent_path().parent_path() / "experts" / (stem + "_expert.json");
}

/// Device per node of a document with "fpgas" and "cpus", each a list of objects with "nodes".
std::optional<std::vector<std::uint32_t>> devices_of(const berth::dag_problem& p, const json::value& split) {
  std::unordered_map<std::int64_t, std::size_t> position;
  for (std::size_t i = 0; i < p.nodes.size(); ++i) position.emplace(p.nodes[i].id, i);
  std::vector<std::uint32_t> device(p.nodes.size(), p.devices());
  for (const std::string_view group : {"fpgas", "cpus"}) {
    const auto* list = split.find(group);
    if (list == nullptr || !list->if_array()) return std::nullopt;
    std::uint32_t number = group == "fpgas" ? 0 : p.accelerators;
    for (const auto& d : *list->if_array()) {
      const auto* nodes = d.find("nodes");
      if (nodes == nullptr || !nodes->if_array()) return std::nullopt;
      for (const auto& id : *nodes->if_array()) {
        const auto it = position.find(id.to_int64().value_or(-1));
        if (it == position.end()) return std::nullopt;
        device[it->second] = number;
      }
      ++number;
    }
  }
  return device;
}

void check_expert(const berth::dag_problem& p, const std::filesystem::path& file, double expected,
                  const std::string& name, report& out) {
  const auto document = read_json(file);
  if (!document) return out.failed(kind, name, "expert", "readable JSON", document.error().detail.view());
  const auto device = devices_of(p, *document);
  if (!device) return out.failed(kind, name, "expert", "a split", "something else");
  const auto loads = berth::loads_of(p, *device);
  if (!loads) return out.failed(kind, name, "expert", shown(expected), loads.error().detail.view());
  // The stored number has three decimals.
  if (std::fabs(loads->maximum - expected) > 0.0005 + 1e-9)
    return out.failed(kind, name, "expert", shown(expected), shown(loads->maximum));
  out.passed(kind);
}

void check_optimum(const berth::dag_problem& p, double optimum, const std::string& name, report& out) {
  const auto split = berth::split_dag(p);
  if (!split) return out.failed(kind, name, "optimum", shown(optimum), split.error().detail.view());
  const double found = split->loads.maximum, gap = found / optimum - 1;
  std::printf("golden: %s %s: maximum load %s, %.4f %% above the optimum, %s, by %s\n", std::string(kind).c_str(),
              name.c_str(), shown(found).c_str(), 100 * std::max(gap, 0.0), split->proven ? "proven" : "not proven",
              std::string(berth::name_of(split->method)).c_str());
  if (const auto pipeline = berth::check_pipeline(p, split->device); !pipeline)
    return out.failed(kind, name, "split", "a pipeline", pipeline.error().detail.view());
  if (gap < -below) return out.failed(kind, name, "optimum", "not below " + shown(optimum), shown(found));
  if (split->lower_bound > optimum * (1 + reached))
    return out.failed(kind, name, "lower bound", "at most " + shown(optimum), shown(split->lower_bound));
  if (gap > (split->proven ? reached : tolerated_gap))
    return out.failed(kind, name, "optimum", shown(optimum), shown(found));
  out.passed(kind);
}

}  // namespace

void run_msr_fiddle(const std::filesystem::path& csv, report& out) {
  std::ifstream in(csv);
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line)) {
    const auto r = row_of(line);
    if (!r) continue;
    const auto name = csv.parent_path().filename().string() + "/" + r->file;
    const bool optimum = out.wants(kind, name), expert = r->expert && out.wants(kind, name + "#expert");
    if (!optimum && !expert) continue;
    const auto file = csv.parent_path() / r->file;
    const auto document = read_json(file);
    if (!document) {
      out.failed(kind, name, "workload", "readable JSON", document.error().detail.view());
      continue;
    }
    auto p = berth::read_dag(*document, name);
    if (!p) {
      out.failed(kind, name, "workload", "a graph", p.error().detail.view());
      continue;
    }
    p->accelerators = r->accelerators;
    if (expert) check_expert(*p, expert_file(file), *r->expert, name + "#expert", out);
    if (optimum) check_optimum(*p, r->optimum, name, out);
  }
}

}  // namespace golden
