// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string_view>
#include <vector>

#include "plans.hpp"

import berth;
import tiny;

namespace tiny_test {
namespace {

using berth::placement;
using berth::seat_index;

struct seats {
  seat_index first = 0, second = 1, cpu = 2, disk = 3;
};

/// Where atom i of n goes.
placement place_of(plan_kind k, const seats& s, std::size_t i, std::size_t n, bool block) {
  switch (k) {
    case plan_kind::two_gpus:
      return i < n / 2 ? placement{s.first, s.first} : placement{s.second, s.second};
    case plan_kind::in_turn:
      return i % 2 == 0 ? placement{s.first, s.first} : placement{s.second, s.second};
    case plan_kind::on_cpu:
      return {s.cpu, s.cpu};
    case plan_kind::cpu_computes:
      return i % 2 == 0 ? placement{s.cpu, s.cpu} : placement{s.first, s.first};
    case plan_kind::cpu_streams:
      return block ? placement{s.cpu, s.first} : placement{s.first, s.first};
    case plan_kind::disk_streams:
      return block ? placement{s.disk, s.first} : placement{s.first, s.first};
    case plan_kind::all_streams:
      return {s.disk, s.cpu};
    case plan_kind::prompt_on_gpu:
      return {s.cpu, s.cpu, s.first};
    case plan_kind::mixed: {
      const placement turn[] = {{s.cpu, s.cpu},  {s.cpu, s.first},         {s.disk, s.first}, {s.second, s.second},
                                {s.disk, s.cpu}, {s.cpu, s.cpu, s.second}, {s.cpu, s.second}};
      return turn[i % std::size(turn)];
    }
    default:
      return {s.first, s.first};
  }
}

/// A strategy that does as the kind says.
struct Spread {
  plan_kind kind = plan_kind::one_gpu;

  constexpr std::string_view name() const { return "spread"; }
  constexpr std::size_t scratch_cells(const berth::problem_view&) const { return 0; }
  berth::result<berth::done> solve(const berth::problem_view& p, std::span<placement> out,
                                   std::span<std::uint64_t>) const {
    if (berth::gpu_count(p) != 2 || p.seats.size() != 4)
      return berth::fail(berth::errc::unsupported, name(), "needs two GPUs, a CPU and a disk");
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = place_of(kind, {}, i, out.size(), p.atoms[i].kind == berth::atom_kind::block);
    return berth::done{};
  }
};
static_assert(berth::Strategy<Spread>);

/// Budgets that are meant to the byte: no contexts, no rounding of arenas.
void cut(berth::topology& t, berth::bytes each) {
  for (auto& d : t.devices) {
    d.context = 0;
    d.granularity = 1;
    if (d.kind != berth::device_kind::disk) d.memory = d.free = each;
  }
}

}  // namespace

std::string_view name_of(plan_kind k) {
  constexpr std::array<std::string_view, all_kinds.size()> names{
      "one_gpu",     "two_gpus",      "in_turn", "on_cpu",   "cpu_computes", "cpu_streams",    "disk_streams",
      "all_streams", "prompt_on_gpu", "mixed",   "balanced", "automatic",    "automatic_tight"};
  return names[static_cast<std::size_t>(k)];
}

berth::result<berth::plan> plan_of(plan_kind k, const tiny::opened& m, const berth::precision& how,
                                   const berth::workload& w) {
  const auto chain = tiny::chain_of(m, how, w);
  if (!chain) return chain.propagate();
  auto machine = berth::preset("2x3090");
  if (!machine) return machine.propagate();
  berth::place_options options;
  options.workload = w;
  options.use_disk = true;
  options.certify = false;
  if (k == plan_kind::automatic_tight) {
    berth::bytes largest = 0;
    for (const auto& a : chain->atoms()) largest = std::max(largest, a.weights + a.state + a.workspace);
    cut(*machine, std::max(berth::total_weights(*chain) / 6, 3 * largest));
  }
  return k == plan_kind::balanced ? berth::Place<berth::Balanced>(*chain, *machine, options)
         : k == plan_kind::automatic || k == plan_kind::automatic_tight
             ? berth::Place<berth::Auto>(*chain, *machine, options)
             : berth::place_fn{Spread{k}}(*chain, *machine, options);
}

}  // namespace tiny_test
