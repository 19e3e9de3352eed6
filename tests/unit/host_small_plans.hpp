// SPDX-License-Identifier: Apache-2.0
// Plans of every kind that fit into the memory of any computer. Include last: it ends in imports.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "exec_programs.hpp"

namespace host_test {

/// Six atoms of some ten thousand bytes with states and activations.
inline berth::model small_chain(bool tied) {
  using namespace berth;
  constexpr std::size_t atoms = 6;
  model m;
  for (std::size_t i = 0; i < atoms; ++i) {
    const auto name = "a" + std::to_string(i);
    atom a;
    a.name = name;
    a.weights = tied && (i == 0 || i + 1 == atoms) ? 30'001 : 10'007 + 7'000 * i;
    a.padding = round_up(a.weights, 256) - a.weights;
    a.state = 1'000 + i;
    a.workspace = 9'000;
    a.work[0] = {1e9, 2e5, 4'096};
    a.work[1] = {1e6, 1e5, 512};
    m.add(a);
  }
  if (tied) m.set_ties({{0, 0, 30'001}, {0, atoms - 1, 30'001}});
  return m;
}

/// On two RTX 3090, their host and its disk; ends the process if no plan can be made.
inline berth::plan small_plan(const exec_test::shape& s) {
  static const auto box = *berth::preset("2x3090");
  auto p = berth::place_fn{exec_test::Told{s.at}}(small_chain(s.tied), box, exec_test::options());
  if (!p) {
    std::printf("%s: %s\n", s.name, exec_test::first_of(std::span(&p.error(), 1)).c_str());
    std::abort();
  }
  return std::move(*p);
}

}  // namespace host_test
