// SPDX-License-Identifier: Apache-2.0
// From the words of the command line to strategy types.
module;

#include <string>
#include <string_view>
#include <utility>
#include <vector>

export module berth.tool:strategy_choice;

import berth;

export namespace tool {

/// A device map as the caller gave it; owns the names that `map_entry` views.
using named_map = std::vector<std::pair<std::string, berth::device_id>>;
std::vector<berth::map_entry> entries_of(const named_map& map);

/// What to run: --strategy, with --pin and --complete folded into one map of fixed parts.
struct strategy_choice {
  std::string name = "auto";   ///< a strategy word; "single:ID" and "manual:FILE" are split off
  berth::device_id single;     ///< for "single"
  bool interval_only = false;  ///< of "auto": only consecutive parts on distinct devices
  named_map fixed;             ///< manual map, pins, or the map to be completed
};

/// Reads "balanced", "single:1", "manual:map.json", ... Errors: `invalid_argument` for an unknown word with the nearest
/// one; what reading the map says.
berth::result<strategy_choice> parse_strategy(const std::string& word);

/// Reads a device-map file.
berth::result<named_map> read_map_file(const std::string& path);

/// Runs the choice.
berth::result<berth::plan> run_strategy(const strategy_choice& choice, const berth::model& m, const berth::topology& t,
                                        const berth::place_options& options);

/// The word of `words` that is spelt most like `given`.
std::string_view nearest(std::string_view given, const std::vector<std::string_view>& words);

}  // namespace tool
