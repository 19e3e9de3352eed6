// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

module berth.compat;

import berth.model;
import :pattern;

namespace berth::hf::transformers {
namespace {

/// A key with what the peer sorts by: dots and characters (not bytes), both descending, then the order in the map.
struct ranked_key {
  std::ptrdiff_t dots, characters;
  std::size_t position;

  ranked_key(const std::string& key, std::size_t at)
      : dots(std::count(key.begin(), key.end(), '.')),
        characters(std::count_if(key.begin(), key.end(), [](char c) { return (c & 0xc0) != 0x80; })),
        position(at) {}
  bool operator<(const ranked_key& o) const {
    return std::tie(o.dots, o.characters, position) < std::tie(dots, characters, o.position);
  }
};

}  // namespace

result<device_map> expand_device_map(const std::optional<hf::device_map>& map, const std::vector<std::string>& names) {
  device_map out;
  if (!map) {
    for (const auto& name : names) out.push_back({name, device_key::named("cpu")});
    return out;
  }
  std::unordered_map<std::string_view, const device_key*> devices;
  std::vector<ranked_key> order;
  for (const auto& m : *map) {
    devices.emplace(m.name, &m.device);
    order.emplace_back(m.name, order.size());
  }
  std::sort(order.begin(), order.end());
  std::vector<std::string> keys;
  for (const auto& k : order) keys.push_back((*map)[k.position].name);
  const auto pattern = prefix_pattern::compile(keys);
  if (!pattern) return pattern.propagate();
  const auto root = devices.find("");
  for (const auto& name : names) {
    const auto matched = pattern->match(name);
    const auto it = matched ? devices.find(*matched) : root;
    if (matched && it == devices.end())
      return fail(errc::peer_failure, "KeyError",
                  "the peer crashes on \"" + name + "\": keys are matched as regular expressions, the part \"" +
                      std::string(*matched) + "\" matched, but it is not a key of the map");
    out.push_back({name, it == devices.end() ? device_key::named("cpu") : *it->second});
  }
  return out;
}

}  // namespace berth::hf::transformers
