// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <string_view>

export module berth.plan:certificate;

import berth.model;
import berth.topology;
import :problem;
import :evaluate;

export namespace berth {

/// The set of plans that a bound speaks of.
enum class plan_class : std::uint8_t {
  interval,  ///< consecutive atoms on distinct devices, everything resident
  any,       ///< every placement that the model of cost and memory allows
};
constexpr std::string_view name_of(plan_class c) { return c == plan_class::interval ? "interval" : "any"; }

/// A proof of how good a plan can be at most: no plan of the class is worth less than `bound` (s; for the memory
/// objective minus the head-room in bytes).
struct lower_bound {
  double bound = 0;
  text<32> name;  ///< which argument binds: "work", "memory", "lattice", "complete search" ...
};

/// What a plan is worth and how far from the best possible it can be.
struct certificate {
  double value = forever;
  plan_class of = plan_class::any;
  double bound = 0;
  text<32> bound_name;
  /// Optimum over interval plans where it was computed exactly; 0: not computed; `forever`: there is none.
  double interval_value = 0;

  /// (value - bound) / value, 0 for values that are not positive and finite.
  constexpr double gap() const { return value > 0 && value < forever && bound < value ? (value - bound) / value : 0; }
  constexpr bool present() const { return !bound_name.empty(); }
};

/// A bound on the value of every placement of the problem, for the latency and throughput objectives. For each multiset
/// U of executing devices (exchangeable devices are counted, not told apart) a bound for plans that use exactly U:
///  - work: every atom on its fastest device of U, messages between at least |U| devices;
///  - memory: the Lagrangian relaxation of the memory limits and of the copy engines (a streamed atom occupies its
///    device's copy engine, host memory and possibly the disk; time >= any convex combination of compute and copies),
///    minimised over paths through the layered graph of devices, improved by subgradient steps;
///  - lattice (throughput): the fullest device's time is a sum of atoms' times, so a bound is rounded up to the next
///    such sum.
/// The least over all U holds for every plan. Valid for any placement, not only intervals. `reached` is the value of a
/// known plan: sets that cannot beat it are not looked at further. Allocates from `memory` only.
lower_bound bound_of(const problem_view& p, double reached,
                     std::pmr::memory_resource* memory = std::pmr::get_default_resource());

}  // namespace berth
