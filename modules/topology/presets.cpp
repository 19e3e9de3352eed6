// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.topology;

namespace berth {
namespace {

/// A machine whose name does not follow the rule `NxMODEL`.
struct special {
  std::string_view name;
  std::string_view gpu;  ///< "" for none
  std::size_t count;
  const host_spec& host;
};

constexpr std::array<special, 5> specials{{{"cpu-only", "", 0, hosts::desktop},
                                           {"gb200-tray", "gb200", 4, hosts::grace_pair},
                                           {"gh200", "gh200", 1, hosts::grace},
                                           {"jetson-orin-64g", "orin-64g", 1, hosts::orin},
                                           {"laptop-4070", "4070-laptop", 1, hosts::laptop}}};

constexpr std::array<std::string_view, 37> ruled{
    "1x3090",     "2x3090",   "2x3090-nvlink", "4x3090",     "8x3090",     "1x4090",     "2x4090",     "4x4090",
    "8x4090",     "1x5090",   "2x5090",        "4x5090",     "8x5090",     "1xa6000",    "2xa6000",    "4xa6000",
    "1xl4",       "1xl40s",   "4xl40s",        "8xl40s",     "1xa100-80g", "2xa100-80g", "4xa100-80g", "8xa100-80g",
    "8xa100-40g", "1xh100",   "2xh100",        "4xh100",     "8xh100",     "1xh200",     "4xh200",     "8xh200",
    "8xb200",     "8xmi300x", "1xt4",          "8xv100-32g", "4xpro6000"};

/// One "NxMODEL" of a name.
struct group {
  std::size_t count = 0;
  gpu_spec gpu{};
};

std::optional<group> parse_group(std::string_view s) {
  constexpr std::string_view bridge = "-nvlink";
  bool linked = false;
  if (s.size() > bridge.size() && s.substr(s.size() - bridge.size()) == bridge) {
    linked = true;
    s.remove_suffix(bridge.size());
  }
  std::size_t digits = 0, count = 0;
  while (digits < s.size() && digits < 2 && s[digits] >= '0' && s[digits] <= '9')
    count = count * 10 + static_cast<std::size_t>(s[digits++] - '0');
  if (digits == 0 || digits == s.size() || (s[digits] != 'x' && s[digits] != 'X') || count == 0) return std::nullopt;
  const auto* gpu = find_gpu(s.substr(digits + 1));
  // One-package machines have names of their own: their host is not a choice.
  if (gpu == nullptr || gpu->host != host_link::pcie) return std::nullopt;
  if (linked && (count != 2 || gpu->peer_links == 0)) return std::nullopt;
  group g{count, *gpu};
  if (linked) g.gpu.peer = peer_link::port;
  return g;
}

std::optional<topology> ruled_box(std::string_view name) {
  std::vector<gpu_spec> gpus;
  std::string_view rest = name;
  for (;;) {
    const auto plus = rest.find('+');
    const auto g = parse_group(rest.substr(0, plus));
    if (!g || gpus.size() + g->count > max_box_gpus) return std::nullopt;
    gpus.insert(gpus.end(), g->count, g->gpu);
    if (plus == std::string_view::npos) break;
    rest.remove_prefix(plus + 1);
  }
  topology t;
  build_box(t, gpus, usual_host(gpus));
  return t;
}

/// Levenshtein distance; the names are short.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t k = 0; k <= b.size(); ++k) row[k] = k;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t k = 1; k <= b.size(); ++k) {
      const auto above = row[k];
      row[k] = std::min({above + 1, row[k - 1] + 1, diagonal + (a[i - 1] == b[k - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

failure unknown_preset(std::string_view name) {
  std::vector<std::pair<std::size_t, std::string>> near;
  const auto probe = name.substr(0, 64);
  for (auto& n : preset_names()) near.emplace_back(distance(probe, n), std::move(n));
  std::sort(near.begin(), near.end());
  text<416> why("no such preset; the nearest are ");
  for (std::size_t i = 0; i < 3; ++i) why.append(i == 0 ? "" : ", ").append(near[i].second);
  return fail(errc::unknown_device, name, why.append("; \"berth topology --help\" lists all"));
}

}  // namespace

result<topology> preset(std::string_view name) {
  for (const auto& s : specials) {
    if (s.name != name) continue;
    topology t;
    std::vector<gpu_spec> gpus;
    if (s.count > 0) gpus.assign(s.count, *find_gpu(s.gpu));
    build_box(t, gpus, s.host);
    t.name = s.name;
    return t;
  }
  if (auto t = ruled_box(name)) {
    t->name = name;
    return *std::move(t);
  }
  return unknown_preset(name);
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names(ruled.begin(), ruled.end());
  for (const auto& s : specials) names.emplace_back(s.name);
  return names;
}

}  // namespace berth
