// SPDX-License-Identifier: Apache-2.0
module;

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// Internal: Python regular expressions, as far as RE2 gives the same answer.
module berth.compat:pattern;

import berth.base;

namespace berth::hf {

/// An alternation of Python patterns, matched at the start of a text as `re.match` does: the first alternative that
/// matches wins. Linear time in the text (RE2).
class prefix_pattern {
 public:
  /// Error `unsupported`, with the pattern as subject, for what RE2 cannot express or reads differently from Python.
  static result<prefix_pattern> compile(const std::vector<std::string>& alternatives);

  prefix_pattern(prefix_pattern&&) noexcept;
  prefix_pattern& operator=(prefix_pattern&&) noexcept;
  ~prefix_pattern();

  /// The text that matched, if any.
  std::optional<std::string_view> match(std::string_view text) const;

 private:
  struct compiled;
  explicit prefix_pattern(std::unique_ptr<compiled> c);
  std::unique_ptr<compiled> compiled_;
};

}  // namespace berth::hf
