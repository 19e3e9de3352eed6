// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.tool;

import berth;
import berth.formats;

namespace tool {

std::vector<berth::map_entry> entries_of(const named_map& map) {
  std::vector<berth::map_entry> out;
  out.reserve(map.size());
  for (const auto& [name, id] : map) out.push_back({name, id});
  return out;
}

namespace {

/// Levenshtein distance.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    auto diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const auto up = row[j + 1];
      row[j + 1] = std::min({up + 1, row[j] + 1, diagonal + (a[i] == b[j] ? 0 : 1)});
      diagonal = up;
    }
  }
  return row[b.size()];
}

}  // namespace

std::string_view nearest(std::string_view given, const std::vector<std::string_view>& words) {
  std::string_view best;
  std::size_t least = static_cast<std::size_t>(-1);
  for (const auto word : words)
    if (const auto d = distance(given, word); d < least) {
      least = d;
      best = word;
    }
  return best;
}

berth::result<named_map> read_map_file(const std::string& path) {
  auto text = read_input(path);
  if (!text) return text.propagate();
  auto document = berth::json::parse(*text, path);
  if (!document) return document.propagate();
  return berth::read_device_map(*document, path);
}

berth::result<strategy_choice> parse_strategy(const std::string& word) {
  static constexpr std::string_view single = "single:", manual = "manual:";
  strategy_choice out;
  if (word.substr(0, single.size()) == single) {
    const auto id = word.substr(single.size());
    if (!berth::device_id::fits(id))
      return berth::fail(berth::errc::unknown_device, "--strategy",
                         "single: needs a device, as in single:0 or single:cpu");
    out.name = "single";
    out.single = berth::device_id(id);
    return out;
  }
  if (word.substr(0, manual.size()) == manual) {
    auto map = read_map_file(word.substr(manual.size()));
    if (!map) return map.propagate();
    out.name = "manual";
    out.fixed = *std::move(map);
    return out;
  }
  const std::vector<std::string_view> words{"auto",       "balanced", "balanced_low_0", "balanced_in_order",
                                            "sequential", "cpu",      "current"};
  if (std::find(words.begin(), words.end(), word) == words.end())
    return berth::fail(berth::errc::invalid_argument, "--strategy",
                       berth::text<256>("unknown strategy \"")
                           .append(word)
                           .append("\"; did you mean ")
                           .append(nearest(word, words))
                           .append("? There are auto, balanced, balanced_low_0, balanced_in_order, sequential, "
                                   "single:ID, cpu, current, manual:FILE"));
  out.name = word;
  return out;
}

namespace {

/// One call per strategy type: with fixed parts it becomes `Pin<S>`.
template <class S>
berth::result<berth::plan> run(S strategy, const std::vector<berth::map_entry>& fixed, const berth::model& m,
                               const berth::topology& t, const berth::place_options& options) {
  if (fixed.empty()) return berth::place_fn<S>{strategy}(m, t, options);
  return berth::place_fn<berth::Pin<S>>{{fixed, strategy}}(m, t, options);
}

}  // namespace

berth::result<berth::plan> run_strategy(const strategy_choice& choice, const berth::model& m, const berth::topology& t,
                                        const berth::place_options& options) {
  const auto fixed = entries_of(choice.fixed);
  if (choice.name == "manual") return berth::place_fn{berth::Manual{fixed}}(m, t, options);
  if (choice.name == "single") return run(berth::Single{choice.single}, fixed, m, t, options);
  if (choice.name == "cpu") return run(berth::CpuOnly{}, fixed, m, t, options);
  if (choice.name == "current") return run(berth::CurrentDevice{}, fixed, m, t, options);
  if (choice.name == "sequential") return run(berth::Sequential{}, fixed, m, t, options);
  if (choice.name == "balanced") return run(berth::Balanced{}, fixed, m, t, options);
  if (choice.name == "balanced_low_0") return run(berth::BalancedLow0{}, fixed, m, t, options);
  if (choice.name == "balanced_in_order") return run(berth::BalancedInOrder{}, fixed, m, t, options);
  if (choice.interval_only) return run(berth::Intervals{}, fixed, m, t, options);
  return run(berth::Auto{}, fixed, m, t, options);
}

}  // namespace tool
