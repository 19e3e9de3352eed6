// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstddef>
#include <string>
#include <string_view>

import berth.formats;

namespace {

/// Two nodes and an edge, with tabs, blank lines and carriage returns as in published files.
const std::string sample =
    "{\"maxSizePerFPGA\": 1000.5,\t\"maxFPGAs\": 2, \"maxCPUs\": 1,\r\n\r\n \"nodes\": ["
    "{\"id\": 7, \"name\": \"a\", \"supportedOnFpga\": true, \"cpuLatency\": 10.5, \"fpgaLatency\": 1,"
    " \"isBackwardNode\": false, \"colorClass\": 3, \"size\": 10.25},\r\n\n\t"
    "{\"id\": -2, \"supportedOnFpga\": 0, \"cpuLatency\": 2, \"fpgaLatency\": 0.5, \"isBackwardNode\": 0,"
    " \"size\": 4.0}],\n"
    " \"edges\": [{\"sourceId\": 7, \"destId\": -2, \"cost\": 0.125, \"size\": 1}]}";

std::string replaced(std::string_view what, std::string_view by) {
  auto text = sample;
  const auto at = text.find(what);
  BOOST_REQUIRE_MESSAGE(at != std::string::npos, what);
  return text.replace(at, what.size(), by);
}

berth::result<berth::dag_problem> read(const std::string& text) {
  const auto document = berth::json::parse(text, "sample");
  BOOST_REQUIRE_MESSAGE(document.has_value(), text);
  return berth::read_dag(*document, "sample");
}

std::string refusal(const std::string& text) {
  const auto p = read(text);
  return p ? std::string("accepted") : std::string(p.error().detail.view());
}

bool has(const std::string& s, std::string_view part) { return s.find(part) != std::string::npos; }

}  // namespace

BOOST_AUTO_TEST_SUITE(formats_dag_json)

BOOST_AUTO_TEST_CASE(a_workload_is_read_member_by_member) {
  const auto p = read(sample);
  BOOST_REQUIRE(p.has_value());
  BOOST_TEST(p->accelerator_memory == 1000u);
  BOOST_TEST(p->accelerators == 2u);
  BOOST_TEST(p->cpus == 1u);
  BOOST_REQUIRE(p->nodes.size() == 2u);
  const auto &a = p->nodes[0], &b = p->nodes[1];
  BOOST_TEST(a.id == 7);
  BOOST_TEST(a.name == "a");
  BOOST_TEST(a.cpu_time == 10.5);
  BOOST_TEST(a.accelerator_time == 1);
  BOOST_TEST(a.size == 11u);
  BOOST_TEST(a.output_cost == 0.125);
  BOOST_TEST(a.color.value_or(0) == 3);
  BOOST_TEST(a.on_accelerator);
  BOOST_TEST(b.id == -2);
  BOOST_TEST(!b.color.has_value());
  BOOST_TEST(!b.on_accelerator);
  BOOST_TEST(b.size == 4u);
  BOOST_REQUIRE(p->edges.size() == 1u);
  BOOST_TEST(p->edges[0].from == 0u);
  BOOST_TEST(p->edges[0].to == 1u);
}

BOOST_AUTO_TEST_CASE(what_is_wrong_is_said_with_its_place) {
  BOOST_TEST(has(refusal(replaced("\"maxFPGAs\": 2, ", "")), "maxFPGAs"));
  BOOST_TEST(has(refusal(replaced("\"maxCPUs\": 1", "\"maxCPUs\": -1")), "maxCPUs"));
  BOOST_TEST(has(refusal(replaced("\"maxCPUs\": 1", "\"maxCPUs\": 1.5")), "maxCPUs"));
  BOOST_TEST(has(refusal(replaced("\"cpuLatency\": 2, ", "")), "node -2: \"cpuLatency\" is missing"));
  BOOST_TEST(has(refusal(replaced("\"fpgaLatency\": 1,", "\"fpgaLatency\": -1,")), "node 7: \"fpgaLatency\""));
  BOOST_TEST(has(refusal(replaced("\"size\": 4.0", "\"size\": \"4\"")), "node -2: \"size\" is not a number"));
  BOOST_TEST(has(refusal(replaced("\"size\": 4.0", "\"size\": 1e30")), "node -2: \"size\" is too large"));
  BOOST_TEST(has(refusal(replaced("\"id\": -2", "\"id\": 7")), "node 7: the id is given twice"));
  BOOST_TEST(has(refusal(replaced("\"id\": -2", "\"id\": 0.5")), "node number 1: \"id\""));
  BOOST_TEST(has(refusal(replaced("\"supportedOnFpga\": 0", "\"supportedOnFpga\": 2")), "supportedOnFpga"));
  BOOST_TEST(has(refusal(replaced("\"destId\": -2", "\"destId\": 8")), "edge number 0: \"destId\" 8 is not a node"));
  BOOST_TEST(has(refusal(replaced("\"destId\": -2", "\"destId\": 7")), "cycle"));
  BOOST_TEST(has(refusal(replaced("\"cost\": 0.125, ", "")), "edge 7 -> -2: \"cost\" is missing"));
  BOOST_TEST(has(refusal(replaced("\"size\": 1}]", "\"size\": 1}, {\"sourceId\": 7, \"destId\": -2, \"cost\": 1}]")),
                 "the cost differs"));
  BOOST_TEST(has(refusal(replaced("\"edges\"", "\"arcs\"")), "edges"));
}

BOOST_AUTO_TEST_CASE(a_split_is_written_with_the_ids_of_the_file) {
  const auto p = read(sample);
  BOOST_REQUIRE(p.has_value());
  const auto split = berth::split_dag(*p);
  BOOST_REQUIRE(split.has_value());
  const auto out = berth::write_dag_split(*p, *split);
  BOOST_TEST(*out.find("format")->if_string() == "berth.dag_plan/1");
  BOOST_TEST(*out.find("proven")->if_bool());
  // a alone costs 1 + 0.125 on its accelerator, and b must be on the CPU: 2.
  BOOST_TEST(out.find("objective_value")->to_double().value_or(0) == 2);
  const auto& devices = *out.find("devices")->if_array();
  BOOST_REQUIRE(devices.size() == 3u);
  BOOST_TEST(*devices[2].find("id")->if_string() == "cpu");
  const auto& on_cpu = *devices[2].find("nodes")->if_array();
  BOOST_REQUIRE(on_cpu.size() == 1u);
  BOOST_TEST(on_cpu[0].to_int64().value_or(0) == -2);
}

BOOST_AUTO_TEST_SUITE_END()
