// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <span>

export module berth.plan:evaluate;

import berth.model;
import berth.topology;
import :problem;
import :cost;

export namespace berth {

/// What a placement is worth by the cost model. Times in seconds, `forever` where the placement cannot run.
struct plan_times {
  double prefill = forever;  ///< the prompt in one pass: time to first token
  double decode = forever;   ///< one token of a single stream; of a plan that streams: the period of its round
  double period = forever;   ///< per token when several streams fill the devices (pipelined decode)
  double value = forever;    ///< what the objective counts: s, or minus the smallest head-room in bytes

  friend bool operator==(const plan_times&, const plan_times&) = default;
};

/// Prices placements of one problem. A resident pass is the sum of atoms and messages in chain order. A pass that
/// streams is a schedule: copies in chain order on one copy engine per device, `staging_slots` slots, compute in chain
/// order; its decode period is the maximum cycle ratio of the round, its prefill pass starts with empty slots. No pass
/// is shorter than what crosses any shared segment (host memory, a PCIe uplink, the disk) divided by its capacity;
/// what the CPU reads for its own atoms crosses its memory too. Source: docs/planning.md. O(atoms) per call when
/// resident; allocates nothing after construction.
class evaluator {
 public:
  static std::size_t cells(const problem_view& p);
  evaluator(const problem_view& p, std::span<std::uint64_t> scratch);

  plan_times times(std::span<const placement> out) const;
  /// Only what the objective counts.
  double value(std::span<const placement> out) const;
  /// Every seat within its limit. What lacks a route or a link is `forever` by its time, not refused here.
  bool fits(std::span<const placement> out) const;

  double pass(std::span<const placement> out, phase ph) const;
  /// Period of decode when several streams keep all devices busy.
  double pipelined(std::span<const placement> out) const;
  /// Smallest head-room over the executing seats in use, in bytes (negative: exceeded).
  double headroom(std::span<const placement> out) const;
  /// Compute time of one seat in one pass.
  double busy(std::span<const placement> out, seat_index s, phase ph) const;

 private:
  double resident_pass(std::span<const placement> out, phase ph) const;
  double streamed_prompt(std::span<const placement> out) const;
  double decode_round(std::span<const placement> out) const;
  double round_of_one(std::span<const placement> out, seat_index s, bool alone) const;
  double round_of_many(std::span<const placement> out) const;
  double segments_floor(std::span<const placement> out, phase ph) const;
  double state_move(std::span<const placement> out) const;
  template <class Visit>
  void visit_traffic(std::span<const placement> out, phase ph, Visit visit) const;

  problem_view p_;
  std::span<std::uint64_t> scratch_;
};

/// Cells that `evaluate` needs.
inline plan_times evaluate(const problem_view& p, std::span<const placement> out, std::span<std::uint64_t> scratch) {
  return evaluator(p, scratch).times(out);
}

}  // namespace berth
