// SPDX-License-Identifier: Apache-2.0
// Small machines and random problems for the planner's tests. Include before the imports of the test file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

/// One random planning problem with owning storage. The seed is printed by the tests that fail.
struct random_shape {
  std::vector<std::uint64_t> loads;
  std::vector<std::uint64_t> budgets;
  bool tied = false;
  std::uint64_t cpu = 0;
};

inline random_shape make_shape(std::uint64_t seed, std::size_t max_atoms, std::size_t max_gpus, bool roomy) {
  std::mt19937_64 random(seed);
  const auto pick = [&](std::uint64_t low, std::uint64_t high) { return low + random() % (high - low + 1); };
  random_shape s;
  const auto n = pick(1, max_atoms);
  const bool equal_atoms = pick(0, 2) == 0, equal_gpus = pick(0, 1) == 0;
  const auto common = pick(1, 50);
  std::uint64_t total = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    s.loads.push_back(pick(0, 9) == 0 ? 0 : (equal_atoms ? common : pick(1, 50)));
    total += s.loads.back();
  }
  const auto k = pick(1, max_gpus);
  const auto share = total / k + 1;
  for (std::uint64_t d = 0; d < k; ++d) {
    const auto size = roomy ? pick(share, 3 * share + 20) : pick(share / 3 + 1, share + 20);
    s.budgets.push_back(equal_gpus && d > 0 ? s.budgets[0] : size);
  }
  s.tied = n > 2 && pick(0, 3) == 0;
  if (s.tied) s.loads.back() += s.loads.front();  // the head contains the embedding's storage
  s.cpu = pick(0, 1) == 0 ? 0 : 4 * total + 100;
  return s;
}
