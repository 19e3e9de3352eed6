// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <span>

export module berth.plan:interval_cover;

import berth.model;
import berth.topology;
import :problem;

export namespace berth {

/// Seats that are exchangeable for covering: same cap, so a set of them is known by how many of them it has.
struct seat_type {
  bytes cap = 0;
  bool usable = true;  ///< false: this type covers nothing, not even empty atoms
  std::uint32_t copies = 0;
  std::uint32_t stride = 0;  ///< of one copy in a set's number
};

/// How far sets of seats cover a chain when each takes one interval of consecutive atoms within its cap. The farthest
/// prefix dominates (loads are monotone), so one number per set is exact: O(sets x types x log n) per table.
/// `prefix[U]`: the largest e such that atoms [0, e) are covered by the set U. `suffix[U]`: the smallest s for [s, n).
/// A set is a mixed-radix number over the types; the full set is `sets - 1`.
struct cover_tables {
  const interval_loads* loads = nullptr;
  std::span<seat_type> types;
  std::uint32_t sets = 1;
  std::span<std::uint64_t> prefix;
  std::span<std::uint64_t> suffix;

  constexpr std::uint32_t copies_in(std::uint32_t set, std::size_t type) const {
    return set / types[type].stride % (types[type].copies + 1);
  }
  constexpr std::uint32_t size_of(std::uint32_t set) const {
    std::uint32_t n = 0;
    for (std::size_t t = 0; t < types.size(); ++t) n += copies_in(set, t);
    return n;
  }

  constexpr void fill_prefix() {
    prefix[0] = 0;
    for (std::uint32_t set = 1; set < sets; ++set) {
      std::uint64_t best = 0;
      for (std::size_t t = 0; t < types.size(); ++t) {
        if (copies_in(set, t) == 0) continue;
        const std::uint64_t from = prefix[set - types[t].stride];
        const std::uint64_t to = types[t].usable ? loads->reach(static_cast<std::uint32_t>(from), types[t].cap) : from;
        if (to > best) best = to;
      }
      prefix[set] = best;
    }
  }
  constexpr void fill_suffix() {
    suffix[0] = loads->size();
    for (std::uint32_t set = 1; set < sets; ++set) {
      std::uint64_t best = loads->size();
      for (std::size_t t = 0; t < types.size(); ++t) {
        if (copies_in(set, t) == 0) continue;
        const std::uint64_t from = suffix[set - types[t].stride];
        const std::uint64_t to =
            types[t].usable ? loads->reach_back(static_cast<std::uint32_t>(from), types[t].cap) : from;
        if (to < best) best = to;
      }
      suffix[set] = best;
    }
  }

  /// Fewest seats that cover the whole chain within the caps, or 0 if no set does (and the chain is not empty).
  constexpr std::uint32_t fewest() const {
    std::uint32_t best = 0;
    for (std::uint32_t set = 0; set < sets; ++set)
      if (prefix[set] == loads->size()) {
        const auto n = size_of(set);
        if (best == 0 || n < best) best = n;
      }
    return best;
  }
  /// True if some set of at most `count` seats covers the whole chain.
  constexpr bool covers_with(std::uint32_t count) const {
    for (std::uint32_t set = 0; set < sets; ++set)
      if (prefix[set] == loads->size() && size_of(set) <= count) return true;
    return false;
  }
};

/// Most sets that a table may have (two types of 8 copies are 81; 16 different seats are 65,536).
inline constexpr std::uint64_t max_cover_sets = std::uint64_t{1} << 20;

}  // namespace berth
