// SPDX-License-Identifier: Apache-2.0
// Outputs of p2pBandwidthLatencyTest; every sample is made up.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <string>
#include <string_view>
#include <vector>

import berth.formats;

using berth::parse_p2p_bandwidth;
using berth::read_p2p_bandwidth;

namespace {

bool has(std::string_view s, std::string_view part) { return s.find(part) != std::string_view::npos; }

bool noted(const std::vector<std::string>& notes, std::string_view part) {
  return std::any_of(notes.begin(), notes.end(), [&](const auto& n) { return has(n, part); });
}

std::string refusal(std::string_view text) {
  const auto m = parse_p2p_bandwidth(text, "sample");
  BOOST_REQUIRE(!m.has_value());
  return std::string(m.error().detail.view());
}

double rate(const berth::topology& t, berth::device_index a, berth::device_index b) {
  return t.view().bandwidth_of(*t.view().route(a, b));
}

constexpr std::string_view complete =
    "[P2P (Peer-to-Peer) GPU Bandwidth Latency Test]\n"
    "Device: 0, NVIDIA H100 PCIe, pciBusID: 7, pciDeviceID: 0, pciDomainID:0\n"
    "Device=0 CAN Access Peer Device=1\n"
    "P2P Connectivity Matrix\n     D\\D     0     1\n     0       1     1\n     1       1     1\n"
    "Unidirectional P2P=Disabled Bandwidth Matrix (GB/s)\n   D\\D     0      1 \n     0 1500.00  20.00 \n     1  21.00 "
    "1500.00 \n"
    "Unidirectional P2P=Enabled Bandwidth (P2P Writes) Matrix (GB/s)\n   D\\D     0      1 \n     0 1500.00  50.00 \n  "
    "   1  40.00 1600.00 \n"
    "Bidirectional P2P=Disabled Bandwidth Matrix (GB/s)\n   D\\D     0      1 \n     0 1500.00  30.00 \n     1  30.00 "
    "1500.00 \n"
    "Bidirectional P2P=Enabled Bandwidth Matrix (GB/s)\n   D\\D     0      1 \n     0 1500.00  90.00 \n     1  90.00 "
    "1500.00 \n"
    "P2P=Disabled Latency Matrix (us)\n   GPU     0      1 \n     0   2.00  20.00 \n     1  20.00   2.00 \n\n"
    "   CPU     0      1 \n     0   3.00   9.00 \n     1   9.00   3.00 \n"
    "P2P=Enabled Latency (P2P Writes) Matrix (us)\n   GPU     0      1 \n     0   2.00   4.00 \n     1   5.00   2.00 "
    "\n";

}  // namespace

BOOST_AUTO_TEST_SUITE(formats_topology_p2p)

BOOST_AUTO_TEST_CASE(all_six_matrices_are_read) {
  const auto m = parse_p2p_bandwidth(complete, "sample");
  BOOST_REQUIRE(m.has_value());
  BOOST_TEST(m->gpus == 2u);
  BOOST_TEST(m->model == "H100 PCIe");
  BOOST_TEST((m->one_way == std::vector<double>{1500, 20, 21, 1500}));
  BOOST_TEST((m->one_way_p2p == std::vector<double>{1500, 50, 40, 1600}));
  BOOST_TEST((m->both_ways == std::vector<double>{1500, 30, 30, 1500}));
  BOOST_TEST((m->both_ways_p2p == std::vector<double>{1500, 90, 90, 1500}));
  BOOST_TEST((m->latency_us == std::vector<double>{2, 20, 20, 2}));
  BOOST_TEST((m->latency_p2p_us == std::vector<double>{2, 4, 5, 2}));
  BOOST_TEST(m->notes.empty());
}

BOOST_AUTO_TEST_CASE(measured_rates_go_into_the_topology) {
  const auto t = read_p2p_bandwidth(complete, "sample");
  BOOST_REQUIRE(t.has_value());
  BOOST_TEST(rate(t->machine, 0, 1) == 50e9);
  BOOST_TEST(rate(t->machine, 1, 0) == 40e9);
  BOOST_TEST(t->machine.view().route(1, 0)->setup == 5e-6);
  BOOST_TEST(t->machine.devices[0].bandwidth() == 1500e9, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(t->machine.devices[1].bandwidth() == 1600e9, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(noted(t->notes, "one-way rates with peer access"));
  BOOST_TEST(!noted(t->notes, "is assumed;"));
}

BOOST_AUTO_TEST_CASE(two_way_rates_count_both_directions) {
  const auto t = read_p2p_bandwidth(
      "2x RTX 3090\nBidirectional P2P=Enabled Bandwidth Matrix (GB/s)\n D\\D 0 1\n 0 800 12\n 1 14 800\n", "sample");
  BOOST_REQUIRE(t.has_value());
  BOOST_TEST(t->machine.devices[0].model.view() == "RTX 3090");
  BOOST_TEST(rate(t->machine, 0, 1) == 6e9);
  BOOST_TEST(noted(t->notes, "half of the two-way"));
}

BOOST_AUTO_TEST_CASE(a_second_machine_is_said_and_left_out) {
  const std::string one = "Unidirectional P2P=Disabled Bandwidth Matrix (GB/s)\n D\\D 0 1\n 0 800 12\n 1 14 800\n";
  const std::string other =
      "Unidirectional P2P=Enabled Bandwidth Matrix (GB/s)\n D\\D 0 1 2\n 0 8 7 6\n 1 7 8 6\n 2 6 6 8\n";
  for (const auto& text : {one + one, one + other}) {
    const auto m = parse_p2p_bandwidth(text, "sample");
    BOOST_REQUIRE(m.has_value());
    BOOST_TEST(m->gpus == 2u);
    BOOST_TEST(noted(m->notes, "more than one machine"));
  }
}

BOOST_AUTO_TEST_CASE(one_gpu_has_only_itself) {
  const auto t = read_p2p_bandwidth("Unidirectional P2P=Disabled Bandwidth Matrix (GB/s)\n D\\D 0\n 0 800\n", "sample");
  BOOST_REQUIRE(t.has_value());
  BOOST_TEST(t->machine.view().count(berth::device_kind::gpu) == 1u);
  BOOST_TEST(noted(t->notes, "is assumed"));
}

BOOST_AUTO_TEST_CASE(broken_matrices_are_refused_with_their_line) {
  const std::string title = "Unidirectional P2P=Disabled Bandwidth Matrix (GB/s)\n";
  BOOST_TEST(has(refusal("no matrix\n"), "no bandwidth matrix"));
  BOOST_TEST(has(refusal(title), "line 2"));
  BOOST_TEST(has(refusal(title + "0 1\n"), "line 2"));
  BOOST_TEST(has(refusal(title + " D\\D 0 0\n"), "distinct"));
  BOOST_TEST(has(refusal(title + " D\\D 0 1\n 0 1 2\n"), "line 4"));
  BOOST_TEST(has(refusal(title + " D\\D 0 1\n 0 1 2\n 1 3\n"), "row of GPU 1"));
  BOOST_TEST(has(refusal(title + " D\\D 0 1\n 1 1 2\n 0 3 4\n"), "row of GPU 0"));
  for (const auto* value : {"0", "-3", "nan", "inf", "x", "1e99"})
    BOOST_TEST(has(refusal(title + " D\\D 0 1\n 0 1 " + value + "\n 1 3 4\n"), "positive"));
}

BOOST_AUTO_TEST_SUITE_END()
