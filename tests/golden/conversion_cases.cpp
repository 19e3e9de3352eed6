// SPDX-License-Identifier: Apache-2.0
// Conversions: the names, shapes and ranges that save_pretrained writes, reproduced from the module tree alone, and
// the way back.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kinds.hpp"
#include "report.hpp"

namespace golden {

namespace {

constexpr std::string_view kind = "conversion";

/// One stored tensor as text, so that a difference can be printed: "lm_head.weight [96, 32] float32 [[0, 96] ...".
std::string describe(std::string_view tensor, const berth::json::value& shape, std::string_view type,
                     const berth::json::value& range, bool transposed) {
  return std::string(tensor)
      .append(" ")
      .append(berth::json::write(shape))
      .append(" ")
      .append(type)
      .append(" ")
      .append(berth::json::write(range))
      .append(transposed ? " transposed" : "");
}

std::string describe(const berth::conversion& c, std::span<const std::uint64_t> shape, std::string_view type) {
  berth::json::array dims, range;
  for (const auto d : shape) dims.emplace_back(d);
  for (const auto& s : c.range) {
    berth::json::array one{s.begin, s.end};
    if (s.step != 1) one.emplace_back(s.step);
    range.emplace_back(std::move(one));
  }
  return describe(c.tensor, std::move(dims), type, std::move(range), c.transposed);
}

std::optional<std::string> describe(const berth::json::value& saved) {
  const auto* tensor = saved.find("tensor");
  const auto* shape = saved.find("shape");
  const auto* type = saved.find("dtype");
  const auto* range = saved.find("range");
  const auto* transposed = saved.find("transposed");
  if (tensor == nullptr || !tensor->if_string() || shape == nullptr || type == nullptr || !type->if_string() ||
      range == nullptr)
    return std::nullopt;
  return describe(*tensor->if_string(), *shape, *type->if_string(), *range,
                  transposed != nullptr && transposed->if_bool() && *transposed->if_bool());
}

berth::result<berth::module_tree> read_tree(const std::string& path, const berth::json::value& document) {
  const auto* config = document.find("config");
  const auto* model_type = config != nullptr ? config->find("model_type") : nullptr;
  const auto* root = document.find("root");
  if (root == nullptr || model_type == nullptr) return berth::fail(berth::errc::malformed, path, "no root or config");
  return berth::read_module_tree(berth::json::object{{"format", "berth.module_tree/1"},
                                                     {"model_type", *model_type},
                                                     {"tied_weights_keys", berth::json::object{}},
                                                     {"root", *root}},
                                 path);
}

using described = std::map<std::string, std::string>;

/// Compares two maps member by member; reports the first few differences.
bool same(const described& expected, const described& got, const std::string& path, std::string_view way, report& r) {
  bool good = true;
  for (const auto& [name, value] : expected) {
    const auto it = got.find(name);
    if (it != got.end() && it->second == value) continue;
    good = false;
    r.failed(kind, path, std::string(way) + "." + name, value, it == got.end() ? "nothing" : it->second);
  }
  for (const auto& [name, value] : got)
    if (!expected.contains(name)) {
      good = false;
      r.failed(kind, path, std::string(way) + "." + name, "nothing", value);
    }
  return good;
}

}  // namespace

void run_conversion_case(const std::string& path, const berth::json::value& document, report& r) {
  if (!r.wants(kind, path)) return;
  const auto tree = read_tree(path, document);
  const auto* saved = document.find("saved");
  if (!tree || saved == nullptr || !saved->if_object()) {
    r.failed(kind, path, "root", "a module tree and a map of saved tensors",
             tree ? "no map" : tree.error().detail.view());
    return;
  }
  const auto claimed = berth::support_table();
  if (std::ranges::find(claimed, tree->model_type, &berth::supported_architecture::model_type) == claimed.end())
    return r.skipped(kind, "conversion " + tree->model_type + ": not claimed");
  described expected, written, read;
  std::map<std::string, std::string, std::less<>> type_of;
  std::vector<std::vector<std::uint64_t>> shapes;
  shapes.reserve(saved->if_object()->size());
  std::vector<berth::stored_name> stored;
  for (const auto& m : *saved->if_object()) {
    auto text = describe(m.value);
    if (!text) {
      r.failed(kind, path, m.key, "tensor, shape, dtype and range", "a member is missing");
      return;
    }
    expected.emplace(m.key, *std::move(text));
    type_of.emplace(m.key, *m.value.find("dtype")->if_string());
    auto& shape = shapes.emplace_back();
    for (const auto& d : *m.value.find("shape")->if_array()) shape.push_back(d.to_uint64().value_or(0));
    stored.push_back({m.key, std::span<const std::uint64_t>(shape)});
  }
  for (const auto& s : berth::saved_tensors(*tree))
    written.emplace(s.from.stored, describe(s.from, s.shape, berth::info_of(s.type).torch));
  const auto map = berth::map_names(*tree, stored);
  for (const auto& c : map.conversions) {
    const auto at =
        static_cast<std::size_t>(std::ranges::find(stored, c.stored, &berth::stored_name::name) - stored.begin());
    read.emplace(c.stored, describe(c, shapes[at], type_of.find(c.stored)->second));
  }
  bool good = same(expected, written, path, "saved", r);
  good = same(expected, read, path, "read", r) && good;
  for (const auto& name : map.missing) {
    good = false;
    r.failed(kind, path, "missing", "every tensor is stored", name);
  }
  for (const auto& name : map.mismatched) {
    good = false;
    r.failed(kind, path, "shape", "the shape of its place", name);
  }
  if (good) r.passed(kind);
}

}  // namespace golden
