// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <vector>

export module berth.plan:planning_problem;

import berth.model;
import berth.topology;
import :problem;
import :budgets;
import :plan_value;

namespace berth::detail {

/// Charged bytes: tensors, states and workspaces start at multiples of 256 B where the machine pads.
inline constexpr bytes arena_alignment = 256;
constexpr bytes charged(bytes amount, bool padded) { return padded ? round_up(amount, arena_alignment) : amount; }
constexpr bytes charged_weights(const atom& a, bool padded) { return padded ? a.weights + a.padding : a.weights; }

}  // namespace berth::detail

export namespace berth {

/// Owns what a `problem_view` needs: seats, charged bytes and link costs. Allocates from one memory resource.
class planning_problem {
 public:
  /// The problem of placing a model on a topology. The model and the topology must outlive it. Errors: those of
  /// `make_seats`; `invalid_argument` for a tied storage that is larger than an atom that uses it.
  static result<planning_problem> make(model_view m, topology_view t, const place_options& options,
                                       std::pmr::memory_resource* memory);
  /// The problem that a plan answers, and its answer. The plan must outlive it and be sound (`check` without errors
  /// about shape).
  planning_problem(const plan& p, std::pmr::memory_resource* memory);

  problem_view view() const;
  bool padded() const { return padded_; }
  /// Of a plan: its placements as seats.
  std::span<const placement> placements() const { return placements_; }

 private:
  explicit planning_problem(std::pmr::memory_resource* memory)
      : seats_(memory),
        loads_(memory),
        states_(memory),
        workspaces_(memory),
        ties_(memory),
        links_(memory),
        placements_(memory) {}
  void charge(model_view m, bool padded);

  model_view model_;
  topology_view topology_;
  berth::workload workload_;
  std::uint32_t staging_slots_ = 0;
  bool padded_ = false;
  std::pmr::vector<seat> seats_;
  std::pmr::vector<bytes> loads_, states_, workspaces_;
  std::pmr::vector<storage_use> ties_;
  std::pmr::vector<link_cost> links_;
  std::pmr::vector<placement> placements_;
};

/// Prices `out` and proves how far from the best it can be. Without rates the certificate is empty.
certificate certify(const problem_view& p, std::span<const placement> out,
                    std::pmr::memory_resource* memory = std::pmr::get_default_resource());
/// The times of `out`; all `forever` where rates are not known.
plan_times price(const problem_view& p, std::span<const placement> out,
                 std::pmr::memory_resource* memory = std::pmr::get_default_resource());

}  // namespace berth
