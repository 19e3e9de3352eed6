// SPDX-License-Identifier: Apache-2.0
// A planning problem made from a random shape, with the storage that its views need.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plan_support.hpp"

import berth;

/// GPUs "0", "1", ... and, if the shape has one, a CPU. Atoms are called "a0", "a1", ...
struct owned_problem {
  std::vector<std::string> names;
  std::vector<berth::atom> atoms;
  std::vector<berth::bytes> loads;
  std::vector<berth::storage_use> ties;
  std::vector<berth::seat> seats;

  explicit owned_problem(const random_shape& s) {
    for (std::size_t i = 0; i < s.loads.size(); ++i) names.push_back("a" + std::to_string(i));
    for (std::size_t i = 0; i < s.loads.size(); ++i)
      atoms.push_back({names[i], berth::atom_kind::other, s.loads[i], 0});
    loads.assign(s.loads.begin(), s.loads.end());
    if (s.tied) ties = {{0, 0, s.loads[0]}, {0, static_cast<std::uint32_t>(s.loads.size() - 1), s.loads[0]}};
    for (std::size_t d = 0; d < s.budgets.size(); ++d)
      seats.push_back({static_cast<berth::device_index>(d), berth::device_id(static_cast<int>(d)),
                       berth::device_kind::gpu, berth::accelerator_api::cuda, s.budgets[d]});
    if (s.cpu > 0)
      seats.push_back({static_cast<berth::device_index>(s.budgets.size()), "cpu", berth::device_kind::cpu,
                       berth::accelerator_api::none, s.cpu});
  }
  berth::problem_view view(std::uint32_t slots = 2) const { return {atoms, loads, ties, seats, slots}; }
};
