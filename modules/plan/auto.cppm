// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <tuple>

export module berth.plan:auto_strategy;

import berth.model;
import berth.topology;
import :problem;
import :cost;
import :strategy;
import :strategies;
import :baselines;
import :interval_plan;

export namespace berth {

/// The exact optimum of the workload's objective over interval placements (see `interval_planner`). For the memory
/// objective, and where no rates are known: the largest smallest head-room over the GPUs (over the CPU if there is no
/// GPU). Errors: `does_not_fit` if no interval placement fits, `capacity` beyond the exact range.
struct Intervals {
  constexpr std::string_view name() const { return "interval"; }

  constexpr std::size_t scratch_cells(const problem_view& p) const {
    if (p.loads.empty()) return 0;
    if (by_memory(p)) return interval_planner<headroom_objective>::cells(for_memory(p));
    return p.workload.objective == objective::throughput ? interval_planner<bottleneck_objective>::cells(p)
                                                         : interval_planner<additive_objective>::cells(p);
  }
  constexpr result<done> solve(const problem_view& p, std::span<placement> out,
                               std::span<std::uint64_t> scratch) const {
    if (p.loads.empty()) return done{};
    if (by_memory(p)) return run<headroom_objective>(for_memory(p), out, scratch);
    return p.workload.objective == objective::throughput ? run<bottleneck_objective>(p, out, scratch)
                                                         : run<additive_objective>(p, out, scratch);
  }

 private:
  static constexpr bool by_memory(const problem_view& p) {
    return p.workload.objective == objective::memory || !rates_known(p);
  }
  static constexpr problem_view for_memory(problem_view p) {
    if (const auto gpus = gpu_count(p); gpus > 0) p.seats = p.seats.first(gpus);
    return p;
  }
  template <class Objective>
  constexpr result<done> run(const problem_view& p, std::span<placement> out, std::span<std::uint64_t> scratch) const {
    if (!interval_planner<Objective>::shape_of(p).exact())
      return fail(errc::capacity, name(), "too many different devices for an exact plan");
    // A caller that reduced the problem may have made kinds of devices that its scratch was not measured for.
    if (interval_planner<Objective>::cells(p) > scratch.size())
      return fail(errc::capacity, name(), "the scratch is too small for so many different devices");
    interval_planner<Objective> planner(p, scratch);
    const double best = planner.solve();
    if (!(best < (Objective::by_memory ? 0.5 : forever))) return does_not_fit(p, name());
    std::array<interval_part, detail::max_parts> parts{};
    if (planner.fewest_seats(best) > parts.size()) return fail(errc::capacity, name(), "more than 64 devices");
    const auto count = planner.choose(best, parts);
    if (count == 0) return does_not_fit(p, name());
    for (std::size_t k = 0; k < count; ++k)
      for (auto i = parts[k].begin; i < parts[k].end; ++i) out[i] = {parts[k].seat, parts[k].seat};
    return done{};
  }
};

/// A rule of other tools as a strategy: what `Auto` is compared with.
template <baseline Rule>
struct Baseline {
  constexpr std::string_view name() const { return name_of(Rule); }
  constexpr std::size_t scratch_cells(const problem_view& p) const { return interval_loads::cells(p); }
  constexpr result<done> solve(const problem_view& p, std::span<placement> out,
                               std::span<std::uint64_t> scratch) const {
    if (!apply_baseline(Rule, p, out, scratch)) return does_not_fit(p, name());
    return done{};
  }
};

/// What does not fit is streamed or computed on the CPU, chosen by the cost model: for growing numbers of atoms that
/// the CPU computes and that are streamed, the streamed ones spread evenly between resident ones, on all GPUs or the
/// fastest few; each priced, the best kept. Run time only. Errors: `does_not_fit`.
struct Streamed {
  std::string_view name() const { return "streamed"; }
  std::size_t scratch_cells(const problem_view& p) const;
  result<done> solve(const problem_view& p, std::span<placement> out, std::span<std::uint64_t> scratch) const;
};

/// Each atom in chain order on the device that runs it soonest, message included, among those with room. Run time only.
struct Greedy {
  std::string_view name() const { return "greedy"; }
  std::size_t scratch_cells(const problem_view& p) const;
  result<done> solve(const problem_view& p, std::span<placement> out, std::span<std::uint64_t> scratch) const;
};

/// Any placement on the executing devices, the CPU included, that fits: in order, by first fit, or by exact search.
struct Packed {
  constexpr std::string_view name() const { return "packed"; }
  constexpr std::size_t scratch_cells(const problem_view& p) const { return fill_cells(p); }
  constexpr result<done> solve(const problem_view& p, std::span<placement> out,
                               std::span<std::uint64_t> scratch) const {
    if (!keep_on(p, detail::executing_seats(p), out, scratch)) return does_not_fit(p, name());
    return done{};
  }
};

namespace detail {

/// The relative difference from which on two values are told apart. Streamed rounds are counted in whole picoseconds,
/// and nobody wants a part streamed for a millionth.
constexpr double worth_margin(const problem_view& p) { return p.staging_slots > 0 ? 1e-6 : 1e-12; }
/// Cells that pricing and improving placements take.
std::size_t improve_cells(const problem_view& p);
/// Improves `out`, which fits, by local search (small resident problems: by complete search).
void improve_placement(const problem_view& p, std::span<placement> out, std::span<std::uint64_t> scratch);
/// What the objective counts; `forever` if the placement does not fit or cannot run.
double price_placement(const problem_view& p, std::span<const placement> out, std::span<std::uint64_t> scratch);
std::size_t price_cells(const problem_view& p);
/// Why nothing fits: the budget that would have to grow least, found by bisection to 1 MiB or finer.
failure shortage(const problem_view& p, std::string_view strategy, std::span<placement> out,
                 std::span<std::uint64_t> scratch);
std::size_t shortage_cells(const problem_view& p);
/// An array of placements inside scratch cells.
std::span<placement> placements_in(std::span<std::uint64_t> cells, std::size_t count);
constexpr std::size_t placement_cells(std::size_t count) { return (count * sizeof(placement) + 7) / 8; }

}  // namespace detail

/// A strategy's placement improved by local search over all placements, intervals or not, resident or streamed: never
/// worse than what `S` found. Without rates: `S` as it is. Run time only.
template <Strategy S>
struct Improve {
  S inner{};

  std::string_view name() const { return inner.name(); }
  std::size_t scratch_cells(const problem_view& p) const {
    return std::max(inner.scratch_cells(p), detail::improve_cells(p));
  }
  result<done> solve(const problem_view& p, std::span<placement> out, std::span<std::uint64_t> scratch) const {
    if (auto r = inner.solve(p, out, scratch); !r) return r;
    if (rates_known(p) && p.workload.objective != objective::memory) detail::improve_placement(p, out, scratch);
    return done{};
  }
};

/// The cheapest of several strategies by the workload's objective; of equally good ones the first. Without rates, or
/// for the memory objective, the first that succeeds. Fails with the last error if all fail. Run time only.
template <Strategy... S>
struct Best {
  std::tuple<S...> candidates{};

  std::string_view name() const { return "best"; }
  std::size_t scratch_cells(const problem_view& p) const {
    const auto most = std::apply([&](const auto&... s) { return std::max({s.scratch_cells(p)...}); }, candidates);
    return detail::placement_cells(p.loads.size()) + std::max(most, detail::price_cells(p));
  }
  result<done> solve(const problem_view& p, std::span<placement> out, std::span<std::uint64_t> scratch) const {
    const auto n = p.loads.size();
    const bool priced = rates_known(p) && p.workload.objective != objective::memory;
    auto tried = detail::placements_in(scratch, n);
    const auto rest = scratch.subspan(detail::placement_cells(n));
    bool found = false;
    double best = forever;
    result<done> last = does_not_fit(p, name());
    const auto consider = [&](const auto& s) {
      if (found && !priced) return;
      auto r = s.solve(p, tried, rest);
      if (!r) {
        last = r;
        return;
      }
      const double value = priced ? detail::price_placement(p, tried, rest) : 0;
      if (found && !(value < best * (1 - detail::worth_margin(p)))) return;
      if (priced && !(value < forever)) return;
      std::copy(tried.begin(), tried.end(), out.begin());
      best = value;
      found = true;
    };
    std::apply([&](const auto&... s) { (consider(s), ...); }, candidates);
    if (found) return done{};
    return last;
  }
};

/// What `auto` runs today. An alias that may get better: its plans are never worse, by the cost model, than those of
/// any strategy and baseline listed here, since all are candidates.
using AutoCandidates =
    Best<Improve<Intervals>, Improve<Streamed>, Improve<Greedy>, Improve<Packed>, Balanced, Sequential, BalancedLow0,
         Baseline<baseline::balanced>, Baseline<baseline::sequential>, Baseline<baseline::ram_proportional>,
         Baseline<baseline::ram_proportional_gpu>, Baseline<baseline::fill_from_back>>;

/// The default: optimal for the workload where that is possible, with a certified gap elsewhere. If nothing fits, the
/// error names the device whose budget would have to grow least, and by how much.
struct Auto : AutoCandidates {
  std::string_view name() const { return "auto"; }
  std::size_t scratch_cells(const problem_view& p) const {
    return std::max(AutoCandidates::scratch_cells(p), detail::shortage_cells(p));
  }
  result<done> solve(const problem_view& p, std::span<placement> out, std::span<std::uint64_t> scratch) const {
    auto r = AutoCandidates::solve(p, out, scratch);
    if (r || r.error().code != errc::does_not_fit) return r;
    return detail::shortage(p, name(), out, scratch);
  }
  /// For `Pin`: improves a placement of the whole problem in which some atoms are fixed.
  void improve(const problem_view& p, std::span<placement> out, std::span<std::uint64_t> scratch) const {
    if (rates_known(p) && p.workload.objective != objective::memory) detail::improve_placement(p, out, scratch);
  }
};

static_assert(Strategy<Intervals> && Strategy<Streamed> && Strategy<Greedy> && Strategy<Baseline<baseline::balanced>>);
static_assert(Strategy<Improve<Intervals>> && Strategy<Auto>);

}  // namespace berth
