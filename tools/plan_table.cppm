// SPDX-License-Identifier: Apache-2.0
// What a person reads.
module;

#include <string>
#include <string_view>
#include <vector>

export module berth.tool:plan_table;

import berth;

export namespace tool {

/// A plan as text: a heading, one row per device with a bar, what lies where, notes and warnings.
std::string plan_table(const berth::plan& p, std::string_view dtype, const std::vector<std::string>& notes);

/// What a plan's model is called in headings: its id, else its type.
std::string_view model_words(const berth::plan& p);

/// "13.2 ms", "1.75 s".
std::string shown_time(double seconds);
std::string shown_rate(double per_second);
/// "all placements", "interval placements".
std::string_view class_words(berth::plan_class c);

/// "model.layers.0-31" for runs of numbered names, at most `limit` pieces.
std::string shorten(const std::vector<std::string_view>& names, std::size_t limit);

/// A bar of `width` characters: shares of `whole` drawn with one character each, the rest as dots.
struct bar_part {
  berth::bytes amount;
  char mark;
};
std::string bar(const std::vector<bar_part>& parts, berth::bytes whole, std::size_t width);

}  // namespace tool
