// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <string>
#include <string_view>

import berth.topology;

using berth::device_kind;
using berth::preset;

BOOST_AUTO_TEST_SUITE(topology_presets)

BOOST_AUTO_TEST_CASE(every_name_of_the_list_is_a_valid_machine) {
  const auto names = berth::preset_names();
  BOOST_TEST(names.size() >= 12u);
  for (const auto& name : names) {
    BOOST_TEST_CONTEXT(name) {
      const auto t = preset(name);
      BOOST_REQUIRE(t.has_value());
      BOOST_TEST(berth::validate(*t).has_value());
      BOOST_TEST(t->name.view() == name);
      BOOST_TEST(t->view().count(device_kind::cpu) == 1u);
      BOOST_TEST(t->view().count(device_kind::disk) == 1u);
    }
  }
  auto sorted = names;
  std::sort(sorted.begin(), sorted.end());
  BOOST_TEST((std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end()));
}

BOOST_AUTO_TEST_CASE(every_executing_pair_can_exchange_data) {
  for (const auto& name : berth::preset_names()) {
    const auto t = *preset(name);
    const auto v = t.view();
    for (berth::device_index a = 0; a < v.devices.size(); ++a)
      for (berth::device_index b = 0; b < v.devices.size(); ++b) {
        const bool expected = a != b && v.devices[b].executes();
        if (expected) BOOST_TEST((v.route(a, b) != nullptr), name << ": " << a << " -> " << b);
      }
  }
}

BOOST_AUTO_TEST_CASE(names_follow_a_rule_and_mix) {
  const auto mixed = preset("1x5090+2x3090");
  BOOST_REQUIRE(mixed.has_value());
  BOOST_TEST(mixed->view().count(device_kind::gpu) == 3u);
  BOOST_TEST(mixed->devices[0].model.view() == "RTX 5090");
  BOOST_TEST(mixed->devices[2].model.view() == "RTX 3090");
  BOOST_TEST(preset("3x4080").has_value());
  const auto bridged = *preset("2x3090-nvlink"), plain = *preset("2x3090");
  BOOST_TEST(bridged.view().bandwidth_of(*bridged.view().route(0, 1)) >
             2 * plain.view().bandwidth_of(*plain.view().route(0, 1)));
}

BOOST_AUTO_TEST_CASE(an_unknown_name_is_answered_with_the_nearest_ones) {
  for (const auto name : {"8x3091", "", "0x4090", "65x4090", "x4090", "4090", "4x", "2x4090-nvlink", "4x3090-nvlink",
                          "1x4090+", "40x4090+40x4090", "1xgh200"}) {
    const auto t = preset(name);
    BOOST_TEST_CONTEXT(name) {
      BOOST_REQUIRE(!t.has_value());
      BOOST_TEST((t.error().code == berth::errc::unknown_device));
    }
  }
  BOOST_TEST((preset("8x3091").error().detail.view().find("8x3090") != std::string_view::npos));
  BOOST_TEST((preset("jetson-orin").error().detail.view().find("jetson-orin-64g") != std::string_view::npos));
}

BOOST_AUTO_TEST_CASE(one_package_machines_count_their_pool_once) {
  const auto jetson = *preset("jetson-orin-64g");
  berth::bytes memory = 0;
  for (const auto& d : jetson.devices)
    if (d.kind != device_kind::disk) memory += d.memory;
  BOOST_TEST(memory == jetson.devices[0].memory);
  const auto tray = *preset("gb200-tray");
  BOOST_TEST(tray.view().count(device_kind::gpu) == 4u);
  const auto* down = tray.view().route(*tray.view().find("cpu"), 0);
  BOOST_TEST((tray.segments[tray.view().hops_of(*down)[0]].kind == berth::segment_kind::c2c));
}

BOOST_AUTO_TEST_CASE(the_constant_and_the_run_time_machine_agree) {
  constexpr auto fixed = berth::presets::pcie_box<4>("RTX 4090");
  auto copied = berth::materialize(fixed);
  auto named = *preset("4x4090");
  copied.name = named.name;
  BOOST_TEST((copied == named));
}

BOOST_AUTO_TEST_SUITE_END()
