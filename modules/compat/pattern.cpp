// SPDX-License-Identifier: Apache-2.0
module;

#include <re2/re2.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.compat;

import berth.base;
import :pattern;

namespace berth::hf {

struct prefix_pattern::compiled {
  compiled(const std::string& text, const RE2::Options& options) : expression(text, options) {}
  RE2 expression;
};

namespace {

constexpr std::int64_t max_compiled_bytes = std::int64_t{256} << 20;

/// Why a pattern means something else in RE2 than in Python, or nothing.
std::optional<std::string_view> difference(std::string_view pattern) {
  constexpr std::string_view same_escapes = "AbBdDsSwWafnrtv";
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const auto rest = pattern.substr(i);
    if (static_cast<unsigned char>(pattern[i]) >= 0x80 || pattern[i] == '\0') continue;
    if (pattern[i] == '\\') {
      if (rest.size() < 2) return "it ends in a backslash";
      const char c = rest[1];
      const bool letter_or_digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      if (letter_or_digit && same_escapes.find(c) == std::string_view::npos)
        return "it has a backslash escape that only one of Python and RE2 knows";
      ++i;
    } else if (rest.substr(0, 2) == "(?" && rest.substr(0, 3) != "(?:" && rest.substr(0, 4) != "(?P<") {
      return "it has a group of the kind \"(?\" other than \"(?:\"";
    } else if (rest.substr(0, 2) == "{,") {
      return "a repetition without a lower bound; write {0,n}";
    } else if (rest.substr(0, 2) == "[[" || rest.substr(0, 3) == "[^[") {
      return "a bracket inside a character set; escape it";
    } else if (rest.substr(0, 2) == "[]" || rest.substr(0, 3) == "[^]") {
      return "a closing bracket at the start of a character set; escape it";
    }
  }
  return std::nullopt;
}

RE2::Options options() {
  RE2::Options o(RE2::Quiet);
  o.set_max_mem(max_compiled_bytes);
  return o;
}

}  // namespace

prefix_pattern::prefix_pattern(std::unique_ptr<compiled> c) : compiled_(std::move(c)) {}
prefix_pattern::prefix_pattern(prefix_pattern&&) noexcept = default;
prefix_pattern& prefix_pattern::operator=(prefix_pattern&&) noexcept = default;
prefix_pattern::~prefix_pattern() = default;

result<prefix_pattern> prefix_pattern::compile(const std::vector<std::string>& alternatives) {
  std::string joined;
  for (const auto& a : alternatives) {
    const auto why = difference(a);
    if (why)
      return fail(errc::unsupported, a, "the peer reads this name as a regular expression, and " + std::string(*why));
    if (!RE2(a, RE2::Quiet).ok())
      return fail(errc::unsupported, a,
                  "the peer reads this name as a regular expression, and RE2 does not accept it: " +
                      RE2(a, RE2::Quiet).error());
    if (!joined.empty()) joined += '|';
    joined.append("(?:").append(a).append(")");
  }
  // The outer group is what a match is read from; "." stands for any character but a newline, as in Python.
  auto c = std::make_unique<compiled>("(" + joined + ")", options());
  if (!c->expression.ok())
    return fail(errc::unsupported, "device map",
                "its keys are too many for one regular expression: " + c->expression.error());
  return prefix_pattern(std::move(c));
}

std::optional<std::string_view> prefix_pattern::match(std::string_view text) const {
  re2::StringPiece whole(text.data(), text.size()), group;
  if (!compiled_->expression.Match(whole, 0, text.size(), RE2::ANCHOR_START, &group, 1)) return std::nullopt;
  return text.substr(0, group.size());
}

}  // namespace berth::hf
