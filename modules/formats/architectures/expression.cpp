// SPDX-License-Identifier: Apache-2.0
// Arithmetic of entries: a recursive-descent evaluator over doubles. Truth is "not 0"; "/" divides and rounds down,
// as Python's "//". Branches that are not taken are parsed, not evaluated.
module;

#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

module berth.formats;

import :architecture_entry;

namespace berth::architectures {

class expression {
 public:
  expression(scope& s, std::string_view text, unsigned depth) : scope_(s), text_(text), depth_(depth) {}

  double value() {
    const double v = either();
    if (at_ != text_.size()) fail_here("unexpected text");
    return live_ && !failed_ ? v : 0;
  }

 private:
  void skip_blanks() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  bool take(std::string_view token) {
    skip_blanks();
    if (text_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    skip_blanks();
    return true;
  }
  void fail_here(std::string_view why) {
    if (failed_) return;
    failed_ = true;
    scope_.note(errc::invalid_argument, scope_.entry().types,
                std::string("the entry's expression \"").append(text_).append("\": ").append(why));
  }

  double either() {
    double v = both();
    while (take("||")) {
      const quiet q(*this, v != 0);
      const double w = both();
      v = v != 0 || w != 0 ? 1 : 0;
    }
    return v;
  }
  double both() {
    double v = comparison();
    while (take("&&")) {
      const quiet q(*this, v == 0);
      const double w = comparison();
      v = v != 0 && w != 0 ? 1 : 0;
    }
    return v;
  }
  double comparison() {
    const double v = sum();
    if (take("==")) return v == sum() ? 1 : 0;
    if (take("!=")) return v != sum() ? 1 : 0;
    if (take("<=")) return v <= sum() ? 1 : 0;
    if (take(">=")) return v >= sum() ? 1 : 0;
    if (take("<")) return v < sum() ? 1 : 0;
    if (take(">")) return v > sum() ? 1 : 0;
    return v;
  }
  double sum() {
    double v = term();
    while (true) {
      if (take("+"))
        v += term();
      else if (take("-"))
        v -= term();
      else
        return v;
    }
  }
  double term() {
    double v = factor();
    while (true) {
      if (take("*"))
        v *= factor();
      else if (take("/"))
        v = divided(v, factor(), false);
      else if (take("%"))
        v = divided(v, factor(), true);
      else
        return v;
    }
  }
  double divided(double a, double b, bool rest) {
    if (!live_) return 0;
    if (b == 0) {
      scope_.note(errc::malformed, scope_.entry().types,
                  std::string("the config makes \"").append(text_).append("\" divide by zero"));
      return 0;
    }
    const double whole = std::floor(a / b);
    return rest ? a - whole * b : whole;
  }
  double factor() {
    // "!=" belongs to the comparison level.
    skip_blanks();
    if (text_.substr(at_, 2) != "!=" && take("!")) return factor() == 0 ? 1 : 0;
    if (take("-")) return -factor();
    if (take("(")) {
      const double v = either();
      if (!take(")")) fail_here("a closing bracket is missing");
      return v;
    }
    return primary();
  }

  static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
  }
  double primary() {
    skip_blanks();
    const auto begin = at_;
    while (at_ < text_.size() && is_word(text_[at_])) ++at_;
    const auto token = text_.substr(begin, at_ - begin);
    if (token.empty()) {
      fail_here("a value is missing");
      at_ = text_.size();
      return 0;
    }
    if (token[0] >= '0' && token[0] <= '9') return literal(token);
    if (at_ < text_.size() && text_[at_] == '(') return call(token);
    skip_blanks();
    return live_ ? scope_.lookup(token, depth_ + 1) : 0;
  }
  double literal(std::string_view token) {
    double v = 0;
    const auto end = std::from_chars(token.data(), token.data() + token.size(), v);
    if (end.ec != std::errc{} || end.ptr != token.data() + token.size()) fail_here("not a number");
    skip_blanks();
    return v;
  }

  /// The text of the arguments; `at_` moves behind the closing bracket.
  std::vector<std::string_view> arguments() {
    const auto begin = ++at_;
    int depth = 1;
    while (at_ < text_.size() && depth > 0) {
      if (text_[at_] == '(') ++depth;
      if (text_[at_] == ')') --depth;
      ++at_;
    }
    if (depth != 0) {
      fail_here("a closing bracket is missing");
      return {};
    }
    const auto inner = text_.substr(begin, at_ - 1 - begin);
    skip_blanks();
    return split(inner, ',');
  }
  double nested_value(std::string_view text) { return expression(scope_, text, depth_ + 1).value(); }

  double call(std::string_view name) {
    const auto args = arguments();
    if (!live_ || failed_) return 0;
    if (depth_ > 64) {
      fail_here("nested too deep");
      return 0;
    }
    if (name == "if" && args.size() == 3) return nested_value(nested_value(args[0]) != 0 ? args[1] : args[2]);
    if (name == "int" && args.size() == 1) return std::trunc(nested_value(args[0]));
    if (name == "max" && args.size() == 2) return std::fmax(nested_value(args[0]), nested_value(args[1]));
    if (const auto v = scope_.query(name, args, depth_ + 1)) return *v;
    fail_here(std::string("no function \"").append(name).append("\" with so many arguments"));
    return 0;
  }

  /// Turns evaluation off while a branch that does not count is parsed.
  struct quiet {
    quiet(expression& e, bool off) : owner(e), before(e.live_) {
      if (off) e.live_ = false;
    }
    ~quiet() { owner.live_ = before; }
    quiet(const quiet&) = delete;
    quiet& operator=(const quiet&) = delete;
    expression& owner;
    bool before;
  };

  scope& scope_;
  std::string_view text_;
  std::size_t at_ = 0;
  unsigned depth_;
  bool live_ = true;
  bool failed_ = false;
};

double scope::evaluate(std::string_view text, unsigned depth) {
  if (problem_) return 0;
  if (depth > 64) {
    note(errc::invalid_argument, family_->types,
         std::string("the entry's values refer to themselves at ").append(text));
    return 0;
  }
  return expression(*this, trim(text), depth).value();
}

double scope::number(std::string_view text) { return evaluate(text, 0); }

std::uint64_t scope::count(std::string_view text, std::uint64_t limit) {
  const double v = number(text);
  if (problem_) return 0;
  if (!(v >= 0) || v != std::floor(v) || v > static_cast<double>(limit)) {
    note(errc::malformed, what_,
         std::string("the size \"").append(text).append("\" comes out as ") + std::to_string(v) +
             ", which no model can have; check the config's numbers");
    return 0;
  }
  return static_cast<std::uint64_t>(v);
}

}  // namespace berth::architectures
