// SPDX-License-Identifier: Apache-2.0
// Golden kind "param_counts": what config.json alone must say about a checkpoint's size, and how far its index is off.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "kinds.hpp"

import berth.formats;

namespace golden {
namespace {

constexpr std::string_view kind = "param_counts";

/// Fields of a line; the last column, a free text, may be quoted and hold commas and is not compared.
std::vector<std::string> fields_of(const std::string& line, std::size_t columns) {
  std::vector<std::string> fields;
  std::size_t begin = 0;
  while (fields.size() + 1 < columns) {
    const auto comma = line.find(',', begin);
    fields.push_back(line.substr(begin, comma == std::string::npos ? comma : comma - begin));
    if (comma == std::string::npos) break;
    begin = comma + 1;
  }
  fields.resize(columns);
  return fields;
}

bool has_index(const std::filesystem::path& folder) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored))
    if (entry.path().filename().string().ends_with(".index.json")) return true;
  return false;
}

std::string number(const std::optional<berth::bytes>& n) { return n ? std::to_string(*n) : std::string("none"); }

struct row {
  std::string config, parameters, bytes, total, difference;
};

void check_row(const row& r, const std::filesystem::path& config, const std::string& name, report& out) {
  std::ifstream in(config, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const auto parsed = json::parse(text, name, {.max_depth = 256, .allow_nonfinite = true});
  if (!parsed) return out.failed(kind, name, "config", "readable JSON", parsed.error().detail.view());
  const auto built = berth::build_architecture(*parsed, {.what = name, .load = {}});
  if (!built) return out.failed(kind, name, "parameters_from_config", r.parameters, built.error().detail.view());

  std::vector<std::pair<std::string_view, std::pair<std::string, std::string>>> members;
  members.push_back({"parameters_from_config", {r.parameters, std::to_string(built->tree.element_total())}});
  if (!r.bytes.empty()) {
    const auto folder = config.parent_path();
    const auto model = berth::load_model((has_index(folder) ? folder : config).string());
    if (!model) return out.failed(kind, name, "bytes_from_config", r.bytes, model.error().detail.view());
    members.push_back({"bytes_from_config", {r.bytes, number(model->config_bytes)}});
    if (!r.total.empty()) members.push_back({"index_total_size", {r.total, number(model->index_total)}});
    if (!r.difference.empty() && model->index_total && model->config_bytes) {
      const auto gap = static_cast<std::int64_t>(*model->index_total) - static_cast<std::int64_t>(*model->config_bytes);
      members.push_back({"difference_bytes", {r.difference, std::to_string(gap)}});
    }
  }
  for (const auto& [member, values] : members)
    if (values.first != values.second) return out.failed(kind, name, member, values.first, values.second);
  out.passed(kind);
}

}  // namespace

void run_param_counts(const std::filesystem::path& csv, report& out) {
  std::ifstream in(csv);
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line)) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    const auto f = fields_of(line, 6);
    const auto name = csv.filename().string() + "#" + f[0];
    if (!out.wants(kind, name)) continue;
    const auto config = csv.parent_path().parent_path() / f[0];
    std::error_code ignored;
    if (!std::filesystem::exists(config, ignored)) {
      out.skipped(kind, "param_counts: the config is not there");
      continue;
    }
    check_row({f[0], f[1], f[2], f[3], f[4]}, config, name, out);
  }
}

}  // namespace golden
