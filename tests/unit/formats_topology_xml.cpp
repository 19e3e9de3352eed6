// SPDX-License-Identifier: Apache-2.0
// NCCL and RCCL topologies; every sample is made up.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <string>
#include <string_view>
#include <vector>

import berth.formats;

using berth::read_nccl_xml;

namespace {

berth::topology_document read(std::string_view text, const berth::topology_options& options = {}) {
  auto t = read_nccl_xml(text, "sample", options);
  BOOST_REQUIRE_MESSAGE(t.has_value(), std::string(t ? "" : t.error().detail.view()));
  return *std::move(t);
}

berth::error refusal(std::string_view text) {
  const auto t = read_nccl_xml(text, "sample");
  BOOST_REQUIRE(!t.has_value());
  return t.error();
}

bool has(std::string_view s, std::string_view part) { return s.find(part) != std::string_view::npos; }

bool noted(const std::vector<std::string>& notes, std::string_view part) {
  return std::any_of(notes.begin(), notes.end(), [&](const auto& n) { return has(n, part); });
}

double rate(const berth::topology& t, const berth::device_id& a, const berth::device_id& b) {
  const auto v = t.view();
  return v.bandwidth_of(*v.route(*v.find(a), *v.find(b)));
}

std::string gpu(std::string_view bus, std::string_view attributes, std::string_view inside = "") {
  return R"(<pci busid=")" + std::string(bus) + R"(" class="0x030200" )" + std::string(attributes) + ">" +
         std::string(inside) + "</pci>";
}

std::string cpu(std::string_view inside,
                std::string_view attributes = R"(numaid="0" arch="x86_64" vendor="AuthenticAMD")") {
  return "<cpu " + std::string(attributes) + ">" + std::string(inside) + "</cpu>";
}

std::string machine(std::string_view inside) { return R"(<system version="1">)" + std::string(inside) + "</system>"; }

constexpr std::string_view gen4 = R"(link_speed="16 GT/s" link_width="16")";

}  // namespace

BOOST_AUTO_TEST_SUITE(formats_topology_xml)

BOOST_AUTO_TEST_CASE(link_rates_follow_nccls_units) {
  struct sample {
    std::string_view speed, width;
    double rate;
  };
  for (const auto& s : {sample{"8 GT/s", "16", 12e9},
                        {"16.0 GT/s PCIe", "16", 24e9},
                        {"32.0 GT/s PCIe", "16", 48e9},
                        {"32 GT/s", "8", 24e9},
                        {"2.5 GT/s", "4", 0.75e9},
                        {"5 GT/s", "1", 0.375e9}}) {
    const auto t = read(machine(
        cpu(gpu("0:1", R"(link_speed=")" + std::string(s.speed) + R"(" link_width=")" + std::string(s.width) + '"'))));
    BOOST_TEST(rate(t.machine, "cpu", 0) == s.rate, boost::test_tools::tolerance(1e-12));
  }
  const auto hidden = read(machine(cpu(gpu("0:1", R"(link_speed="" link_width="0")"))));
  BOOST_TEST(rate(hidden.machine, "cpu", 0) == 12e9);
  BOOST_TEST(noted(hidden.notes, "NCCL's defaults"));
}

BOOST_AUTO_TEST_CASE(gpus_below_one_switch_share_its_uplink) {
  const auto pair = gpu("0:2", gen4) + gpu("0:3", gen4) +
                    R"(<pci busid="0:4" class="0x020700" link_speed="16 GT/s" link_width="16"/>)";
  const auto t =
      read(machine(cpu(R"(<pci busid="0:1" class="0x060400" link_speed="16 GT/s" link_width="16">)" + pair + "</pci>")),
           {.gpu = "L40S"});
  const auto v = t.machine.view();
  BOOST_TEST(v.count(berth::device_kind::gpu) == 2u);
  BOOST_TEST(v.hops_of(*v.route(0, 1)).size() == 2u);
  const auto down0 = v.hops_of(*v.route(2, 0)), down1 = v.hops_of(*v.route(2, 1));
  int shared = 0;
  for (const auto s : down0)
    shared += std::count(down1.begin(), down1.end(), s) > 0 && v.segments[s].kind == berth::segment_kind::pcie;
  BOOST_TEST(shared == 1);
}

BOOST_AUTO_TEST_CASE(models_come_from_device_ids_then_architectures) {
  const auto by_device =
      read(machine(cpu(gpu("0:1", R"(vendor="0x10de" device="0x20b2" link_speed="16 GT/s" link_width="16")"))));
  BOOST_TEST(by_device.machine.devices[0].model.view() == "A100 SXM 80GB");
  const auto by_sm = read(machine(cpu(gpu("0:1", gen4, R"(<gpu dev="0" sm="90" rank="0"/>)"))));
  BOOST_TEST(by_sm.machine.devices[0].model.view() == "H100 SXM");
  BOOST_TEST(noted(by_sm.notes, "is assumed"));
  // On AMD "sm" counts compute units, and must not be taken for an architecture.
  const auto amd =
      read(machine(cpu(R"(<pci busid="0:1" class="0x120000" vendor="0x1002" link_speed="32.0 GT/s PCIe" link_width="16">
      <gpu dev="0" sm="120" gcn="gfx942" rank="0"/></pci>)")));
  BOOST_TEST(amd.machine.devices[0].model.view() == "MI300X");
  BOOST_TEST((amd.machine.devices[0].api == berth::accelerator_api::hip));
}

BOOST_AUTO_TEST_CASE(direct_links_replace_pcie_between_gpus) {
  const auto t = read(machine(
      cpu(gpu("0:1", gen4, R"(<gpu dev="1" sm="80"><nvlink target="0:2" count="4" tclass="0x030200"/></gpu>)") +
          gpu("0:2", gen4, R"(<gpu dev="0" sm="80"><nvlink target="0:1" count="4" tclass="0x030200"/></gpu>)"))));
  BOOST_TEST(rate(t.machine, 0, 1) == 4 * berth::nvlink_rate(80));
  BOOST_TEST(rate(t.machine, 1, 0) == 4 * berth::nvlink_rate(80));
  const auto xgmi = read(machine(cpu(
      R"(<pci busid="0:1" class="0x038000" link_speed="16 GT/s" link_width="16"><gpu dev="0" gcn="908"><xgmi target="0:2" count="2" tclass="0x038000"/></gpu></pci>
         <pci busid="0:2" class="0x038000" link_speed="16 GT/s" link_width="16"><gpu dev="1" gcn="908"/></pci>)")));
  BOOST_TEST(rate(xgmi.machine, 0, 1) == 2 * berth::xgmi_rate(908));
  BOOST_TEST(rate(xgmi.machine, 1, 0) == 24e9);
  BOOST_TEST(noted(xgmi.notes, "one direction only"));
}

BOOST_AUTO_TEST_CASE(links_to_a_switch_make_ports) {
  const std::string_view port =
      R"(<gpu sm="90"><nvlink target="0:s1" count="9" tclass="0x068000"/><nvlink target="0:s2" count="9" tclass="0x068000"/></gpu>)";
  const auto t = read(machine(cpu(gpu("0:1", gen4, port) + gpu("0:2", gen4, port))));
  BOOST_TEST(rate(t.machine, 0, 1) == 18 * berth::nvlink_rate(90));
}

BOOST_AUTO_TEST_CASE(c2c_replaces_pcie_to_the_host) {
  const auto t = read(machine(
      cpu(gpu("0:1", gen4, R"(<gpu sm="90"><c2c bw="45000" count="10"/></gpu>)"), R"(numaid="0" arch="arm64")")));
  BOOST_TEST(rate(t.machine, "cpu", 0) == 450e9);
}

BOOST_AUTO_TEST_CASE(links_that_lead_nowhere_are_left_out_and_said) {
  const auto t = read(machine(cpu(
      gpu("0:1", gen4,
          R"(<gpu sm="80"><nvlink target="0:1" count="12" tclass="0x030200"/><nvlink target="0:9" count="2" tclass="0x030200"/></gpu>)") +
      gpu("0:2", gen4))));
  BOOST_TEST(noted(t.notes, "to itself"));
  BOOST_TEST(noted(t.notes, "does not describe"));
  BOOST_TEST(noted(t.notes, "no NVLink or xGMI"));
  BOOST_TEST(rate(t.machine, 0, 1) < 30e9);
}

BOOST_AUTO_TEST_CASE(sockets_are_joined_at_nccls_rate_for_their_cpu) {
  const auto pair = [](std::string_view vendor) {
    const std::string rest = R"(arch="x86_64" )" + std::string(vendor);
    return read(
        machine(cpu(gpu("0:1", gen4), R"(numaid="0" )" + rest) + cpu(gpu("0:2", gen4), R"(numaid="1" )" + rest)),
        {.gpu = "L40S"});
  };
  BOOST_TEST(rate(pair(R"(vendor="AuthenticAMD" familyid="25")").machine, 0, 1) == 16e9);
  BOOST_TEST(rate(pair(R"(vendor="GenuineIntel" familyid="6" modelid="85")").machine, 0, 1) == 10e9 / 1.2);
  BOOST_TEST(rate(pair(R"(vendor="GenuineIntel" familyid="6" modelid="143")").machine, 0, 1) == 22e9 / 1.2);
  BOOST_TEST(pair("").machine.devices[1].numa_node == 1);
}

BOOST_AUTO_TEST_CASE(files_without_classes_are_refused_with_the_reason) {
  const auto e = refusal(machine(cpu(R"(<pci busid="0:1"/><pci busid="0:2"/>)")));
  BOOST_TEST((e.code == berth::errc::unsupported));
  BOOST_TEST(has(e.detail, "class"));
}

BOOST_AUTO_TEST_CASE(other_xml_is_refused_by_name) {
  BOOST_TEST(has(
      refusal(
          R"(<?xml version="1.0"?><!DOCTYPE topology SYSTEM "hwloc2.dtd"><topology version="2.0"><object type="Machine"/></topology>)")
          .detail,
      "hwloc"));
  BOOST_TEST(has(refusal("<nvidia_smi_log/>").detail, "topo -m"));
  BOOST_TEST((refusal("<html/>").code == berth::errc::unknown_format));
  BOOST_TEST(has(refusal("<system>\n<cpu></system>").detail, "not XML"));
  BOOST_TEST((refusal(machine("")).code == berth::errc::malformed));
  BOOST_TEST(has(refusal(machine(cpu(gpu("0:1", gen4) + gpu("0:1", gen4)))).detail, "bus id"));
}

BOOST_AUTO_TEST_CASE(deep_nesting_is_an_error_and_no_crash) {
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += R"(<pci class="0x060400">)";
  for (int i = 0; i < 100000; ++i) deep += "</pci>";
  BOOST_TEST(has(refusal(machine(cpu(deep))).detail, "deeper"));
}

BOOST_AUTO_TEST_SUITE_END()
