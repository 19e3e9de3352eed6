// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

module berth.plan;

import :cells;
import :search;

namespace berth {
namespace {

/// Every executing seat as it is, from each store, and for the prompt of what the CPU computes.
std::size_t most_modes(const problem_view& p) { return 6 * p.seats.size(); }

}  // namespace

std::size_t improver::cells(const problem_view& p) {
  const auto n = p.loads.size();
  return cells_for<placement>(most_modes(p)) + 2 * cells_for<placement>(n) + n + 1 + cells_for<double>(n + 1) +
         cells_for<double>(n * p.seats.size()) + evaluator::cells(p) + 8;
}

improver::improver(const problem_view& p, std::span<std::uint64_t> scratch)
    : p_(p), margin_(detail::worth_margin(p)), evaluate_(p, {}) {
  cell_cutter cut(scratch);
  const auto n = p.loads.size();
  modes_ = cut.take<placement>(most_modes(p));
  saved_ = cut.take<placement>(n);
  start_ = cut.take<placement>(n);
  depth_ = cut.take<std::uint64_t>(n + 1);
  least_rest_ = cut.take<double>(n + 1);
  times_ = cut.take<double>(n * p.seats.size());
  evaluate_ = evaluator(p, cut.rest());
  make_modes();
}

void improver::make_modes() {
  const auto cpu = find_seat(p_, device_kind::cpu), disk = find_seat(p_, device_kind::disk);
  const auto add = [&](placement m) { modes_[mode_count_++] = m; };
  for (seat_index s = 0; s < p_.seats.size(); ++s) {
    if (!p_.seats[s].executes()) continue;
    add({s, s});
    if (p_.staging_slots == 0) continue;
    for (const auto store : {cpu, disk})
      if (store != none && store != s) add({store, s});
    if (cpu == none || cpu == s) continue;
    add({cpu, cpu, s});
    if (disk != none) add({disk, cpu, s});
  }
}

worth improver::price(std::span<const placement> out) const {
  worth w;
  w.value = evaluate_.value(out);
  for (const auto& o : out) w.streamed += o.streamed() ? 1 : 0;
  if (p_.workload.objective == objective::throughput && w.value < forever) {
    w.second = 0;
    for (seat_index s = 0; s < p_.seats.size(); ++s) {
      const double busy = p_.seats[s].executes() ? evaluate_.busy(out, s, phase::decode) : 0;
      w.second += busy * busy;
    }
  } else {
    w.second = w.value;
  }
  return w;
}

bool improver::try_now(std::span<placement> out, worth& best, std::size_t& budget) {
  if (budget == 0) return false;
  --budget;
  if (!evaluate_.fits(out)) return false;
  const auto now = price(out);
  if (!now.better_than(best, margin_)) return false;
  best = now;
  return true;
}

bool improver::try_runs(std::span<placement> out, worth& best, std::size_t& budget) {
  constexpr std::array<std::size_t, 6> lengths{1, 2, 3, 5, 8, 16};
  const auto n = out.size();
  bool any = false;
  for (const auto length : lengths) {
    if (length > n) break;
    for (std::size_t begin = 0; begin + length <= n && budget > 0; ++begin)
      for (std::size_t m = 0; m < mode_count_; ++m) {
        const auto mode = modes_[m];
        // Long runs are only moved as wholes, and only where they would join a neighbour.
        if (length > 1) {
          const bool before = begin > 0 && out[begin - 1].execution == mode.execution;
          const bool after = begin + length < n && out[begin + length].execution == mode.execution;
          if (!before && !after && length > 3) continue;
        }
        bool changes = false, open = true;
        for (std::size_t i = begin; i < begin + length; ++i) {
          changes = changes || !(out[i] == mode);
          open = open && p_.open(i);
        }
        if (!changes || !open) continue;
        for (std::size_t i = begin; i < begin + length; ++i) {
          saved_[i] = out[i];
          out[i] = mode;
        }
        if (try_now(out, best, budget)) {
          any = true;
          continue;
        }
        for (std::size_t i = begin; i < begin + length; ++i) out[i] = saved_[i];
      }
  }
  return any;
}

bool improver::try_swaps(std::span<placement> out, worth& best, std::size_t& budget) {
  bool any = false;
  for (std::size_t i = 0; i < out.size() && budget > 0; ++i)
    for (std::size_t j = i + 1; j < out.size() && budget > 0; ++j) {
      if (out[i] == out[j] || !p_.open(i) || !p_.open(j)) continue;
      std::swap(out[i], out[j]);
      if (try_now(out, best, budget))
        any = true;
      else
        std::swap(out[i], out[j]);
    }
  return any;
}

/// Atoms whose weights are not on a GPU.
std::size_t improver::spilled(std::span<const placement> out) const {
  std::size_t count = 0;
  for (const auto& o : out) count += p_.seats[o.home].kind != device_kind::gpu ? 1 : 0;
  return count;
}

/// Every spilled atom goes back to the first GPU where that costs nothing.
void improver::bring_back(std::span<placement> out, worth& best) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto was = out[i];
    if (p_.seats[was.home].kind == device_kind::gpu || !p_.open(i)) continue;
    for (seat_index s = 0; s < gpu_count(p_) && out[i] == was; ++s) {
      out[i] = {s, s};
      const auto now = evaluate_.fits(out) ? price(out) : worth{};
      if (now.value <= best.value)
        best = now;
      else
        out[i] = was;
    }
  }
}

worth improver::remember(std::span<const placement> out) {
  std::copy(out.begin(), out.end(), start_.begin());
  return start_worth_ = price(out);
}

void improver::settle(std::span<placement> out, worth best) {
  if (gpu_count(p_) == 0) return;
  bring_back(out, best);
  if (best.value < start_worth_.value * (1 - margin_) || spilled(out) <= spilled(start_.first(out.size()))) return;
  std::copy_n(start_.begin(), out.size(), out.begin());
}

worth improver::improve(std::span<placement> out, std::size_t& budget) {
  auto best = price(out);
  while (budget > 0) {
    const bool moved = try_runs(out, best, budget);
    const bool swapped = try_swaps(out, best, budget);
    if (!moved && !swapped) break;
  }
  return best;
}

bool improver::search_all(std::span<placement> out, worth& best, std::size_t budget) {
  const auto n = out.size();
  const auto k = static_cast<std::size_t>(p_.seats.size());
  const bool sums = p_.workload.objective != objective::throughput;
  least_rest_[n] = 0;
  for (std::size_t i = n; i-- > 0;) {
    double least = forever;
    for (std::size_t s = 0; s < k; ++s) {
      times_[i * k + s] = p_.seats[s].executes() ? objective_seconds(p_, i, static_cast<seat_index>(s)) : forever;
      least = std::min(least, times_[i * k + s]);
    }
    least_rest_[i] = least_rest_[i + 1] + least;
  }
  // depth_[d]: next seat to try for atom d; saved_ holds the best so far.
  std::copy(out.begin(), out.end(), saved_.begin());
  for (auto& o : out) o = {};
  std::size_t d = 0;
  depth_[0] = 0;
  const auto so_far = [&](std::size_t upto) {
    double sum = 0;
    for (std::size_t i = 0; i < upto; ++i) {
      sum += times_[i * k + out[i].execution];
      if (i > 0) sum += objective_hop(p_, i - 1, out[i - 1].execution, out[i].execution);
    }
    return sum;
  };
  const auto fullest = [&](std::size_t upto, seat_index s) {
    double sum = 0;
    for (std::size_t i = 0; i < upto; ++i) sum += out[i].execution == s ? times_[i * k + s] : 0;
    return sum;
  };
  while (true) {
    if (budget-- == 0) {
      std::copy(saved_.begin(), saved_.begin() + static_cast<std::ptrdiff_t>(n), out.begin());
      return false;
    }
    if (d == n) {
      if (evaluate_.fits(out)) {
        const auto now = price(out);
        if (now.better_than(best, margin_)) {
          best = now;
          std::copy(out.begin(), out.end(), saved_.begin());
        }
      }
      --d;
      continue;
    }
    const auto s = static_cast<seat_index>(depth_[d]++);
    if (s >= k) {
      out[d] = {};
      if (d == 0) break;
      --d;
      continue;
    }
    if (!(times_[d * k + s] < forever) || (!p_.open(d) && !(p_.fixed[d] == placement{s, s}))) continue;
    if (d > 0 && !(objective_hop(p_, d - 1, out[d - 1].execution, s) < forever)) continue;
    out[d] = {s, s};
    const double bound = sums ? so_far(d + 1) + least_rest_[d + 1] : fullest(d + 1, s);
    if (bound >= best.value * (1 - 1e-12)) continue;
    bytes held = 0;
    for (std::size_t i = 0; i <= d; ++i) held += out[i].home == s ? p_.resident(i) : 0;
    if (p_.ties.empty() && held > p_.seats[s].limit) continue;
    depth_[++d] = 0;
  }
  std::copy(saved_.begin(), saved_.begin() + static_cast<std::ptrdiff_t>(n), out.begin());
  return true;
}

}  // namespace berth
