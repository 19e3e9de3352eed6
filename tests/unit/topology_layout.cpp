// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

import berth.topology;

using berth::machine_layout;
using berth::segment_kind;
using berth::topology;

namespace {

/// Four PCIe GPUs: 0 and 1 below one switch, 2 beside them on the same bridge, 3 in another socket.
machine_layout two_sockets(std::string_view model) {
  machine_layout l;
  l.name = "test";
  l.host = berth::hosts::server;
  l.links = {{"bridge a", segment_kind::host_bridge, 100e9},
             {"bridge b", segment_kind::host_bridge, 100e9},
             {"switch", segment_kind::pcie, 24e9}};
  for (std::size_t i = 0; i < 4; ++i) {
    machine_layout::gpu g;
    g.id = static_cast<int>(i);
    g.spec = *berth::find_gpu(model);
    g.uplinks = {l.links.size()};
    if (i < 2) g.uplinks.push_back(2);
    g.bridge = i < 3 ? 0 : 1;
    g.socket = i < 3 ? 0 : 1;
    l.links.push_back({"pcie " + std::to_string(i), segment_kind::pcie, 24e9});
    l.gpus.push_back(g);
  }
  return l;
}

std::vector<std::string> path(const topology& t, berth::device_index a, berth::device_index b) {
  std::vector<std::string> names;
  const auto v = t.view();
  for (const auto s : v.hops_of(*v.route(a, b))) names.emplace_back(t.segments[s].name.view());
  std::sort(names.begin(), names.end());
  return names;
}

using names = std::vector<std::string>;

}  // namespace

BOOST_AUTO_TEST_SUITE(topology_layout)

BOOST_AUTO_TEST_CASE(peer_copies_climb_to_the_nearest_common_link) {
  const auto t = *berth::build(two_sockets("L40S"));
  BOOST_TEST((path(t, 0, 1) == names{"pcie 0 out", "pcie 1 in"}));
  BOOST_TEST((path(t, 0, 2) == names{"bridge a out", "pcie 0 out", "pcie 2 in", "switch out"}));
  BOOST_TEST(
      (path(t, 3, 0) == names{"bridge a in", "bridge b out", "pcie 0 in", "pcie 3 out", "socket 1 to 0", "switch in"}));
  BOOST_TEST(t.view().bandwidth_of(*t.view().route(3, 0)) == berth::default_socket_copy_rate);
}

BOOST_AUTO_TEST_CASE(blocked_peers_are_staged_in_dram) {
  const auto t = *berth::build(two_sockets("RTX 4090"));
  const auto over = path(t, 0, 1);
  BOOST_TEST(std::count(over.begin(), over.end(), "dram") == 1);
  BOOST_TEST(std::count(over.begin(), over.end(), "switch in") == 1);
  BOOST_TEST(t.view().bandwidth_of(*t.view().route(0, 1)) == 24e9 * berth::staged_share);
}

BOOST_AUTO_TEST_CASE(copies_from_the_host_share_switch_and_bridge) {
  const auto t = *berth::build(two_sockets("L40S"));
  const auto cpu = *t.view().find("cpu");
  BOOST_TEST((path(t, cpu, 0) == names{"bridge a in", "dram", "pcie 0 in", "switch in"}));
  BOOST_TEST((path(t, 1, cpu) == names{"bridge a out", "dram", "pcie 1 out", "switch out"}));
  BOOST_TEST((t.view().route(*t.view().find("disk"), 3) != nullptr));
  BOOST_TEST((t.view().route(3, *t.view().find("disk")) == nullptr));
}

BOOST_AUTO_TEST_CASE(a_direct_link_serves_its_direction_only) {
  auto l = two_sockets("L40S");
  l.peers.push_back({0, 3, segment_kind::nvlink, 40e9});
  const auto t = *berth::build(l);
  BOOST_TEST((path(t, 0, 3) == names{"nvlink 0 to 3"}));
  BOOST_TEST(path(t, 3, 0).size() == 6u);
}

BOOST_AUTO_TEST_CASE(switch_ports_join_the_gpus_that_have_one) {
  auto l = two_sockets("L40S");
  for (std::size_t i = 0; i < 3; ++i) l.gpus[i].port_rate = 240e9;
  const auto t = *berth::build(l);
  BOOST_TEST((path(t, 0, 2) == names{"peers 0 out", "peers 2 in"}));
  BOOST_TEST(path(t, 0, 3).size() > 2u);
}

BOOST_AUTO_TEST_CASE(intel_charges_copies_through_its_bridge) {
  auto l = two_sockets("L40S");
  l.bridge_divisor = 1.2;
  const auto t = *berth::build(l);
  BOOST_TEST(t.view().bandwidth_of(*t.view().route(0, 1)) == 24e9);
  BOOST_TEST(t.view().bandwidth_of(*t.view().route(0, 2)) == 24e9 / 1.2);
}

BOOST_AUTO_TEST_CASE(broken_layouts_are_refused) {
  auto no_uplink = two_sockets("L40S");
  no_uplink.gpus[1].uplinks.clear();
  auto lost_link = two_sockets("L40S");
  lost_link.gpus[1].uplinks[0] = 99;
  auto no_rate = two_sockets("L40S");
  no_rate.links[0].rate = 0;
  auto lost_peer = two_sockets("L40S");
  lost_peer.peers.push_back({0, 9, segment_kind::nvlink, 1e9});
  auto no_port = two_sockets("L40S");
  no_port.peers.push_back({0, 1, segment_kind::nvlink, 1e9, true});
  auto twins = two_sockets("L40S");
  twins.gpus[1].id = 0;
  auto crowd = two_sockets("L40S");
  crowd.gpus.resize(65, crowd.gpus[0]);
  for (const auto& l : {no_uplink, lost_link, no_rate, lost_peer, no_port, twins, crowd}) {
    const auto t = berth::build(l);
    BOOST_REQUIRE(!t.has_value());
    BOOST_TEST((t.error().code == berth::errc::invalid_topology));
    BOOST_TEST(!t.error().detail.empty());
  }
}

BOOST_AUTO_TEST_CASE(equal_machines_compare_equal_whatever_the_order_of_their_routes) {
  auto a = *berth::preset("2x4090");
  auto b = a;
  std::reverse(b.routes.begin(), b.routes.end());
  BOOST_TEST((!(a == b)));
  b.sort_routes();
  BOOST_TEST((a == b));
}

BOOST_AUTO_TEST_SUITE_END()
