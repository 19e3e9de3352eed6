// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.tool;

import berth;

namespace tool {

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at <= text.size();) {
    const auto comma = text.find(',', at);
    const auto part = text.substr(at, comma == std::string_view::npos ? comma : comma - at);
    if (!part.empty()) out.emplace_back(part);
    if (comma == std::string_view::npos) break;
    at = comma + 1;
  }
  return out;
}

berth::result<std::vector<std::pair<std::string, std::string>>> split_pairs(std::string_view text,
                                                                            std::string_view option) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const auto& part : split_words(text)) {
    const auto equals = part.rfind('=');
    if (equals == std::string::npos || equals + 1 == part.size())
      return berth::fail(berth::errc::invalid_argument, option,
                         berth::text<192>("\"").append(part).append("\" is not of the form NAME=VALUE"));
    out.emplace_back(part.substr(0, equals), part.substr(equals + 1));
  }
  if (out.empty()) return berth::fail(berth::errc::invalid_argument, option, "is empty; write NAME=VALUE,NAME=VALUE");
  return out;
}

berth::result<std::vector<berth::device_bytes>> parse_device_list(std::string_view text, std::string_view option) {
  auto pairs = split_pairs(text, option);
  if (!pairs) return pairs.propagate();
  std::vector<berth::device_bytes> out;
  for (const auto& [id, size] : *pairs) {
    if (!berth::device_id::fits(id))
      return berth::fail(
          berth::errc::unknown_device, option,
          berth::text<192>("\"").append(id).append("\" is not a device; write a GPU number, cpu or disk"));
    const auto amount = berth::parse_size(size);
    if (!amount)
      return berth::fail(amount.error().code, option,
                         berth::text<300>(id).append("=").append(size).append(": ").append(amount.error().detail));
    for (const auto& seen : out)
      if (seen.id == berth::device_id(id))
        return berth::fail(berth::errc::invalid_argument, option,
                           berth::text<192>("names ").append(id).append(" twice"));
    out.push_back({berth::device_id(id), *amount});
  }
  return out;
}

}  // namespace tool
