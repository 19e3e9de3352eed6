// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

module berth.formats;

import :name_pattern;

namespace berth {
namespace {

/// Takes the first component off a dotted name.
std::string_view take(std::string_view& s) {
  const auto dot = s.find('.');
  const auto head = s.substr(0, dot);
  s.remove_prefix(dot == std::string_view::npos ? s.size() : dot + 1);
  return head;
}

bool is_number(std::string_view s) {
  return !s.empty() && s.size() <= 9 && (s.size() == 1 || s.front() != '0') &&
         std::ranges::all_of(s, [](char c) { return c >= '0' && c <= '9'; });
}

/// Recursion is as deep as the pattern has components, whatever the name.
bool match_rest(std::string_view pattern, std::string_view name, std::size_t stars, name_holes& out) {
  while (!pattern.empty()) {
    const auto part = take(pattern);
    if (part == "**") {
      if (pattern.empty()) {
        out.rest[stars] = name;
        return true;
      }
      for (auto left = name; !left.empty(); take(left)) {
        if (!match_rest(pattern, left, stars + 1, out)) continue;
        const auto taken = name.size() - left.size();
        out.rest[stars] = name.substr(0, taken == 0 ? 0 : taken - 1);
        return true;
      }
      return false;
    }
    if (name.empty()) return false;
    const auto word = take(name);
    if (part == "{i}" || part == "{e}") {
      if (!is_number(word)) return false;
      (part == "{i}" ? out.layer : out.expert) = word;
    } else if (part != word) {
      return false;
    }
  }
  return name.empty();
}

}  // namespace

std::optional<name_holes> match_name(std::string_view pattern, std::string_view name) {
  name_holes out;
  if (name.empty() || !match_rest(pattern, name, 0, out)) return std::nullopt;
  return out;
}

std::string fill_name(std::string_view pattern, const name_holes& holes) {
  std::string out;
  std::size_t stars = 0;
  while (!pattern.empty()) {
    const auto part = take(pattern);
    const auto word = part == "**"    ? holes.rest[stars++]
                      : part == "{i}" ? holes.layer
                      : part == "{e}" ? holes.expert
                                      : part;
    if (word.empty()) continue;
    if (!out.empty()) out += '.';
    out += word;
  }
  return out;
}

}  // namespace berth
