// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <vector>

export module berth.exec:run_marks;

import berth.base;
import berth.topology;
import :activity;
import :program;
import :requests;

export namespace berth {

/// What an operation of a program is about; traces tell only its tag.
struct marked_operation {
  std::uint32_t atom = no_index;
  double touched = 0;  ///< of a launch: bytes of memory read and written

  friend constexpr bool operator==(const marked_operation&, const marked_operation&) = default;
};

/// What the runner knows about a run beside its trace: when its parts ended, and what the tags mean. Tags count
/// operations: first those of the load program, then prefill, then decode. A decode round may use the tags of the round
/// before again or go on counting; both are understood.
struct run_marks {
  explicit run_marks(std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : round_ends(memory), operations(memory) {}

  picoseconds load_end = 0;
  picoseconds prefill_end = 0;
  std::pmr::vector<picoseconds> round_ends;  ///< one per decode round, ascending
  std::array<std::uint32_t, program_phase_count> sizes{};
  std::pmr::vector<marked_operation> operations;  ///< by tag: load, prefill, one round of decode
  /// Rounds are independent sequences one behind the other (`compile_options::pipelined`).
  bool pipelined = false;

  op_tag first_tag(program_phase phase) const {
    op_tag at = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(phase); ++i) at += sizes[i];
    return at;
  }
  /// Adds a program: load, prefill, decode, in this order.
  void add(const program& p) {
    sizes[static_cast<std::size_t>(p.phase)] = static_cast<std::uint32_t>(p.operations.size());
    for (const auto& o : p.operations) operations.push_back({o.atom, o.touched});
  }
};

/// Where an activity belongs. Without a tag, or with one that no program has, the atom is `no_index` and the phase that
/// of the activity's end.
struct marked_activity {
  program_phase phase = program_phase::load;
  std::uint32_t round = 0;      ///< of decode, from 0
  std::uint32_t operation = 0;  ///< position in the program of the phase
  std::uint32_t atom = no_index;
  double touched = 0;
};

/// Says where each activity of a trace belongs; asked once per record, in the order of the trace. The n-th activity of
/// a tag that rounds use again is of round n. O(1), or O(log rounds) without a tag.
class activity_marker {
 public:
  explicit activity_marker(const run_marks& m, std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : marks_(m), decode_(m.first_tag(program_phase::decode)), seen_(m.sizes[2], 0, memory) {}

  marked_activity next(const activity& a);

 private:
  const run_marks& marks_;
  op_tag decode_;
  std::pmr::vector<std::uint32_t> seen_;  ///< per operation of decode: activities so far
};

/// The device that a transfer comes from; a read that does not say comes from the disk.
constexpr device_index source_of(const topology_view& machine, const activity& a) {
  if (a.kind != activity_kind::read || a.from != no_index) return a.from;
  return machine.first(device_kind::disk).value_or(no_index);
}

/// Calls `visit` with each segment that an activity crosses: a transfer those of its route, or by way of the CPU where
/// there is none (a segment twice if both ways cross it); a launch on a CPU its memory segment.
template <class Visit>
constexpr void visit_segments(const topology_view& machine, const activity& a, Visit visit) {
  if (a.device >= machine.devices.size()) return;
  if (a.kind == activity_kind::launch) {
    const auto& d = machine.devices[a.device];
    if (d.kind == device_kind::cpu && d.memory_segment < machine.segments.size()) visit(d.memory_segment);
    return;
  }
  if (a.kind != activity_kind::copy && a.kind != activity_kind::message && a.kind != activity_kind::read) return;
  const auto from = source_of(machine, a), cpu = machine.first(device_kind::cpu).value_or(no_index);
  const auto* direct = machine.route(from, a.device);
  const auto* first = direct != nullptr ? direct : machine.route(from, cpu);
  const auto* second = direct != nullptr ? nullptr : machine.route(cpu, a.device);
  if (first != nullptr)
    for (const auto s : machine.hops_of(*first)) visit(s);
  if (second != nullptr)
    for (const auto s : machine.hops_of(*second)) visit(s);
}

}  // namespace berth
