// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

module berth.plan;

namespace berth::detail {
namespace {

bytes exact_home_weights(model_view m, const problem_view& problem, std::span<const placement> placements, seat_index s,
                         std::pmr::memory_resource* memory) {
  std::pmr::vector<bytes> weights(m.atoms.size(), memory);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = m.atoms[i].weights;
  problem_view exact = problem;
  exact.loads = weights;
  exact.ties = m.ties;
  return home_load(exact, placements, s);
}

device_use use_of_seat(model_view m, topology_view t, const place_options& options, const problem_view& problem,
                       std::span<const placement> placements, seat_index s, bool padded,
                       std::pmr::memory_resource* memory) {
  const auto& seat = problem.seats[s];
  const auto& d = t.devices[seat.device];
  device_use use;
  use.device = seat.device;
  use.budget = d.free;
  if (const auto* cap = entry_of(options.max_memory, d.id); cap != nullptr && cap->amount < use.budget)
    use.budget = cap->amount;
  if (const auto* kept = entry_of(options.reserve, d.id); kept != nullptr) use.reserve = kept->amount;
  use.weights = exact_home_weights(m, problem, placements, s, memory);
  use.staging = staging_load(problem, placements, s);
  use.state = state_load(problem, placements, s);
  use.workspace = workspace_load(problem, placements, s);
  bytes total = seat_load(problem, placements, s);
  if (padded) total = round_up(total, d.granularity);
  use.padding = total - use.weights - use.staging - use.state - use.workspace;
  return use;
}

/// Settings that only harm. `Auto` leaves the GPUs only where that is better, so it is not told so.
void warn_of_harm(plan& p) {
  bytes free_on_gpus = 0, off_gpu = 0, largest_atom = 0;
  bool has_gpu = false;
  for (const auto l : p.loads) largest_atom = std::max(largest_atom, l);
  for (const auto& u : p.uses) {
    if (p.devices[u.device].kind != device_kind::gpu) {
      off_gpu += u.used();
      continue;
    }
    has_gpu = true;
    free_on_gpus += u.free();
    if (u.used() == 0 && u.available() < largest_atom)
      p.warnings.push_back(text<416>("the budget of device ")
                               .append(p.devices[u.device].id)
                               .append(" is smaller than the largest part of the model (")
                               .append(format_size(largest_atom))
                               .append("); raise it or leave the device out"));
  }
  if (has_gpu && off_gpu > 0 && off_gpu <= free_on_gpus && p.strategy != "auto" && p.strategy != "cpu" &&
      p.strategy != "single" && p.strategy != "interval")
    p.warnings.push_back("parts are offloaded although the GPUs have room for the whole model, which makes it slower");
}

}  // namespace

result<plan> make_plan(std::string_view strategy, model_view m, topology_view t, const place_options& options,
                       const problem_view& problem, std::span<const placement> placements, bool padded,
                       std::pmr::memory_resource* memory) {
  plan p(memory);
  p.strategy = strategy;
  p.workload = options.workload;
  p.staging_slots = options.staging_slots;
  p.padded = padded;
  std::size_t characters = 0;
  for (const auto& a : m.atoms) characters += a.name.size();
  p.reserve_names(characters);
  p.atoms.reserve(m.atoms.size());
  for (auto a : m.atoms) {
    a.name = p.keep_name(a.name);
    p.atoms.push_back(a);
  }
  p.loads.assign(problem.loads.begin(), problem.loads.end());
  p.ties.assign(m.ties.begin(), m.ties.end());
  p.placements.reserve(placements.size());
  for (std::size_t i = 0; i < placements.size(); ++i) {
    const auto& o = placements[i];
    if (o.home >= problem.seats.size() || o.execution >= problem.seats.size())
      return fail(errc::invalid_plan, m.atoms[i].name, "the strategy left this atom without a device");
    // A prompt seat that says nothing new is left out, so that equal decisions are equal values.
    const bool other = o.prompt != none && o.prompt != o.execution;
    p.placements.push_back({problem.seats[o.home].device, problem.seats[o.execution].device,
                            other ? problem.seats[o.prompt].device : no_index});
  }
  p.topology_name = t.name;
  p.devices.assign(t.devices.begin(), t.devices.end());
  p.segments.assign(t.segments.begin(), t.segments.end());
  p.routes.assign(t.routes.begin(), t.routes.end());
  p.hops.assign(t.hops.begin(), t.hops.end());
  p.uses.reserve(problem.seats.size());
  for (seat_index s = 0; s < problem.seats.size(); ++s)
    p.uses.push_back(use_of_seat(m, t, options, problem, placements, s, padded, memory));
  p.priced = rates_known(problem);
  p.times = price(problem, placements, memory);
  if (options.certify) p.certificate = certify(problem, placements, memory);
  warn_of_harm(p);
  if (const auto violations = check(p, memory); !violations.empty()) return failure{violations.front()};
  return p;
}

}  // namespace berth::detail
