// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <string_view>
#include <vector>

module berth.plan;

import :relaxation;
import :search;

namespace berth {
namespace {

/// Multisets of devices above which only "at most all of them" is bounded.
constexpr std::size_t max_bound_sets = 4096;
/// Buckets of sizes of the largest streamed atom, each bounded on its own.
constexpr std::size_t max_size_cases = 6;
/// Work that all relaxations of one bound may take together, in priced options.
constexpr double bound_budget = 6e7;

/// The least bound over all sets of devices and sizes of the largest streamed atom.
class bounder {
 public:
  bounder(const problem_view& p, double reached, std::pmr::memory_resource* memory)
      : p_(p), reached_(reached), machine_(p, memory), sizes_(memory), open_(memory), memory_(memory) {
    if (p.staging_slots == 0) return;
    sizes_.assign(p.loads.begin(), p.loads.end());
    std::sort(sizes_.begin(), sizes_.end());
    sizes_.erase(std::unique(sizes_.begin(), sizes_.end()), sizes_.end());
  }

  lower_bound run() {
    if (!machine_.complete) return {0, "none"};
    if (count_sets() > max_bound_sets) {
      device_set all;
      for (std::size_t g = 0; g < machine_.groups.size(); ++g) all.used[g] = machine_.groups[g].copies;
      all.exactly = false;
      bound_quickly(all, true);
    } else {
      each_set();
    }
    // Sets that look cheapest first: they decide the bound, the others need less work.
    std::sort(open_.begin(), open_.end(), [](const auto& a, const auto& b) { return a.bound.bound < b.bound.bound; });
    const double each = bound_budget / static_cast<double>(std::max<std::size_t>(open_.size(), 1));
    for (auto& c : open_) {
      if (c.bound.bound >= least_.bound) break;
      relaxation r(machine_, c.set, memory_);
      const auto b = r.run(c.bound, std::min(reached_, least_.bound), each);
      if (b.bound < least_.bound) least_ = b;
    }
    return least_;
  }

 private:
  struct candidate {
    device_set set;
    lower_bound bound;
  };

  std::size_t count_sets() const {
    std::size_t sets = 1;
    for (const auto& g : machine_.groups) {
      if (g.executes) sets *= g.copies + 1;
      if (sets > max_bound_sets) break;
    }
    return sets;
  }

  void each_set() {
    const auto sets = count_sets();
    for (std::size_t number = 1; number < sets; ++number) {
      device_set set;
      std::size_t rest = number, count = 0;
      for (std::size_t g = 0; g < machine_.groups.size(); ++g) {
        if (!machine_.groups[g].executes) continue;
        set.used[g] = rest % (machine_.groups[g].copies + 1);
        rest /= machine_.groups[g].copies + 1;
        count += set.used[g];
      }
      // Every atom decodes on one device; those of the CPU may run their prompt on one more.
      const bool two_phases = machine_.cpu != no_group && set.used[machine_.cpu] > 0;
      if (count <= p_.loads.size() + (two_phases ? 1 : 0)) bound_quickly(set, count <= p_.loads.size());
    }
  }

  /// Splits a set into the cases "nothing streams" and "the largest streamed atom has a size of this bucket".
  void bound_quickly(device_set set, bool resident) {
    set.streams = false;
    if (resident) add(set);
    if (sizes_.empty()) return;
    const auto cases = std::min(max_size_cases, sizes_.size());
    set.streams = true;
    for (std::size_t c = 0; c < cases; ++c) {
      set.largest_low = static_cast<double>(sizes_[c * sizes_.size() / cases]);
      set.largest_high = static_cast<double>(sizes_[(c + 1) * sizes_.size() / cases - 1]);
      add(set);
    }
  }
  void add(const device_set& set) {
    const auto b = machine_.quick_bound(set);
    if (b.bound >= forever) return;
    if (b.bound >= reached_) {
      if (b.bound < least_.bound) least_ = b;
      return;
    }
    open_.push_back({set, b});
  }

  problem_view p_;
  double reached_;
  relaxed_machine machine_;
  std::pmr::vector<bytes> sizes_;
  std::pmr::vector<candidate> open_;
  std::pmr::memory_resource* memory_;
  lower_bound least_{forever, "no plan exists"};
};

/// Small chains that stream nothing: every placement is tried. Bound 0: too many.
lower_bound by_complete_search(const problem_view& p, double reached, std::pmr::memory_resource* memory) {
  constexpr std::size_t most_atoms = 12, steps = 300'000;
  if (p.staging_slots != 0 || p.loads.size() > most_atoms) return {};
  std::pmr::vector<std::uint64_t> scratch(improver::cells(p), memory);
  std::pmr::vector<placement> out(p.loads.size(), memory);
  worth best{reached * (1 + 1e-9), forever};
  improver search(p, scratch);
  if (!search.search_all(out, best, steps)) return {};
  return {std::min(best.value, reached), "complete search"};
}

}  // namespace

lower_bound bound_of(const problem_view& p, double reached, std::pmr::memory_resource* memory) {
  if (const auto b = by_complete_search(p, reached, memory); b.bound > 0) return b;
  auto b = bounder(p, reached, memory).run();
  if (b.bound > reached) b.bound = reached;
  return b;
}

}  // namespace berth
