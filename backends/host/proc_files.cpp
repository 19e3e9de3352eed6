// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <ios>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

module berth.host;

namespace berth::host {

std::string read_text(const std::string& root, std::string_view path) {
  constexpr std::streamsize most = 8 << 20;
  std::ifstream file(root + std::string(path), std::ios::binary);
  std::string out;
  // Files of /proc have no size: read until they end.
  for (std::streamsize have = 0; file && have < most;) {
    constexpr std::streamsize step = 1 << 16;
    out.resize(static_cast<std::size_t>(have + step));
    file.read(out.data() + have, step);
    have += file.gcount();
    out.resize(static_cast<std::size_t>(have));
  }
  return out;
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    out.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

std::optional<std::uint64_t> number_at(std::string_view s) {
  const auto begin = s.find_first_not_of(" \t");
  if (begin == std::string_view::npos || s[begin] < '0' || s[begin] > '9') return std::nullopt;
  std::uint64_t n = 0;
  for (auto i = begin; i < s.size() && s[i] >= '0' && s[i] <= '9'; ++i) {
    const auto digit = static_cast<std::uint64_t>(s[i] - '0');
    if (n > (std::numeric_limits<std::uint64_t>::max() - digit) / 10) return std::nullopt;
    n = n * 10 + digit;
  }
  return n;
}

std::optional<std::uint64_t> entry(std::string_view text, std::string_view key) {
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    const auto line = text.substr(at, end - at);
    if (line.substr(0, key.size()) == key)
      if (auto n = number_at(line.substr(key.size()))) return n;
    at = end + 1;
  }
  return std::nullopt;
}

int cpu_count(std::string_view list) {
  std::uint64_t count = 0;
  for (std::size_t at = 0; at < list.size();) {
    const auto end = std::min(list.find(',', at), list.size());
    const auto part = list.substr(at, end - at);
    const auto dash = part.find('-');
    const auto first = number_at(part);
    const auto last = dash == std::string_view::npos ? first : number_at(part.substr(dash + 1));
    if (first && last && *last >= *first && *last < 1u << 20) count += *last - *first + 1;
    at = end + 1;
  }
  return static_cast<int>(std::min<std::uint64_t>(count, 1u << 20));
}

}  // namespace berth::host
