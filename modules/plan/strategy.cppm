// SPDX-License-Identifier: Apache-2.0
module;

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

export module berth.plan:strategy;

import berth.model;
import berth.topology;
import :problem;

export namespace berth {

/// A placement policy: a literal type that says how many 64-bit cells of scratch it needs for a problem and solves it
/// into `out` (one placement per atom), allocating nothing. `solve` may assume that `out` and the scratch are large
/// enough. A strategy that keeps to the seats' limits yields plans that `check` accepts; `Place` checks each one.
template <class S>
concept Strategy =
    requires(const S& s, const problem_view& p, std::span<placement> out, std::span<std::uint64_t> scratch) {
      { s.name() } -> std::convertible_to<std::string_view>;
      { s.scratch_cells(p) } -> std::same_as<std::size_t>;
      { s.solve(p, out, scratch) } -> std::same_as<result<done>>;
    };

/// Bytes that the whole model would need on one device: weights, each shared storage once, state and workspace.
constexpr bytes total_load(const problem_view& p) {
  bytes sum = 0, workspace = 0;
  for (std::size_t i = 0; i < p.loads.size(); ++i) {
    sum += p.resident(i);
    if (p.workspace(i) > workspace) workspace = p.workspace(i);
  }
  sum += workspace;
  for (std::size_t u = 1; u < p.ties.size(); ++u)
    if (p.ties[u].storage == p.ties[u - 1].storage) sum -= p.ties[u].size;
  return sum;
}

/// Slots for the largest atom of the model.
constexpr bytes staging_bytes_of_largest(const problem_view& p) {
  bytes largest = 0;
  for (const auto l : p.loads) largest = l > largest ? l : largest;
  return largest * p.staging_slots;
}

/// The error for a model that fits nowhere: what is needed, what every kind of device offers, and what would help.
constexpr failure does_not_fit(const problem_view& p, std::string_view strategy) {
  const bytes needed = total_load(p);
  bytes offered = 0, largest_atom = 0, executing = 0;
  std::uint32_t biggest = 0;
  bool has_cpu = false;
  const bool has_gpu = gpu_count(p) > 0;
  for (const auto& s : p.seats) {
    offered = s.limit > max_bytes - offered ? max_bytes : offered + s.limit;
    has_cpu = has_cpu || s.kind == device_kind::cpu;
    if (s.kind == (has_gpu ? device_kind::gpu : device_kind::cpu) && s.limit > executing) executing = s.limit;
  }
  for (std::uint32_t i = 0; i < p.loads.size(); ++i)
    if (p.resident(i) + p.workspace(i) > largest_atom) {
      largest_atom = p.resident(i) + p.workspace(i);
      biggest = i;
    }
  text<416> why;
  why.append("strategy ")
      .append(strategy)
      .append(": the model needs ")
      .append(needed)
      .append(" bytes, the devices offer ")
      .append(offered);
  if (needed > offered) {
    why.append(", ").append(needed - offered).append(" too few; ");
    why.append(has_cpu ? "raise a budget, allow the disk with --offload-folder, or use a smaller dtype"
                       : "raise a budget, add cpu=SIZE to --max-memory, or use a smaller dtype");
  } else {
    why.append(" in all, but not in pieces that the parts fit: the largest part is ")
        .append(p.atoms.empty() ? std::string_view() : p.atoms[biggest].name)
        .append(" with ")
        .append(largest_atom)
        .append(" bytes, the largest executing device has ")
        .append(executing)
        .append(" (streaming to it needs ")
        .append(std::uint64_t{p.staging_slots})
        .append(" slots of the largest streamed part)");
  }
  return fail(errc::does_not_fit, "model", why, needed, offered);
}

}  // namespace berth
