// SPDX-License-Identifier: Apache-2.0
// The exact interval optimum by the compiler: times, memory and messages decide.
#include <array>
#include <cstddef>
#include <string_view>

import berth;

namespace {

using namespace berth;

constexpr std::array<std::string_view, 8> names{"layers.0", "layers.1", "layers.2", "layers.3",
                                                "layers.4", "layers.5", "layers.6", "layers.7"};

/// Equal atoms of 100 MiB that touch all of it once per token.
template <std::size_t N>
consteval static_model<N> decoder() {
  static_model<N> m;
  for (std::size_t i = 0; i < N; ++i) {
    m.atoms[i].name = names[i];
    m.atoms[i].weights = 100 * MiB;
    for (auto& w : m.atoms[i].work) w = {1e6, 100.0 * MiB, 8192};
  }
  return m;
}

/// A fast card and a slow one, `latency` seconds apart.
consteval static_topology<2, 1, 2, 2> cards(bytes fast_memory, double latency) {
  static_topology<2, 1, 2, 2> t;
  for (int i = 0; i < 2; ++i) {
    device d;
    d.id = device_id(i);
    d.memory = d.free = i == 0 ? fast_memory : GiB;
    d.peak_flops.fill(1e14);
    d.peak_bandwidth = i == 0 ? 1e12 : 0.5e12;
    t.add(d);
  }
  const std::array link{t.add(segment{"link", segment_kind::pcie, 1e10})};
  t.connect({0, 1, latency, 0, 1e10}, link);
  t.connect({1, 0, latency, 0, 1e10}, link);
  t.sort_routes();
  return t;
}

consteval place_options asking(objective o) {
  place_options options;
  options.workload.objective = o;
  options.workload.generate = 16;
  return options;
}

constexpr auto model = decoder<8>();
constexpr auto latency = asking(objective::latency);
constexpr auto throughput = asking(objective::throughput);

// What fits the fast card stays there; what does not is handed over once.
constexpr auto all_on_one = Place<Intervals>(model, cards(GiB, 1e-4), latency);
static_assert(all_on_one->device_of("layers") == 0);
constexpr auto split = Place<Intervals>(model, cards(600 * MiB, 1e-4), latency);
static_assert(split->device_of("layers.5") == 0 && split->device_of("layers.6") == 1);
// Pipelined, the slow card takes its share: 5 atoms at full speed or 3 at half.
constexpr auto pipelined = Place<Intervals>(model, cards(GiB, 1e-6), throughput);
static_assert(pipelined->device_of("layers.0") == 0 && pipelined->device_of("layers.7") == 1);
static_assert(pipelined->device_of("layers.4") == 0 && pipelined->device_of("layers.5") == 1);
// Too little for all of it.
static_assert(Place<Intervals>(model, cards(100 * MiB, 1e-4), latency)->device_of("layers.1") == 1);

}  // namespace
