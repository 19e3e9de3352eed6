// SPDX-License-Identifier: Apache-2.0
// Matrices of `nvidia-smi topo -m` as they are found in the wild; every sample is made up.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

import berth.formats;

using berth::parse_nvidia_smi;
using berth::read_nvidia_smi;
using level = berth::smi_link::level;

namespace {

berth::smi_matrix parsed(std::string_view text) {
  auto m = parse_nvidia_smi(text, "sample");
  BOOST_REQUIRE_MESSAGE(m.has_value(), std::string(m ? "" : m.error().detail.view()));
  return *std::move(m);
}

std::string refusal(std::string_view text) {
  const auto m = parse_nvidia_smi(text, "sample");
  BOOST_REQUIRE(!m.has_value());
  BOOST_TEST((m.error().code == berth::errc::malformed));
  return std::string(m.error().detail.view());
}

bool has(std::string_view s, std::string_view part) { return s.find(part) != std::string_view::npos; }

bool noted(const std::vector<std::string>& notes, std::string_view part) {
  return std::any_of(notes.begin(), notes.end(), [&](const auto& n) { return has(n, part); });
}

std::vector<std::string> path(const berth::topology& t, berth::device_index a, berth::device_index b) {
  std::vector<std::string> names;
  for (const auto s : t.view().hops_of(*t.view().route(a, b))) names.emplace_back(t.segments[s].name.view());
  return names;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(formats_topology_smi)

BOOST_AUTO_TEST_CASE(tabs_and_spaces_read_alike) {
  const auto tabs = parsed(
      "\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\n"
      "GPU0\t X \tPXB\t0-11,24-35\t0\t\tN/A\n"
      "GPU1\tPXB\t X \t12-23,36-47\t1\t\tN/A\n");
  const auto spaces = parsed(
      "        GPU0   GPU1   CPU Affinity   NUMA Affinity  GPU NUMA ID\n"
      "GPU0     X     PXB    0-11,24-35         0             N/A\n"
      "GPU1    PXB     X     12-23,36-47        1             N/A\n");
  for (const auto& m : {tabs, spaces}) {
    BOOST_REQUIRE(m.gpus.size() == 2u);
    BOOST_TEST((m.gpus[0].to_gpu[1].kind == level::pxb));
    BOOST_TEST(m.gpus[0].cpus == "0-11,24-35");
    BOOST_TEST(m.gpus[0].numa_node == 0);
    BOOST_TEST(m.gpus[1].numa_node == 1);
    BOOST_TEST(m.gpus[1].memory_numa_node == -1);
    BOOST_TEST(m.notes.empty());
  }
}

BOOST_AUTO_TEST_CASE(colours_around_the_header_do_not_matter) {
  for (const std::string_view on : {"\x1b[4m", "[4m", "\x1b[1;4m"}) {
    const auto m =
        parsed(std::string(on) + "\tGPU0\tGPU1\tCPU Affinity\x1b[0m\r\nGPU0\t X \tNV4\t0-7\r\nGPU1\tNV4\t X \t0-7\r\n");
    BOOST_TEST(m.gpus.size() == 2u);
    BOOST_TEST(m.gpus[0].to_gpu[1].nvlinks == 4u);
    BOOST_TEST(m.gpus[1].cpus == "0-7");
    BOOST_TEST(m.gpus[1].numa_node == -1);
  }
}

BOOST_AUTO_TEST_CASE(nic_columns_and_rows_are_kept_apart) {
  const auto m = parsed(
      "\tGPU0\tGPU1\tmlx5_0\tNIC1\tCPU Affinity\n"
      "GPU0\t X \tNODE\tPIX\tSYS\t0-7\n"
      "GPU1\tNODE\t X \tNODE\tSYS\t0-7\n"
      "mlx5_0\tPIX\tNODE\t X \tSYS\t\n"
      "NIC1\tSYS\tSYS\tSYS\t X \n"
      "\nNIC Legend:\n\n  NIC0: mlx5_0\n");
  BOOST_TEST(m.gpus.size() == 2u);
  BOOST_TEST((m.nics == std::vector<std::string>{"mlx5_0", "NIC1"}));
  BOOST_TEST((m.gpus[0].to_nic[0].kind == level::pix));
  BOOST_TEST(m.gpus[0].to_gpu.size() == 2u);
}

BOOST_AUTO_TEST_CASE(one_gpu_has_a_header_that_begins_like_a_row) {
  const auto m = parsed("GPU0\tCPU Affinity\tNUMA Affinity\nGPU0\t X \t0-15\t\tN/A\n");
  BOOST_TEST(m.gpus.size() == 1u);
  BOOST_TEST(m.gpus[0].cpus == "0-15");
  BOOST_TEST(m.gpus[0].numa_node == -1);
  BOOST_TEST(parsed("GPU0\nGPU0 X\n").gpus.size() == 1u);
}

BOOST_AUTO_TEST_CASE(an_empty_cpu_affinity_leaves_the_numa_node) {
  const auto tabs = parsed("\tGPU0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\nGPU0\t X \t\t3\t\tN/A\n");
  BOOST_TEST(tabs.gpus[0].cpus.empty());
  BOOST_TEST(tabs.gpus[0].numa_node == 3);
  const auto spaces = parsed(
      "        GPU0    CPU Affinity    NUMA Affinity   GPU NUMA ID\n"
      "GPU0     X                      3               N/A\n");
  BOOST_TEST(spaces.gpus[0].cpus.empty());
  BOOST_TEST(spaces.gpus[0].numa_node == 3);
}

BOOST_AUTO_TEST_CASE(lists_of_single_cpus_are_affinities_too) {
  const auto m = parsed("        GPU0    CPU Affinity    NUMA Affinity\nGPU0     X      0,2,4,6         0\n");
  BOOST_TEST(m.gpus[0].cpus == "0,2,4,6");
  BOOST_TEST(m.gpus[0].numa_node == 0);
}

BOOST_AUTO_TEST_CASE(columns_that_ran_together_are_separated) {
  // Both rows read 0-29,60-891: the list 0-29,60-89 and node 1.
  const auto hyperthreads = parsed(
      "        GPU0    GPU1    CPU Affinity    NUMA Affinity   GPU NUMA ID\n"
      "GPU0     X      PHB     0-29,60-891                     N/A\n"
      "GPU1    PHB      X      0-29,60-891                     N/A\n");
  BOOST_TEST(hyperthreads.gpus[0].cpus == "0-29,60-89");
  BOOST_TEST(hyperthreads.gpus[1].numa_node == 1);
  BOOST_TEST(hyperthreads.gpus[1].memory_numa_node == -1);
  BOOST_TEST(noted(hyperthreads.notes, "run together"));
  // One range each: together they would overlap, apart they do not.
  const auto ranges =
      parsed("\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\nGPU0\t X \tSYS\t0-150\nGPU1\tSYS\t X \t16-311\n");
  BOOST_TEST(ranges.gpus[0].cpus == "0-15");
  BOOST_TEST(ranges.gpus[0].numa_node == 0);
  BOOST_TEST(ranges.gpus[1].cpus == "16-31");
  BOOST_TEST(ranges.gpus[1].numa_node == 1);
  const auto plain = parsed("\tGPU0\tCPU Affinity\tNUMA Affinity\nGPU0\t X \t0,2,4,6,81\n");
  BOOST_TEST(plain.gpus[0].cpus == "0,2,4,6,8");
  BOOST_TEST(plain.gpus[0].numa_node == 1);
  const auto with_absent = parsed("\tGPU0\tCPU Affinity\tNUMA Affinity\nGPU0\t X \t0-15N/A\n");
  BOOST_TEST(with_absent.gpus[0].cpus == "0-15");
}

BOOST_AUTO_TEST_CASE(columns_that_did_not_run_together_stay_whole) {
  const auto m = parsed("\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\nGPU0\t X \tSYS\t0-63\nGPU1\tSYS\t X \t64-127\n");
  BOOST_TEST(m.gpus[0].cpus == "0-63");
  BOOST_TEST(m.gpus[1].cpus == "64-127");
  BOOST_TEST(m.notes.empty());
  const auto cut = parsed("\tGPU0\tCPU Affinity\tNUMA Affinity\nGPU0\t X \t64-127,192-254\t1\n");
  BOOST_TEST(cut.gpus[0].cpus == "64-127,192-254");
  BOOST_TEST(cut.gpus[0].numa_node == 1);
}

BOOST_AUTO_TEST_CASE(old_drivers_and_fused_headers_read) {
  const auto old = parsed("\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \tSOC\t0-7\nGPU1\tSOC\t X \t8-15\n");
  BOOST_TEST((old.gpus[0].to_gpu[1].kind == level::sys));
  const auto fused =
      parsed("GPU0 GPU1 CPU AffinityNUMA AffinityGPU NUMA ID\nGPU0 X NV18 0-71 0 4\nGPU1 NV18 X 72-143 1 5\n");
  BOOST_TEST(fused.gpus[1].numa_node == 1);
  BOOST_TEST(fused.gpus[1].memory_numa_node == 5);
}

BOOST_AUTO_TEST_CASE(text_around_the_matrix_is_skipped) {
  const auto m = parsed(
      "$ nvidia-smi topo -m\n\n\tGPU0\tGPU1\nGPU0\t X \tPHB\nGPU1\tPHB\t X \n\nLegend:\n\n  X    = Self\n  PHB  = "
      "...\n");
  BOOST_TEST(m.gpus.size() == 2u);
  BOOST_TEST(m.legend_without_nvlink);
  const auto doc = read_nvidia_smi("\tGPU0\tGPU1\nGPU0\t X \tPHB\nGPU1\tPHB\t X \nLegend:\n  X    = Self\n", "sample");
  BOOST_TEST(noted(doc->notes, "topo -mp"));
}

BOOST_AUTO_TEST_CASE(broken_matrices_are_refused_with_their_place) {
  BOOST_TEST(has(refusal("\tGPU0\tGPU1\nGPU0\t X \tPIX\nGPU1\tPHB\t X \n"), "not symmetric"));
  BOOST_TEST(has(refusal("\tGPU0\tGPU1\nGPU0\t X \tNV4\nGPU1\tNV2\t X \n"), "not symmetric"));
  BOOST_TEST(has(refusal("\tGPU0\tGPU1\nGPU0\t X \tPIX\n"), "GPU1 is missing"));
  BOOST_TEST(has(refusal("\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \nGPU1\tPIX\t X \n"),
                 "line 2, row GPU0: 1 cells for 2 columns"));
  BOOST_TEST(has(refusal("\tGPU0\tGPU1\nGPU0\t X \tPIX\nGPU0\t X \tPIX\n"), "occurs twice"));
  BOOST_TEST(has(refusal("\tGPU0\tGPU1\nGPU0\t X \tOK\nGPU1\tOK\t X \n"), "column GPU1: \"OK\""));
  BOOST_TEST(has(refusal("\tGPU0\tGPU1\nGPU0\tPIX\tPIX\nGPU1\tPIX\t X \n"), "diagonal"));
  BOOST_TEST(has(refusal("\tGPU0\tGPU0\nGPU0\t X \tPIX\n"), "twice"));
  BOOST_TEST(has(refusal("\tGPU0\nGPU0\t X \nGPU7\t X \n"), "no such GPU"));
  BOOST_TEST(has(refusal("GPU0 X NV99999999999\n"), "no header"));
  BOOST_TEST(has(refusal("nothing here\n"), "no header"));
  std::string wide;
  for (int i = 0; i < 65; ++i) wide += "\tGPU" + std::to_string(i);
  BOOST_TEST(has(refusal(wide), "more than 64"));
}

BOOST_AUTO_TEST_CASE(switches_bridges_and_sockets_become_shared_segments) {
  // 0 and 1 below one switch; 2 on the same bridge; 3 on another bridge of the node; 4 in the other socket.
  const auto doc = read_nvidia_smi(
      "\tGPU0\tGPU1\tGPU2\tGPU3\tGPU4\tCPU Affinity\tNUMA Affinity\n"
      "GPU0\t X \tPIX\tPHB\tNODE\tSYS\t0-7\t0\n"
      "GPU1\tPIX\t X \tPHB\tNODE\tSYS\t0-7\t0\n"
      "GPU2\tPHB\tPHB\t X \tNODE\tSYS\t0-7\t0\n"
      "GPU3\tNODE\tNODE\tNODE\t X \tSYS\t0-7\t0\n"
      "GPU4\tSYS\tSYS\tSYS\tSYS\t X \t8-15\t1\n",
      "sample", {.gpu = "L40S"});
  BOOST_REQUIRE(doc.has_value());
  const auto& t = doc->machine;
  BOOST_TEST((path(t, 0, 1) == std::vector<std::string>{"pcie 0 out", "pcie 1 in"}));
  BOOST_TEST(
      (path(t, 0, 2) == std::vector<std::string>{"pcie 0 out", "switches 0 out", "host bridge 0 out", "pcie 2 in"}));
  BOOST_TEST(
      (path(t, 2, 3) == std::vector<std::string>{"pcie 2 out", "host bridge 0 out", "host bridge 3 in", "pcie 3 in"}));
  const auto far = path(t, 4, 3);
  BOOST_TEST(std::count_if(far.begin(), far.end(), [](const auto& s) { return has(s, "socket"); }) == 1);
  BOOST_TEST(t.devices[4].numa_node == 1);
  BOOST_TEST(!noted(doc->notes, "is assumed."));
  BOOST_TEST(noted(doc->notes, "priors"));
}

BOOST_AUTO_TEST_CASE(the_assumed_model_is_named) {
  const auto doc = read_nvidia_smi("\tGPU0\tGPU1\nGPU0\t X \tPHB\nGPU1\tPHB\t X \n", "sample");
  BOOST_TEST(noted(doc->notes, "RTX 4090 is assumed"));
  BOOST_TEST(doc->machine.devices[0].model.view() == "RTX 4090");
  const auto unknown = read_nvidia_smi("\tGPU0\nGPU0\t X \n", "sample", {.gpu = "RTX 1"});
  BOOST_REQUIRE(!unknown.has_value());
  BOOST_TEST((unknown.error().code == berth::errc::unknown_device));
  BOOST_TEST(!read_nvidia_smi("\tGPU0\nGPU0\t X \n", "sample", {.gpu = "orin-64g"}).has_value());
}

BOOST_AUTO_TEST_CASE(nvlink_counts_become_pair_links_or_switch_ports) {
  const auto pair = read_nvidia_smi("\tGPU0\tGPU1\nGPU0\t X \tNV4\nGPU1\tNV4\t X \n", "sample", {.gpu = "a6000"});
  BOOST_TEST((path(pair->machine, 0, 1) == std::vector<std::string>{"nvlink 0 to 1"}));
  BOOST_TEST(pair->machine.view().bandwidth_of(*pair->machine.view().route(0, 1)) == 4 * berth::nvlink_rate(86));
  const auto ring = read_nvidia_smi(
      "\tGPU0\tGPU1\tGPU2\nGPU0\t X \tNV18\tNV18\nGPU1\tNV18\t X \tNV18\nGPU2\tNV18\tNV18\t X \n", "sample");
  BOOST_TEST((path(ring->machine, 0, 2) == std::vector<std::string>{"peers 0 out", "peers 2 in"}));
  BOOST_TEST(ring->machine.view().bandwidth_of(*ring->machine.view().route(0, 2)) == 18 * berth::nvlink_rate(90));
  BOOST_TEST(noted(ring->notes, "H100 SXM is assumed"));
  // Four GPUs with four links to each: joined pair by pair, no switch is needed.
  const auto mesh = read_nvidia_smi(
      "\tGPU0\tGPU1\tGPU2\tGPU3\nGPU0\t X \tNV4\tNV4\tNV4\nGPU1\tNV4\t X \tNV4\tNV4\nGPU2\tNV4\tNV4\t X \tNV4\n"
      "GPU3\tNV4\tNV4\tNV4\t X \n",
      "sample", {.gpu = "a100-80g"});
  BOOST_TEST((path(mesh->machine, 1, 3) == std::vector<std::string>{"nvlink 1 to 3"}));
}

BOOST_AUTO_TEST_CASE(a_common_nic_shows_which_nvlink_gpus_share_a_switch) {
  const auto doc = read_nvidia_smi(
      "\tGPU0\tGPU1\tGPU2\tNIC0\tCPU Affinity\tNUMA Affinity\n"
      "GPU0\t X \tNV12\tNV12\tPXB\t0-7\t0\n"
      "GPU1\tNV12\t X \tNV12\tPXB\t0-7\t0\n"
      "GPU2\tNV12\tNV12\t X \tNODE\t0-7\t0\n"
      "NIC0\tPXB\tPXB\tNODE\t X \n",
      "sample");
  const auto& t = doc->machine;
  const auto cpu = *t.view().find("cpu");
  const auto to0 = path(t, cpu, 0), to1 = path(t, cpu, 1), to2 = path(t, cpu, 2);
  BOOST_TEST(std::count(to0.begin(), to0.end(), "switches 0 in") == 1);
  BOOST_TEST(std::count(to1.begin(), to1.end(), "switches 0 in") == 1);
  BOOST_TEST(std::count(to2.begin(), to2.end(), "switches 0 in") == 0);
}

BOOST_AUTO_TEST_SUITE_END()
