// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

export module berth.plan:place;

import berth.model;
import berth.topology;
import :problem;
import :strategy;
import :budgets;
import :plan_value;
import :planning_problem;
import :check;

namespace berth::detail {

/// Fills a plan from a solved problem. Out of line: not a template.
result<plan> make_plan(std::string_view strategy, model_view m, topology_view t, const place_options& options,
                       const problem_view& problem, std::span<const placement> placements, bool padded,
                       std::pmr::memory_resource* memory);

}  // namespace berth::detail

export namespace berth {

/// Runs strategy `S`. Call it as `Place<S>(model, topology)`; a strategy with parameters is given as a value:
/// `place_fn{Single{"1"}}(model, topology)`.
template <Strategy S>
struct place_fn {
  S strategy{};

  /// At compile time (or run time) for a static model: no allocation at all. Errors as below.
  template <std::size_t N, std::size_t T>
  constexpr result<static_plan<N>> operator()(const static_model<N, T>& model, const topology_view& topology,
                                              const place_options& options = {}) const {
    std::array<seat, max_static_devices> seats{};
    if (topology.devices.size() > seats.size())
      return fail(errc::capacity, "topology", "compile-time plans take at most 16 devices");
    auto count = make_seats(topology, options, seats);
    if (!count) return count.propagate();
    const bool padded = pads_tensors(topology, std::span(seats).first(*count));
    std::array<bytes, N> loads{}, states{}, workspaces{};
    for (std::size_t i = 0; i < N; ++i) {
      loads[i] = detail::charged_weights(model.atoms[i], padded);
      states[i] = detail::charged(model.atoms[i].state, padded);
      workspaces[i] = detail::charged(model.atoms[i].workspace, padded);
    }
    auto ties = model.ties;
    for (auto& u : ties) u.size = detail::charged(u.size, padded);
    std::array<link_cost, max_static_devices * max_static_devices> links{};
    make_links(topology, std::span(links).first(topology.devices.size() * topology.devices.size()));
    problem_view problem{model.atoms, loads, ties, std::span<const seat>(seats).first(*count), options.staging_slots};
    problem.states = states;
    problem.workspaces = workspaces;
    problem.links = links;
    problem.machine = topology;
    problem.workload = options.workload;
    std::array<placement, N> out{};
    std::array<std::uint64_t, static_cells<N>> scratch{};
    if (strategy.scratch_cells(problem) > scratch.size())
      return fail(errc::capacity, strategy.name(), "this strategy needs more scratch than a compile-time plan has");
    if (auto r = strategy.solve(problem, out, scratch); !r) return r.propagate();
    static_plan<N> result;
    result.strategy = strategy.name();
    for (std::size_t i = 0; i < N; ++i) {
      result.names[i] = model.atoms[i].name;
      result.homes[i] = seats[out[i].home].id;
      result.executions[i] = seats[out[i].execution].id;
    }
    return result;
  }

  /// Solves into caller's memory: `out` one placement per atom (seat positions of `problem`), `scratch` at least
  /// `strategy.scratch_cells(problem)` cells, else `capacity` and nothing is written. Allocates nothing.
  constexpr result<done> into(const problem_view& problem, std::span<placement> out,
                              std::span<std::uint64_t> scratch) const {
    if (out.size() != problem.loads.size()) return fail(errc::invalid_argument, "out", "needs one placement per atom");
    if (const auto need = strategy.scratch_cells(problem); need > scratch.size())
      return fail(errc::capacity, strategy.name(), "the scratch is too small", need * 8, scratch.size() * 8);
    return strategy.solve(problem, out, scratch);
  }

  /// Plans `model` on `topology`. Allocates from `memory` only. Errors: `does_not_fit` with the bytes needed and
  /// available, `unknown_device`, `invalid_argument`, and what the strategy itself reports. A plan that `check` would
  /// refuse (a strategy of the user's that breaks a rule) is an error here, never a result.
  result<plan> operator()(model_view model, const topology_view& topology, const place_options& options = {},
                          std::pmr::memory_resource* memory = std::pmr::get_default_resource()) const {
    const auto owned = planning_problem::make(model, topology, options, memory);
    if (!owned) return owned.propagate();
    const auto problem = owned->view();
    std::pmr::vector<placement> out(problem.loads.size(), memory);
    std::pmr::vector<std::uint64_t> scratch(strategy.scratch_cells(problem), memory);
    if (auto r = into(problem, out, scratch); !r) return r.propagate();
    return detail::make_plan(strategy.name(), model, topology, options, problem, out, owned->padded(), memory);
  }

  static constexpr std::size_t max_static_devices = 16;
  /// Room for the strategies here with 16 atoms x 4 different devices, and more where devices are alike.
  template <std::size_t N>
  static constexpr std::size_t static_cells = 320 * N + 1024;
};

template <class S>
place_fn(S) -> place_fn<S>;

template <Strategy S>
inline constexpr place_fn<S> Place{};

}  // namespace berth
