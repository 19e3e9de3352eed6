// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

module berth.plan;

import :cells;
import :search;

namespace berth {
namespace detail {
namespace {

/// Atoms priced by one local search: about a tenth of a second.
constexpr std::size_t improvement_work = 4'000'000;
/// Problems that a complete search may take on.
constexpr std::size_t complete_atoms = 12;
constexpr std::size_t complete_steps = 300'000;

}  // namespace

std::size_t improve_cells(const problem_view& p) { return improver::cells(p); }
std::size_t price_cells(const problem_view& p) { return evaluator::cells(p); }

void improve_placement(const problem_view& p, std::span<placement> out, std::span<std::uint64_t> scratch) {
  improver search(p, scratch);
  if (!search.fits(out)) return;
  auto best = search.remember(out);
  const auto n = std::max<std::size_t>(p.loads.size(), 1);
  if (p.staging_slots == 0 && n <= complete_atoms && search.search_all(out, best, complete_steps))
    return search.settle(out, best);
  std::size_t budget = std::clamp<std::size_t>(improvement_work / n, 100, 30'000);
  best = search.improve(out, budget);
  search.settle(out, best);
}

double price_placement(const problem_view& p, std::span<const placement> out, std::span<std::uint64_t> scratch) {
  const evaluator e(p, scratch);
  return e.fits(out) ? e.value(out) : forever;
}

std::span<placement> placements_in(std::span<std::uint64_t> cells, std::size_t count) {
  return cell_cutter(cells).take<placement>(count);
}

}  // namespace detail

std::size_t Greedy::scratch_cells(const problem_view& p) const { return room_ledger::cells(p.seats.size()); }

result<done> Greedy::solve(const problem_view& p, std::span<placement> out, std::span<std::uint64_t> scratch) const {
  room_ledger room(p, scratch);
  for (auto& o : out) o = {};
  for (std::uint32_t i = 0; i < out.size(); ++i) {
    double soonest = forever;
    for (seat_index s = 0; s < p.seats.size(); ++s) {
      if (!p.seats[s].executes() || room.price(out, i, s) > room.room(s)) continue;
      if (!p.open(i) && !(p.fixed[i] == placement{s, s})) continue;
      double t = objective_seconds(p, i, s);
      if (i > 0) t += objective_hop(p, i - 1, out[i - 1].execution, s);
      if (t < soonest) {
        soonest = t;
        out[i] = {s, s};
      }
    }
    if (out[i].home == none) return does_not_fit(p, name());
    const auto chosen = out[i].home;
    out[i] = {};
    const bytes price = room.price(out, i, chosen);
    room.take(i, chosen, price);
    out[i] = {chosen, chosen};
  }
  return done{};
}

}  // namespace berth
