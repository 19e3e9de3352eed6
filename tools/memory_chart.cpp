// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.tool;

import berth;

namespace tool {
namespace {

struct memory_part {
  std::string_view style, words;
  berth::bytes size;
};

double gib(berth::bytes n) { return static_cast<double>(n) / static_cast<double>(berth::GiB); }

/// A round step that divides `most` into about four.
double step_for(double most) {
  double unit = std::pow(10, std::floor(std::log10(most / 4)));
  for (const double factor : {1.0, 2.0, 5.0, 10.0})
    if (most / (unit * factor) <= 5) return unit * factor;
  return most;
}

}  // namespace

std::string memory_bars(const berth::plan& p) {
  constexpr double left = 170, width = 900, row = 34, bar = 22;
  auto out = fmt::format(
      "<svg class=\"bars\" viewBox=\"0 0 1200 {:.0f}\" role=\"img\" aria-label=\"Memory that the plan uses on each "
      "device\">\n",
      row * static_cast<double>(p.uses.size()));
  double top = 4;
  for (const auto& u : p.uses) {
    const std::array parts{memory_part{"weights", "weights", u.weights + u.padding},
                           memory_part{"state", "KV and state", u.state},
                           memory_part{"workspace", "workspace", u.workspace},
                           memory_part{"staging", "staging slots", u.staging},
                           memory_part{"free", "free", u.used() < u.available() ? u.free() : 0},
                           memory_part{"reserve", "reserve", std::min(u.reserve, u.budget)}};
    const auto name = device_words(p.devices[u.device]);
    out += fmt::format("<text class=\"label\" x=\"160\" y=\"{:.1f}\">{}</text>\n", top + 16, escaped(name));
    const double whole = static_cast<double>(std::max<berth::bytes>(u.budget, 1));
    double x = left;
    for (const auto& part : parts) {
      const double w = width * std::min(1.0, static_cast<double>(part.size) / whole);
      if (part.size == 0) continue;
      out += fmt::format(
          "<rect class=\"m-{}\" x=\"{:.2f}\" y=\"{:.1f}\" width=\"{:.2f}\" height=\"{:.0f}\"><title>{}: {} "
          "{}</title></rect>\n",
          part.style, x, top, std::max(w, 0.5), bar, escaped(name), part.words, shown_gib(part.size));
      if (w > 90)
        out += fmt::format("<text class=\"inside in-{}\" x=\"{:.2f}\" y=\"{:.1f}\">{}</text>\n", part.style, x + 7,
                           top + 15.5, shown_gib(part.size));
      x += w;
    }
    out += fmt::format("<text class=\"value\" x=\"1080\" y=\"{:.1f}\">of {}</text>\n", top + 16, shown_gib(u.budget));
    top += row;
  }
  return out + "</svg>\n";
}

std::string memory_curve(const berth::plan& p, const berth::report& r, const berth::trace& t,
                         const berth::device_report& d) {
  constexpr double left = 70, width = 500, top = 16, height = 120;
  const double most = gib(std::max({d.budget, d.peak, berth::bytes{1}})) * 1.08;
  const double span = std::max(berth::seconds_from(r.end), 1e-12);
  const auto x = [&](berth::picoseconds at) { return left + width * berth::seconds_from(at) / span; };
  const auto y = [&](berth::bytes n) { return top + height * (1 - gib(n) / most); };
  auto path = fmt::format("M{:.1f} {:.1f}", left, y(0));
  berth::bytes held = 0;
  std::size_t steps = 0, changes = 0;
  for (const auto& a : t.records())
    if (a.device == d.device && (a.kind == berth::activity_kind::allocate || a.kind == berth::activity_kind::free))
      ++changes;
  if (changes == 0) return {};
  const auto every = changes / 2000 + 1;  // more than the eye can see would only make the page large
  for (const auto& a : t.records()) {
    if (a.device != d.device) continue;
    if (a.kind == berth::activity_kind::allocate)
      held += a.size;
    else if (a.kind == berth::activity_kind::free)
      held -= std::min(held, a.size);
    else
      continue;
    if (steps++ % every == 0 || held == d.peak) path += fmt::format("H{:.1f}V{:.1f}", x(a.end), y(held));
  }
  path += fmt::format("H{:.1f}", left + width);
  const auto name = escaped(device_words(p.devices[d.device], true));
  auto out = fmt::format(
      "<svg class=\"curve\" viewBox=\"0 0 600 170\" role=\"img\" aria-label=\"Memory held on {} over the run\">\n",
      name);
  const double step = step_for(most);
  for (int i = 0; i * step <= most; ++i) {
    const double at = top + height * (1 - i * step / most);
    out += fmt::format(
        "<line class=\"grid\" x1=\"{0:.0f}\" x2=\"{1:.0f}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\"/><text class=\"label\" "
        "x=\"{3:.0f}\" y=\"{4:.1f}\">{5:.4g}</text>\n",
        left, left + width, at, left - 8, at + 4, i * step);
  }
  out += fmt::format("<path class=\"area\" d=\"{0}V{1:.1f}H{2:.0f}Z\"/><path class=\"held\" d=\"{0}\"/>\n", path, y(0),
                     left);
  out += fmt::format(
      "<line class=\"budget\" x1=\"{0:.0f}\" x2=\"{1:.0f}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\"/><text class=\"budget\" "
      "x=\"{1:.0f}\" y=\"{3:.1f}\">budget {4}</text>\n",
      left, left + width, y(d.budget), y(d.budget) + 14, shown_gib(d.budget));
  out += fmt::format(
      "<text class=\"tick\" x=\"{:.0f}\" y=\"152\">0</text><text class=\"label\" x=\"{:.0f}\" y=\"152\">{}</text>"
      "<text class=\"label\" x=\"{:.0f}\" y=\"152\">GiB</text>\n",
      left, left + width, shown_ms(berth::seconds_from(r.end)), left - 8);
  return out + "</svg>\n";
}

}  // namespace tool
