// SPDX-License-Identifier: Apache-2.0
// Topologies are literal values: this file passes by compiling.
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

import berth.topology;

namespace {

using berth::device_id;
using berth::device_kind;
using berth::topology_view;

// Ids compare with ints and text, and order as devices are listed.
static_assert(device_id(1) == 1 && device_id("1") == 1 && device_id(1) != 2);
static_assert(device_id("cpu") == "cpu" && device_id("npu:0") != "npu:1");
static_assert(device_id("3").ordinal() == 3 && !device_id("03").ordinal() && !device_id(-1).ordinal());
static_assert(!device_id("npu:0").ordinal() && !device_id().ordinal() && !device_id("1234567890").ordinal());
static_assert(device_id(2) < device_id(10) && device_id(10) < device_id("mps"));
static_assert(device_id("mps") < device_id("cpu") && device_id("cpu") < device_id("disk"));
static_assert(device_id::fits("npu:0") && !device_id::fits("") && !device_id::fits("0123456789012345678901234"));

// The machine of the architecture page.
constexpr auto box = berth::presets::pcie_box<4>("RTX 4090");
constexpr topology_view view = box.view();
static_assert(berth::validate(box).has_value() && !box.overflowed());
static_assert(view.devices.size() == 6 && view.count(device_kind::gpu) == 4);
static_assert(view.find(3) == 3u && view.find("cpu") == 4u && view.find("disk") == 5u && !view.find("mps"));
static_assert(view.devices[0].memory == 24564 * berth::MiB && view.devices[0].free < view.devices[0].memory);
static_assert(view.route(0, 1) != nullptr && view.route(0, 0) == nullptr && view.route(0, 5) == nullptr);
static_assert(view.route(5, 0) != nullptr && view.routes.size() == 4 * 3 + 4 * 2 + 4 + 2);
// No peer access on this card: the copy is staged in DRAM and slower than the link to the host.
static_assert(view.bandwidth_of(*view.route(0, 1)) < view.bandwidth_of(*view.route(0, 4)));
static_assert(view.hops_of(*view.route(0, 1)).size() == 5);
static_assert(view.route(0, 1)->latency >= berth::default_hop_cost);

// NVLink: faster than the host link, through the two ports only.
constexpr auto hgx = berth::presets::nvlink_box<8>("H100 SXM");
static_assert(berth::validate(hgx).has_value() && hgx.view().devices.size() == 10);
static_assert(hgx.view().bandwidth_of(*hgx.view().route(0, 7)) > 3e11);
static_assert(hgx.view().hops_of(*hgx.view().route(0, 7)).size() == 2);
constexpr auto bridged = berth::presets::nvlink_box<2>("3090");
static_assert(berth::validate(bridged).has_value() && bridged.view().bandwidth_of(*bridged.view().route(0, 1)) > 4e10);

// One package: one pool, counted once.
constexpr auto jetson = berth::presets::single_package("Jetson AGX Orin 64GB", berth::hosts::orin);
static_assert(berth::validate(jetson).has_value());
static_assert(jetson.view().devices[1].id == "cpu" && jetson.view().devices[1].memory == 0);
static_assert(jetson.view().devices[1].shares_memory_of == 0);
constexpr auto gh200 = berth::presets::single_package("gh200", berth::hosts::grace);
static_assert(berth::validate(gh200).has_value());
static_assert(gh200.view().bandwidth_of(*gh200.view().route(1, 0)) > 3e11);
static_assert(gh200.view().segments[gh200.view().hops_of(*gh200.view().route(1, 0))[0]].kind ==
              berth::segment_kind::c2c);

// Every model of the table makes a valid box, and names find it.
constexpr bool every_spec_is_sound() {
  for (const auto& g : berth::gpu_specs) {
    if (g.memory_mib * berth::MiB <= berth::default_gpu_context || g.bandwidth_gb <= 0 || g.half_tflops <= 0)
      return false;
    if (berth::find_gpu(g.name) != &g || berth::find_gpu(g.short_name) != &g || berth::find_gpu(g.product) != &g)
      return false;
    berth::static_topology<1, 1, 1, 1> alone;
    alone.add(berth::device_of(g, 0));
    if (!berth::validate(alone)) return false;
  }
  return true;
}
static_assert(every_spec_is_sound());
static_assert(berth::find_gpu("nvidia geforce rtx4090") == berth::find_gpu("4090"));
static_assert(berth::find_gpu("RTX 9999") == nullptr);

// int8 is not twice bf16 on every part; a card without fp8 units computes fp8 weights in half precision.
static_assert(berth::device_of(*berth::find_gpu("B300 SXM"), 0).flops(berth::rate_class::int8) <
              berth::device_of(*berth::find_gpu("B300 SXM"), 0).flops(berth::rate_class::half));
static_assert(berth::device_of(*berth::find_gpu("a40"), 0).flops(berth::dtype::f8_e4m3) ==
              berth::device_of(*berth::find_gpu("a40"), 0).flops(berth::dtype::bf16));

// PCIe in NCCL's units: 12, 24, 48 GB/s for sixteen lanes of generations 3, 4, 5.
static_assert(berth::pcie_rate(3, 16) == 12e9 && berth::pcie_rate(4, 16) == 24e9 && berth::pcie_rate(5, 16) == 48e9);

// Adding beyond the capacity is remembered, never written out of bounds.
constexpr bool overflow_is_remembered() {
  berth::static_topology<1, 1, 1, 1> t;
  berth::device d;
  d.id = 0;
  t.add(d);
  d.id = 1;
  return t.add(d) == berth::no_index && t.overflowed() && t.view().devices.size() == 1;
}
static_assert(overflow_is_remembered());

// What validate refuses.
constexpr auto broken(int how) {
  berth::static_topology<3, 2, 2, 4> t;
  berth::device d;
  d.id = 0;
  d.memory = 100;
  d.free = how == 1 ? 101 : 50;
  t.add(d);
  d.id = how == 2 ? 0 : 1;
  if (how == 3) d.granularity = 0;
  if (how == 4) d.overhead = -1;
  if (how == 5) d.kind = device_kind::cpu;
  if (how == 6) d.shares_memory_of = 0;
  if (how == 7) d.compute_efficiency = 0;
  t.add(d);
  t.add(berth::segment{"link", berth::segment_kind::pcie, how == 8 ? 0.0 : 1e9});
  const std::array<berth::segment_index, 2> over{0, how == 9 ? 1u : 0u};
  berth::route r;
  r.from = how == 10 ? 1 : 0;
  r.to = how == 11 ? 7 : 1;
  r.bandwidth = how == 12 ? 0 : 1e9;
  t.connect(r, std::span(over.data(), how == 13 ? 0u : how == 9 || how == 14 ? 2u : 1u));
  if (how == 15) t.connect(r, std::span(over.data(), 1));
  return t;
}
constexpr bool refused(int how) {
  const auto r = berth::validate(broken(how));
  return !r.has_value() && r.error().code == berth::errc::invalid_topology;
}
constexpr bool every_defect_is_refused() {
  for (int how = 1; how <= 15; ++how)
    if (!refused(how)) return false;
  return true;
}
static_assert(berth::validate(broken(0)).has_value());
static_assert(every_defect_is_refused());
static_assert(!berth::validate(topology_view{}).has_value());

}  // namespace
