// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <utility>
#include <vector>

module berth.plan;

namespace berth {

result<planning_problem> planning_problem::make(model_view m, topology_view t, const place_options& options,
                                                std::pmr::memory_resource* memory) {
  planning_problem out(memory);
  out.seats_.resize(max_seats(t));
  auto count = make_seats(t, options, out.seats_);
  if (!count) return count.propagate();
  out.seats_.resize(*count);
  out.model_ = m;
  out.topology_ = t;
  out.workload_ = options.workload;
  out.staging_slots_ = options.staging_slots;
  out.charge(m, pads_tensors(t, out.seats_));
  for (const auto& u : out.ties_)
    // Strategies rely on loads that never shrink when an atom is added.
    if (u.atom >= out.loads_.size() || u.size > out.loads_[u.atom])
      return fail(errc::invalid_argument, u.atom < out.loads_.size() ? m.atoms[u.atom].name : std::string_view("ties"),
                  "a tied storage is larger than the atom that uses it (padding included)");
  return out;
}

planning_problem::planning_problem(const plan& p, std::pmr::memory_resource* memory) : planning_problem(memory) {
  model_ = p.model();
  topology_ = p.topology();
  workload_ = p.workload;
  staging_slots_ = p.staging_slots;
  std::pmr::vector<seat_index> seat_of_device(p.devices.size(), none, memory);
  for (const auto& u : p.uses) {
    const auto& d = p.devices[u.device];
    bytes limit = u.available();
    if (d.granularity > 1) limit -= limit % d.granularity;
    seat_of_device[u.device] = static_cast<seat_index>(seats_.size());
    seats_.push_back(detail::seat_of(topology_, u.device, limit));
  }
  charge(model_, p.padded);
  for (const auto& at : p.placements)
    placements_.push_back({seat_of_device[at.home], seat_of_device[at.execution],
                           at.prompt == no_index ? none : seat_of_device[at.prompt]});
}

void planning_problem::charge(model_view m, bool padded) {
  padded_ = padded;
  for (const auto& a : m.atoms) {
    loads_.push_back(detail::charged_weights(a, padded));
    states_.push_back(detail::charged(a.state, padded));
    workspaces_.push_back(detail::charged(a.workspace, padded));
  }
  const auto all_zero = [](const auto& list) {
    return std::all_of(list.begin(), list.end(), [](bytes b) { return b == 0; });
  };
  if (all_zero(states_)) states_.clear();
  if (all_zero(workspaces_)) workspaces_.clear();
  ties_.assign(m.ties.begin(), m.ties.end());
  for (auto& u : ties_) u.size = detail::charged(u.size, padded);
  links_.resize(topology_.devices.size() * topology_.devices.size());
  make_links(topology_, links_);
}

problem_view planning_problem::view() const {
  problem_view v{model_.atoms, loads_, ties_, seats_, staging_slots_};
  v.states = states_;
  v.workspaces = workspaces_;
  v.links = links_;
  v.machine = topology_;
  v.workload = workload_;
  return v;
}

plan_times price(const problem_view& p, std::span<const placement> out, std::pmr::memory_resource* memory) {
  if (!rates_known(p)) return {};
  std::pmr::vector<std::uint64_t> scratch(evaluator::cells(p), memory);
  return evaluate(p, out, scratch);
}

certificate certify(const problem_view& p, std::span<const placement> out, std::pmr::memory_resource* memory) {
  certificate c;
  if (!rates_known(p)) return c;
  c.value = price(p, out, memory).value;
  if (!(c.value < forever)) return c;
  const Intervals intervals;
  std::pmr::vector<std::uint64_t> scratch(intervals.scratch_cells(p), memory);
  std::pmr::vector<placement> best(out.size(), memory);
  if (!out.empty() && !scratch.empty())
    c.interval_value = intervals.solve(p, best, scratch) ? price(p, best, memory).value : forever;
  if (p.workload.objective == objective::memory) return c;  // no bound is known for it
  const auto bound = bound_of(p, c.value, memory);
  c.bound = bound.bound;
  c.bound_name = bound.name;
  return c;
}

}  // namespace berth
