// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

// Not exported: the name rules of this module.
export module berth.formats:name_pattern;

namespace berth {

/// What the holes of a pattern stood for.
struct name_holes {
  std::array<std::string_view, 2> rest{};  ///< the first and second "**"
  std::string_view layer;                  ///< "{i}"
  std::string_view expert;                 ///< "{e}"
};

/// Matches a dotted name. A pattern is dotted too; its component "**" stands for any number of components (none
/// included, at most two of them), "{i}" and "{e}" for one decimal number, everything else for itself.
std::optional<name_holes> match_name(std::string_view pattern, std::string_view name);

/// The name that a pattern gives with these holes.
std::string fill_name(std::string_view pattern, const name_holes& holes);

}  // namespace berth
