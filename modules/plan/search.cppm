// SPDX-License-Identifier: Apache-2.0
// Internal partition: improving placements by search.
module;

#include <cstddef>
#include <cstdint>
#include <span>

export module berth.plan:search;

import berth.model;
import berth.topology;
import :problem;
import :cost;
import :evaluate;
import :cells;

namespace berth {

/// What a placement is worth to a search: the objective's value, then how little it streams (nothing is streamed for no
/// gain), then the sum of what every token waits for. The last tells apart placements between which a bottleneck makes
/// no difference.
struct worth {
  double value = forever;
  double second = forever;
  std::size_t streamed = 0;  ///< atoms

  /// `margin`: the relative difference from which on values are told apart.
  bool better_than(const worth& o, double margin) const {
    if (value < o.value * (1 - margin)) return true;
    if (!(value <= o.value * (1 + margin))) return false;
    return streamed != o.streamed ? streamed < o.streamed : second < o.second * (1 - 1e3 * margin);
  }
};

/// Local search over all placements that the problem allows, intervals or not: a run of atoms to another place, two
/// atoms exchanged. Takes the first better placement in a fixed order until none is left or the budget is used up.
class improver {
 public:
  static std::size_t cells(const problem_view& p);
  improver(const problem_view& p, std::span<std::uint64_t> scratch);

  worth price(std::span<const placement> out) const;
  /// Remembers `out`, which fits, as what `settle` may go back to. Returns its worth.
  worth remember(std::span<const placement> out);
  /// After a search: what left the GPUs for no gain in the objective comes back.
  void settle(std::span<placement> out, worth best);
  /// `out` is a placement that fits. Returns what it is worth afterwards; `budget` counts priced placements.
  worth improve(std::span<placement> out, std::size_t& budget);
  /// Everything resident and tried: depth first over the atoms, ended early by times and memory alone. True if the
  /// whole tree was searched within `budget` steps, so that `out` (with `best`) is optimal among resident placements.
  bool search_all(std::span<placement> out, worth& best, std::size_t budget);
  bool fits(std::span<const placement> out) const { return evaluate_.fits(out); }

 private:
  bool try_runs(std::span<placement> out, worth& best, std::size_t& budget);
  bool try_swaps(std::span<placement> out, worth& best, std::size_t& budget);
  bool try_now(std::span<placement> out, worth& best, std::size_t& budget);
  std::size_t spilled(std::span<const placement> out) const;
  void bring_back(std::span<placement> out, worth& best);
  void make_modes();

  problem_view p_;
  double margin_;
  std::span<placement> modes_;  ///< every way to place an atom
  std::size_t mode_count_ = 0;
  std::span<placement> saved_, start_;
  worth start_worth_;
  std::span<std::uint64_t> depth_;
  std::span<double> least_rest_, times_;
  evaluator evaluate_;
};

}  // namespace berth
