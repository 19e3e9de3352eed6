// SPDX-License-Identifier: Apache-2.0
module;

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

module berth.formats;

namespace berth {
namespace {

/// Longest expression and deepest group that are compiled; real ones have a few dozen characters.
constexpr std::size_t max_expression = 1024;
constexpr int max_groups = 32;

/// One step of the machine: eat a character of a set, or go on at one or two other steps.
struct instruction {
  enum class kind : std::uint8_t { eat, split, jump, at_start, at_end, accept };
  kind what = kind::accept;
  std::size_t to = 0, or_to = 0;
  std::bitset<256> set{};
};

/// Compiles by recursive descent into a machine that is run on all states at once.
class compiler {
 public:
  explicit compiler(std::string_view pattern) : pattern_(pattern) {}

  std::optional<std::vector<instruction>> compile() {
    if (pattern_.size() > max_expression) return std::nullopt;
    alternatives(0);
    if (failed_ || at_ != pattern_.size()) return std::nullopt;
    add({instruction::kind::accept});
    return std::move(code_);
  }

 private:
  bool more() const { return !failed_ && at_ < pattern_.size(); }
  char peek() const { return pattern_[at_]; }
  std::size_t add(instruction i) {
    code_.push_back(i);
    return code_.size() - 1;
  }

  /// Makes room for one instruction in front of the code from `begin`, moving the jumps of that code.
  void insert_split(std::size_t begin) {
    code_.insert(code_.begin() + static_cast<std::ptrdiff_t>(begin), instruction{});
    for (std::size_t i = begin + 1; i < code_.size(); ++i) {
      auto& c = code_[i];
      if (c.what == instruction::kind::split || c.what == instruction::kind::jump) {
        if (c.to >= begin) ++c.to;
        if (c.or_to >= begin) ++c.or_to;
      }
    }
    code_[begin].what = instruction::kind::split;
    code_[begin].to = begin + 1;
  }

  void alternatives(int depth) {
    if (depth > max_groups) failed_ = true;
    const auto begin = code_.size();
    sequence(depth);
    while (more() && peek() == '|') {
      ++at_;
      insert_split(begin);
      const auto jump = add({instruction::kind::jump});
      code_[begin].or_to = code_.size();
      // What follows the bar ends where the first alternative jumps to.
      alternatives(depth + 1);
      code_[jump].to = code_.size();
    }
  }

  void sequence(int depth) {
    while (more() && peek() != '|' && peek() != ')') {
      const auto begin = code_.size();
      if (!atom(depth)) return;
      repeat(begin);
    }
  }

  void repeat(std::size_t begin) {
    if (!more()) return;
    const char c = peek();
    if (c == '{') failed_ = true;
    if (c != '*' && c != '+' && c != '?') return;
    ++at_;
    if (more() && peek() == '?') ++at_;  // lazy: the same names match
    if (more() && (peek() == '*' || peek() == '+' || peek() == '?')) failed_ = true;
    if (c == '+') {
      instruction again{instruction::kind::split};
      again.to = begin;
      again.or_to = code_.size() + 1;
      add(again);
      return;
    }
    insert_split(begin);
    if (c == '*') {
      instruction back{instruction::kind::jump};
      back.to = begin;
      add(back);
    }
    code_[begin].or_to = code_.size();
  }

  bool atom(int depth) {
    const char c = pattern_[at_++];
    switch (c) {
      case '(':
        return group(depth);
      case '[':
        return eat(bracket());
      case '.':
        return eat(~std::bitset<256>{});
      case '^':
        add({instruction::kind::at_start});
        return true;
      case '$':
        add({instruction::kind::at_end});
        return true;
      case '\\':
        return eat(escaped());
      case '*':
      case '+':
      case '?':
      case '{':
        failed_ = true;
        return false;
      default:
        return eat(single(c));
    }
  }

  bool group(int depth) {
    if (more() && peek() == '?') {
      if (pattern_.substr(at_, 2) != "?:") {
        failed_ = true;
        return false;
      }
      at_ += 2;
    }
    alternatives(depth + 1);
    if (!more() || peek() != ')') failed_ = true;
    ++at_;
    return !failed_;
  }

  bool eat(const std::bitset<256>& set) {
    instruction i{instruction::kind::eat};
    i.set = set;
    add(i);
    return !failed_;
  }

  static std::bitset<256> single(char c) { return std::bitset<256>{}.set(static_cast<unsigned char>(c)); }

  static void add_range(std::bitset<256>& set, char first, char last) {
    for (int c = static_cast<unsigned char>(first); c <= static_cast<unsigned char>(last); ++c)
      set.set(static_cast<std::size_t>(c));
  }

  std::bitset<256> escaped() {
    std::bitset<256> set{};
    if (!more()) {
      failed_ = true;
      return set;
    }
    const char c = pattern_[at_++];
    if (c == 'd' || c == 'w') add_range(set, '0', '9');
    if (c == 'w') {
      add_range(set, 'a', 'z');
      add_range(set, 'A', 'Z');
      set.set('_');
    }
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter && set.none()) failed_ = true;  // \b, \s, \1 ...
    return letter ? set : single(c);
  }

  std::bitset<256> bracket() {
    std::bitset<256> set{};
    const bool negated = more() && peek() == '^';
    if (negated) ++at_;
    bool first = true;
    while (more() && (peek() != ']' || first)) {
      first = false;
      const char c = pattern_[at_++];
      if (c == '\\') {
        set |= escaped();
      } else if (at_ + 1 < pattern_.size() && pattern_[at_] == '-' && pattern_[at_ + 1] != ']') {
        add_range(set, c, pattern_[at_ + 1]);
        at_ += 2;
      } else {
        set |= single(c);
      }
    }
    if (!more()) failed_ = true;
    ++at_;
    return negated ? ~set : set;
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  bool failed_ = false;
  std::vector<instruction> code_;
};

/// The states that are reachable without eating a character; true once "accept" is among them.
bool reach(const std::vector<instruction>& code, std::size_t from, std::size_t position, std::size_t length,
           std::vector<bool>& seen, std::vector<std::size_t>& states) {
  std::vector<std::size_t> todo{from};
  while (!todo.empty()) {
    const auto s = todo.back();
    todo.pop_back();
    if (seen[s]) continue;
    seen[s] = true;
    const auto& i = code[s];
    switch (i.what) {
      case instruction::kind::accept:
        return true;
      case instruction::kind::eat:
        states.push_back(s);
        break;
      case instruction::kind::split:
        todo.push_back(i.or_to);
        todo.push_back(i.to);
        break;
      case instruction::kind::jump:
        todo.push_back(i.to);
        break;
      case instruction::kind::at_start:
        if (position == 0) todo.push_back(s + 1);
        break;
      case instruction::kind::at_end:
        if (position == length) todo.push_back(s + 1);
        break;
    }
  }
  return false;
}

}  // namespace

bool matches_wildcard(std::string_view pattern, std::string_view name) {
  std::size_t p = 0, n = 0, star = std::string_view::npos, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

expression_match matches_expression(std::string_view pattern, std::string_view name) {
  const auto code = compiler(pattern).compile();
  if (!code) return expression_match::not_supported;
  std::vector<std::size_t> states, next;
  std::vector<bool> seen(code->size());
  if (reach(*code, 0, 0, name.size(), seen, states)) return expression_match::yes;
  for (std::size_t n = 0; n < name.size() && !states.empty(); ++n) {
    next.clear();
    seen.assign(code->size(), false);
    for (const auto s : states)
      if ((*code)[s].set.test(static_cast<unsigned char>(name[n])) &&
          reach(*code, s + 1, n + 1, name.size(), seen, next))
        return expression_match::yes;
    std::swap(states, next);
  }
  return expression_match::no;
}

}  // namespace berth
