// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <charconv>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.compat;

import berth.model;
import :nodes;

namespace berth::hf {

device_key device_key::parse(std::string_view text) {
  std::int64_t index = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), index);
  if (status == std::errc{} && end == text.data() + text.size()) return accelerator(index);
  return named(text);
}

namespace {

/// Order in which everything below a module is contiguous: "." sorts before every other character.
bool subtree_order(const mapping& a, const mapping& b) {
  return std::lexicographical_compare(a.name.begin(), a.name.end(), b.name.begin(), b.name.end(), [](char x, char y) {
    const auto rank = [](char c) { return c == '.' ? -1 : static_cast<int>(static_cast<unsigned char>(c)); };
    return rank(x) < rank(y);
  });
}

/// Keys [begin, end) of the sorted map that lie below a module; `depth` is where the next name component starts.
struct key_range {
  std::size_t begin, end, depth;
};

bool one_device(const device_map& map, const key_range& r) {
  for (auto i = r.begin + 1; i < r.end; ++i)
    if (map[i].device != map[r.begin].device) return false;
  return r.end - r.begin > 1;
}

/// The device of the nearest key going up from `name`; "" is tried last.
const device_key* nearest(const std::unordered_map<std::string_view, const device_key*>& keys, std::string_view name) {
  while (true) {
    if (const auto it = keys.find(name); it != keys.end()) return it->second;
    if (name.empty()) return nullptr;
    const auto dot = name.rfind('.');
    name = dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
  }
}

std::string listed(const std::vector<std::string>& names, std::size_t most) {
  std::string s;
  for (std::size_t i = 0; i < names.size() && i < most; ++i) s += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > most) s += " and " + std::to_string(names.size() - most) + " more";
  return s;
}

}  // namespace

namespace accelerate {

device_map clean_device_map(device_map map) {
  if (!std::is_sorted(map.begin(), map.end(), subtree_order)) std::sort(map.begin(), map.end(), subtree_order);
  device_map cleaned;
  std::vector<key_range> open{{0, map.size(), 0}};
  while (!open.empty()) {
    auto r = open.back();
    open.pop_back();
    if (one_device(map, r)) {
      auto name = map[r.begin].name.substr(0, r.depth == 0 ? 0 : r.depth - 1);
      if (!cleaned.empty() && cleaned.back().name == name)
        cleaned.back().device = map[r.begin].device;
      else
        cleaned.push_back({std::move(name), map[r.begin].device});
      continue;
    }
    // Keys that end here stay; the others are grouped by their next component. Groups are visited in sorted order.
    std::vector<key_range> groups;
    for (auto i = r.begin; i < r.end;) {
      const auto dot = map[i].name.find('.', r.depth);
      if (dot == std::string::npos) {
        groups.push_back({i, i + 1, std::string::npos});
        ++i;
        continue;
      }
      const auto prefix = std::string_view(map[i].name).substr(0, dot + 1);
      auto end = i + 1;
      while (end < r.end && std::string_view(map[end].name).substr(0, dot + 1) == prefix) ++end;
      groups.push_back({i, end, dot + 1});
      i = end;
    }
    if (groups.size() == 1 && groups.front().depth == std::string::npos) {
      cleaned.push_back(std::move(map[groups.front().begin]));
      continue;
    }
    for (auto g = groups.rbegin(); g != groups.rend(); ++g) open.push_back(*g);
  }
  return cleaned;
}

verdict check_device_map(const module_tree& tree, const device_map& map) {
  verdict v;
  std::unordered_set<std::string_view> keys;
  for (const auto& m : map) keys.insert(m.name);
  std::unordered_set<std::string_view> modules;
  for (const auto& m : tree.modules())
    if (!m.is_alias()) modules.insert(m.name);
  std::vector<std::string> invalid;
  for (const auto& m : map)
    if (!m.name.empty() && !modules.contains(m.name)) invalid.push_back(m.name);
  if (!invalid.empty())
    v.warnings.push_back({warning_kind::invalid_keys,
                          "The device map has keys that are not modules of the model: " + listed(invalid, 8) + "."});
  if (keys.contains("")) return v;
  const auto covered = [&](std::string_view name) {
    for (auto end = name.size();; end = name.rfind('.', end - 1)) {
      if (end == std::string_view::npos) return false;
      if (keys.contains(name.substr(0, end))) return true;
      if (end == 0) return false;
    }
  };
  std::vector<std::string> uncovered;
  const auto walked = visit_registered(tree, [&](std::string_view name, const tensor& t, bool) {
    if (t.persistent && !covered(name)) uncovered.emplace_back(name);
  });
  if (!walked) v.refusal = walked.error();
  if (!uncovered.empty())
    v.refusal = fail(errc::uncovered, "ValueError",
                     "the device map gives no device to " + std::to_string(uncovered.size()) +
                         " tensors (map them, or add the key \"\"): " + listed(uncovered, 6))
                    .why;
  return v;
}

verdict check_tied_parameters_on_same_device(const std::vector<std::vector<std::string>>& groups,
                                             const device_map& map) {
  verdict v;
  if (groups.empty()) return v;
  std::unordered_map<std::string_view, const device_key*> keys;
  for (const auto& m : map) keys.emplace(m.name, &m.device);
  for (const auto& group : groups) {
    const device_key* first = nullptr;
    bool several = false;
    for (const auto& name : group) {
      const auto* device = nearest(keys, name);
      if (device == nullptr) {
        v.refusal = fail(errc::uncovered, "ValueError",
                         "the tied parameter \"" + name + "\" has no device in the map; map one of its modules")
                        .why;
        return v;
      }
      if (first == nullptr) first = device;
      several = several || *device != *first;
    }
    if (several)
      v.warnings.push_back({warning_kind::tied_on_different_devices,
                            "The tied parameters " + listed(group, 8) + " are mapped to different devices."});
  }
  return v;
}

}  // namespace accelerate
}  // namespace berth::hf
