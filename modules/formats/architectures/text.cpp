// SPDX-License-Identifier: Apache-2.0
// Cutting the text of entries into lines and pieces.
module;

#include <cstddef>
#include <string_view>
#include <vector>

module berth.formats;

import :architecture_entry;

namespace berth::architectures {

std::string_view trim(std::string_view text) {
  const auto begin = text.find_first_not_of(" \n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \n") - begin + 1);
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  std::size_t begin = 0;
  int depth = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || (text[i] == separator && depth == 0)) {
      if (const auto piece = trim(text.substr(begin, i - begin)); !piece.empty()) pieces.push_back(piece);
      begin = i + 1;
      continue;
    }
    if (text[i] == '(' || text[i] == '[') ++depth;
    if ((text[i] == ')' || text[i] == ']') && depth > 0) --depth;
  }
  return pieces;
}

std::vector<line> lines_of(std::string_view text) {
  std::vector<line> lines;
  while (!text.empty()) {
    const auto end = text.find('\n');
    const auto whole = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    const auto indent = whole.find_first_not_of(' ');
    if (indent != std::string_view::npos) lines.push_back({indent, trim(whole)});
  }
  return lines;
}

}  // namespace berth::architectures
