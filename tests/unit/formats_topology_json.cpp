// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <string>
#include <string_view>

import berth.formats;

using berth::read_topology_json;
using berth::write_topology_json;

namespace {

berth::result<berth::topology_document> read(std::string_view text) {
  const auto document = berth::json::parse(text, "sample");
  BOOST_REQUIRE(document.has_value());
  return read_topology_json(*document, "sample");
}

berth::error refusal(std::string_view text) {
  const auto t = read(text);
  BOOST_REQUIRE_MESSAGE(!t.has_value(), text);
  return t.error();
}

bool has(std::string_view s, std::string_view part) { return s.find(part) != std::string_view::npos; }

/// A document with one CPU and the given further members of the device and the document.
std::string with(std::string_view device, std::string_view rest = "") {
  return R"({"format":"berth.topology/1","devices":[{"id":"cpu","kind":"cpu","memory":1000)" + std::string(device) +
         "}]" + std::string(rest) + "}";
}

}  // namespace

BOOST_AUTO_TEST_SUITE(formats_topology_json)

BOOST_AUTO_TEST_CASE(every_preset_reads_back_exactly) {
  for (const auto& name : berth::preset_names()) {
    const auto machine = *berth::preset(name);
    const auto text = berth::json::write(write_topology_json(machine), 2);
    const auto back = berth::read_topology(text, name);
    BOOST_REQUIRE_MESSAGE(back.has_value(), name);
    BOOST_TEST((back->machine == machine), name);
    BOOST_TEST(back->notes.empty());
    BOOST_TEST((berth::json::write(write_topology_json(back->machine), 2) == text));
  }
}

BOOST_AUTO_TEST_CASE(numbers_survive_to_the_last_bit) {
  auto machine = *berth::preset("2x4090");
  machine.devices[0].free = (berth::bytes{1} << 53) + 1;
  machine.devices[0].memory = machine.devices[0].free;
  machine.devices[0].overhead = 0.1 + 0.2;
  machine.segments[0].capacity = 1e9 / 3;
  machine.routes[0].latency = 5e-324;
  const auto back = read_topology_json(*berth::json::parse(berth::json::write(write_topology_json(machine)), "x"), "x");
  BOOST_REQUIRE(back.has_value());
  BOOST_TEST((back->machine == machine));
}

BOOST_AUTO_TEST_CASE(a_short_file_takes_the_rest_from_the_gpu_table) {
  const auto t = read(R"({"format":"berth.topology/1","devices":[
      {"id":0,"kind":"gpu","model":"rtx 4090"},
      {"id":"1","kind":"gpu","model":"RTX 3090","memory":1073741824,"overhead":0},
      {"id":"cpu","kind":"cpu","memory":68719476736,"flops":1e12}],
    "routes":[{"from":0,"to":1,"bandwidth":2e10},{"from":"1","to":0,"latency":0,"bandwidth":1e10}]})");
  BOOST_REQUIRE(t.has_value());
  const auto& m = t->machine;
  BOOST_TEST(m.devices[0].memory == 24564 * berth::MiB);
  BOOST_TEST(m.devices[0].peak_bandwidth == 1008e9);
  BOOST_TEST(m.devices[1].memory == berth::GiB);
  BOOST_TEST(m.devices[1].overhead == 0);
  BOOST_TEST(m.devices[2].flops(berth::rate_class::half) == 1e12);
  BOOST_TEST(m.view().route(0, 1)->latency == berth::default_hop_cost);
  BOOST_TEST(m.view().bandwidth_of(*m.view().route(1, 0)) == 1e10);
  BOOST_TEST(m.segments.size() == 2u);
}

BOOST_AUTO_TEST_CASE(unknown_members_are_named_and_ignored) {
  const auto t = read(with(R"(,"colour":"red")", R"(,"routes":[],"comment":1)"));
  BOOST_REQUIRE(t.has_value());
  BOOST_TEST(t->notes.size() == 2u);
  BOOST_TEST(std::any_of(t->notes.begin(), t->notes.end(), [](const auto& n) { return has(n, "devices[0].colour"); }));
}

BOOST_AUTO_TEST_CASE(other_formats_and_newer_versions_are_refused) {
  BOOST_TEST((refusal(R"({"format":"berth.topology/2","devices":[]})").code == berth::errc::unknown_format));
  BOOST_TEST(has(refusal(R"({"format":"berth.topology/2"})").detail, "newer"));
  BOOST_TEST(has(refusal(R"({"format":"berth.chain/1"})").detail, "berth.chain/1"));
  BOOST_TEST((refusal(R"({"format":"berth.topology/"})").code == berth::errc::unknown_format));
  BOOST_TEST((refusal(R"({"devices":[]})").code == berth::errc::unknown_format));
  BOOST_TEST((refusal("[]").code == berth::errc::unknown_format));
}

BOOST_AUTO_TEST_CASE(wrong_members_are_refused_by_path) {
  const auto refused = [](std::string_view text, std::string_view path) {
    const auto e = refusal(text);
    BOOST_TEST(has(e.detail, path), text << " -> " << e.detail.view());
  };
  refused(with(R"(,"free":1.5)"), "devices[0].free");
  refused(with(R"(,"free":-1)"), "devices[0].free");
  refused(with(R"(,"free":9223372036854775808)"), "devices[0].free");
  refused(with(R"(,"overhead":"fast")"), "devices[0].overhead");
  refused(with(R"(,"flops":{"f16":1})"), "devices[0].flops");
  refused(with(R"(,"api":"opencl")"), "devices[0].api");
  refused(with(R"(,"memory_segment":"dram")"), "devices[0].memory_segment");
  refused(with(R"(,"shares_memory_of":"0")"), "shares_memory_of");
  refused(with(R"(,"numa_node":-7)"), "devices[0].numa_node");
  refused(with(R"(,"granularity":0)"), "granularity");
  refused(with("", R"(,"routes":[{"from":"cpu","to":"0","bandwidth":1}])"), "routes[0].to");
  refused(with("", R"(,"routes":[{"from":"cpu","to":"cpu","over":["x"]}])"), "routes[0].over");
  refused(with("", R"(,"routes":[{"from":"cpu","to":"cpu","over":[]}])"), "routes[0].over");
  refused(with("", R"(,"routes":[{"from":"cpu","to":"cpu"}])"), "routes[0].bandwidth");
  refused(with("", R"(,"segments":[{"name":"a","capacity":1},{"name":"a","capacity":1}])"), "segments[1].name");
  refused(with("", R"(,"segments":[{"name":"a","capacity":0}])"), "capacity");
  refused(with("", R"(,"segments":{})"), "segments");
  refused(R"({"format":"berth.topology/1"})", "devices");
  refused(R"({"format":"berth.topology/1","devices":[]})", "no device");
  refused(R"({"format":"berth.topology/1","devices":[7]})", "devices[0]");
  refused(R"({"format":"berth.topology/1","devices":[{"kind":"cpu","memory":1}]})", "devices[0].id");
  refused(R"({"format":"berth.topology/1","devices":[{"id":"cpu","memory":1}]})", "devices[0].kind");
  refused(R"({"format":"berth.topology/1","devices":[{"id":"cpu","kind":"cpu"}]})", "devices[0].memory");
  refused(R"({"format":"berth.topology/1","devices":[{"id":"0123456789012345678901234","kind":"gpu","memory":1}]})",
          "devices[0].id");
}

BOOST_AUTO_TEST_CASE(a_memory_pool_belongs_to_one_device) {
  const std::string_view gpu = R"({"id":0,"kind":"gpu","memory":100})";
  const auto document = [&](std::string_view cpu) {
    return R"({"format":"berth.topology/1","devices":[)" + std::string(gpu) + "," + std::string(cpu) + "]}";
  };
  const auto shared = read(document(R"({"id":"cpu","kind":"cpu","memory":0,"shares_memory_of":"0"})"));
  BOOST_REQUIRE(shared.has_value());
  BOOST_TEST(shared->machine.devices[1].shares_memory_of == 0u);
  BOOST_TEST((refusal(document(R"({"id":"cpu","kind":"cpu","memory":50,"shares_memory_of":"0"})")).code ==
              berth::errc::invalid_topology));
}

BOOST_AUTO_TEST_SUITE_END()
