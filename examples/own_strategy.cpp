// SPDX-License-Identifier: Apache-2.0
// A strategy of your own: alternate atoms over the GPUs. It needs no base class and allocates nothing; a plan that
// broke a device's budget would come back as an error.
#include <array>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <span>
#include <string_view>

import berth;

struct RoundRobin {
  constexpr std::string_view name() const { return "round_robin"; }
  constexpr std::size_t scratch_cells(const berth::problem_view&) const { return 0; }
  constexpr berth::result<berth::done> solve(const berth::problem_view& p, std::span<berth::placement> out,
                                             std::span<std::uint64_t>) const {
    const auto gpus = berth::gpu_count(p);
    if (gpus == 0) return berth::fail(berth::errc::unsupported, name(), "needs a GPU");
    for (std::uint32_t i = 0; i < out.size(); ++i) out[i] = {i % gpus, i % gpus};
    return berth::done{};
  }
};
static_assert(berth::Strategy<RoundRobin>);

int main() {
  berth::model chain;
  for (const auto* name : {"layers.0", "layers.1", "layers.2", "layers.3"})
    chain.add(name, berth::atom_kind::block, 3 * berth::GiB, 0);
  const auto machine = berth::preset("2x3090");
  if (!machine) return 2;

  const auto plan = berth::Place<RoundRobin>(chain, *machine);
  if (!plan) return 1;
  for (const auto& atom : plan->atoms) std::cout << atom.name << " -> " << plan->device_of(atom.name).view() << "\n";

  const std::array limits{berth::device_bytes{berth::device_id(0), berth::GiB},
                          berth::device_bytes{berth::device_id(1), berth::GiB}};
  berth::place_options options;
  options.max_memory = limits;
  const auto too_small = berth::Place<RoundRobin>(chain, *machine, options);
  std::cout << "in 1 GiB each: " << berth::name_of(too_small.error().code) << "\n";
}
