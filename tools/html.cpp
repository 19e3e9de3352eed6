// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>

module berth.tool;

import berth;

namespace tool {
namespace {

/// Bytes of the UTF-8 sequence at `at`, 0 if it is broken.
std::size_t sequence_length(std::string_view s, std::size_t at) {
  const auto byte = [&](std::size_t i) { return i < s.size() ? static_cast<unsigned char>(s[i]) : 0u; };
  const auto first = byte(at);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xf0 && first < 0xf5 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 0;
  if (length == 0 || first >= 0xf5) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(at + i) & 0xc0) != 0x80) return 0;
  const auto second = byte(at + 1);
  const bool outside = (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
                       (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f);
  return outside ? 0 : length;
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const auto length = sequence_length(text, i);
    const auto c = static_cast<unsigned char>(text[i]);
    if (length == 0 || (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
      out += "\xef\xbf\xbd";
    else if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\'')
      out += "&#39;";
    else
      out += text.substr(i, length);
    i += length == 0 ? 1 : length;
  }
  return out;
}

std::string device_words(const berth::device& d, bool model) {
  std::string out(d.id.view());
  if (d.kind == berth::device_kind::gpu) out = "GPU " + out;
  if (d.kind == berth::device_kind::cpu) out = "CPU";
  if (model && !d.model.empty()) out.append(" (").append(d.model.view()).append(")");
  return out;
}

std::string shown_ms(double seconds) {
  if (!(seconds < berth::forever)) return "never";
  if (seconds >= 10) return fmt::format("{:.1f} s", seconds);
  const double ms = seconds * 1e3;
  if (ms >= 99.995) return fmt::format("{:.0f} ms", ms);
  if (ms >= 0.9995 || ms == 0) return fmt::format("{:.2f} ms", ms);
  return fmt::format("{:.3g} ms", ms);
}

std::string shown_gib(berth::bytes n) {
  if (n > 0 && n < berth::GiB / 200) return "&lt; 0.01 GiB";
  return fmt::format("{:.2f} GiB", static_cast<double>(n) / static_cast<double>(berth::GiB));
}

std::string shown_percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

}  // namespace tool
