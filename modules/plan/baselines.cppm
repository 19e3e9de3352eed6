// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

export module berth.plan:baselines;

import berth.model;
import berth.topology;
import :problem;

export namespace berth {

/// Placement rules that other tools use, under berth's own count of memory. `Auto` never does worse than any of them.
enum class baseline : std::uint8_t {
  balanced,              ///< fill; every GPU but the last is capped at an even share + 1.25 x the biggest atom
  sequential,            ///< fill up to the budgets
  ram_proportional,      ///< cuts in proportion to the memory of GPUs and CPU
  ram_proportional_gpu,  ///< the same over the GPUs only
  fill_from_back,        ///< the last GPU takes what it can of the end, then the one before; the CPU takes the front
};
inline constexpr std::array<baseline, 5> all_baselines{baseline::balanced, baseline::sequential,
                                                       baseline::ram_proportional, baseline::ram_proportional_gpu,
                                                       baseline::fill_from_back};

constexpr std::string_view name_of(baseline b) {
  constexpr std::array<std::string_view, 5> names{"balanced", "sequential", "ram_proportional", "ram_proportional_gpu",
                                                  "fill_from_back"};
  return names[static_cast<std::size_t>(b)];
}

/// Applies a rule: everything resident, GPUs in order, then CPUs. False if the rule finds no allowed plan.
/// Cells of scratch: `interval_loads::cells(p)`.
constexpr bool apply_baseline(baseline rule, const problem_view& p, std::span<placement> out,
                              std::span<std::uint64_t> scratch);

}  // namespace berth

namespace berth::detail {

/// Atoms [begin, end) on seat s if they fit there.
constexpr bool put(const problem_view& p, const interval_loads& loads, std::uint32_t begin, std::uint32_t end,
                   seat_index s, std::span<placement> out) {
  if (begin < end && loads.load(begin, end) > p.seats[s].limit) return false;
  for (auto i = begin; i < end; ++i) out[i] = {s, s};
  return true;
}

constexpr std::uint32_t executing_seats(const problem_view& p) {
  std::uint32_t n = 0;
  while (n < p.seats.size() && p.seats[n].executes()) ++n;
  return n;
}

constexpr bool fill_with_caps(const problem_view& p, const interval_loads& loads, bool even, std::span<placement> out) {
  const auto gpus = gpu_count(p);
  bytes total = 0, biggest = 0;
  for (std::size_t i = 0; i < p.loads.size(); ++i) {
    total += p.resident(i);
    if (p.resident(i) > biggest) biggest = p.resident(i);
  }
  std::uint32_t begin = 0;
  for (seat_index s = 0; s < executing_seats(p); ++s) {
    bytes cap = p.seats[s].limit;
    if (even && s + 1 < gpus) {
      const bytes share = total / gpus + biggest + biggest / 4;
      if (share < cap) cap = share;
    }
    const auto end = loads.reach(begin, cap);
    for (auto i = begin; i < end; ++i) out[i] = {s, s};
    begin = end;
  }
  return begin == loads.size();
}

constexpr bool cut_by_memory(const problem_view& p, const interval_loads& loads, std::uint32_t seats,
                             std::span<placement> out) {
  double all = 0, until = 0;
  for (std::uint32_t s = 0; s < seats; ++s) all += static_cast<double>(p.seats[s].limit);
  if (!(all > 0)) return false;
  std::uint32_t begin = 0;
  for (seat_index s = 0; s < seats; ++s) {
    until += static_cast<double>(p.seats[s].limit);
    auto end = static_cast<std::uint32_t>(static_cast<double>(loads.size()) * until / all + 0.5);
    if (s + 1 == seats || end > loads.size()) end = loads.size();
    if (end < begin) end = begin;
    if (!put(p, loads, begin, end, s, out)) return false;
    begin = end;
  }
  return begin == loads.size();
}

constexpr bool fill_backwards(const problem_view& p, const interval_loads& loads, std::span<placement> out) {
  auto end = loads.size();
  for (auto s = gpu_count(p); s-- > 0;) {
    const auto begin = loads.reach_back(end, p.seats[s].limit);
    for (auto i = begin; i < end; ++i) out[i] = {s, s};
    end = begin;
  }
  for (auto s = gpu_count(p); s < executing_seats(p) && end > 0; ++s) {
    const auto begin = loads.reach_back(end, p.seats[s].limit);
    for (auto i = begin; i < end; ++i) out[i] = {s, s};
    end = begin;
  }
  return end == 0;
}

}  // namespace berth::detail

export namespace berth {

constexpr bool apply_baseline(baseline rule, const problem_view& p, std::span<placement> out,
                              std::span<std::uint64_t> scratch) {
  const interval_loads loads(p, scratch);
  switch (rule) {
    case baseline::balanced:
      return gpu_count(p) > 0 && detail::fill_with_caps(p, loads, true, out);
    case baseline::sequential:
      return detail::fill_with_caps(p, loads, false, out);
    case baseline::ram_proportional:
      return detail::cut_by_memory(p, loads, detail::executing_seats(p), out);
    case baseline::ram_proportional_gpu:
      return detail::cut_by_memory(p, loads, gpu_count(p), out);
    case baseline::fill_from_back:
      return detail::fill_backwards(p, loads, out);
  }
  return false;
}

}  // namespace berth
