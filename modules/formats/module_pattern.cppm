// SPDX-License-Identifier: Apache-2.0
module;

#include <string_view>

export module berth.formats:module_pattern;

export namespace berth {

/// True if `pattern` with shell wildcards ("*" any text, "?" one character) is the whole of `name`. Quadratic at
/// worst.
bool matches_wildcard(std::string_view pattern, std::string_view name);

/// Answer of `matches_expression`; patterns outside the subset are reported, not guessed.
enum class expression_match { no, yes, not_supported };

/// Matches a regular expression at the start of `name`, as Python's `re.match` does. The subset that quantization
/// configs use: literals, ".", "\." and other escaped punctuation, "\d", "\w", "[...]", "*", "+", "?" (also lazy),
/// "(...)", "(?:...)", "|", "^" and "$". Look-around, back-references and counted repeats are not supported. Time is
/// the product of both lengths at worst: no backtracking.
expression_match matches_expression(std::string_view pattern, std::string_view name);

}  // namespace berth
