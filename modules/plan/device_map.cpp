// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.plan;

namespace berth {

device_map device_map_of(const plan& p) {
  device_map out;
  out.reserve(p.atoms.size());
  for (std::size_t i = 0; i < p.atoms.size(); ++i)
    out.emplace_back(std::string(p.atoms[i].name), p.devices[p.placements[i].home].id);
  return out;
}

namespace {

/// What lies below one prefix.
struct below {
  std::size_t keys = 0;
  std::optional<device_id> device;  ///< absent once two devices were seen
  void add(const device_id& d) {
    if (keys++ == 0)
      device = d;
    else if (device && !(*device == d))
      device.reset();
  }
};

}  // namespace

device_map collapse(const device_map& map) {
  std::map<std::string_view, below> prefixes;
  const auto each_prefix = [](std::string_view key, auto&& visit) {
    visit(std::string_view());
    for (auto dot = key.find('.'); dot != std::string_view::npos; dot = key.find('.', dot + 1))
      visit(key.substr(0, dot));
  };
  for (const auto& [key, device] : map)
    each_prefix(key, [&, d = device](std::string_view prefix) { prefixes[prefix].add(d); });
  device_map out;
  std::map<std::string_view, bool> written;
  for (const auto& [key, device] : map) {
    std::string_view chosen = key;
    bool found = false;
    each_prefix(key, [&](std::string_view prefix) {
      if (found) return;
      const auto& b = prefixes[prefix];
      if (!b.device || b.keys < 2) return;
      chosen = prefix;
      found = true;
    });
    if (!written.emplace(chosen, true).second) continue;
    out.emplace_back(std::string(chosen), device);
  }
  return out;
}

}  // namespace berth
