// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>
#include <string>
#include <string_view>

import berth.formats;

using berth::errc;
using berth::read_topology;
using namespace std::string_view_literals;

namespace {

std::string_view format_of(std::string_view text) {
  const auto t = read_topology(text, "sample");
  BOOST_REQUIRE_MESSAGE(t.has_value(), std::string(t ? "" : t.error().detail.view()));
  BOOST_TEST(berth::validate(t->machine).has_value());
  return t->format;
}

void refused(std::string_view text, errc code, std::string_view reason) {
  const auto t = read_topology(text, "sample");
  BOOST_REQUIRE(!t.has_value());
  BOOST_TEST((t.error().code == code), berth::name_of(t.error().code));
  BOOST_TEST((t.error().detail.view().find(reason) != std::string_view::npos), t.error().detail.view());
  BOOST_TEST(t.error().subject.view() == "sample");
}

}  // namespace

BOOST_AUTO_TEST_SUITE(formats_topology_file)

BOOST_AUTO_TEST_CASE(formats_are_recognised_by_content) {
  BOOST_TEST(format_of(R"( {"format":"berth.topology/1","devices":[{"id":"cpu","kind":"cpu","memory":1}]})") ==
             "berth.topology/1");
  BOOST_TEST(format_of("\xef\xbb\xbf\tGPU0\tGPU1\nGPU0\t X \tPHB\nGPU1\tPHB\t X \n") == "nvidia-smi topo -m");
  BOOST_TEST(format_of("[4m\tGPU2\tGPU3\nGPU2\t X \tPHB\nGPU3\tPHB\t X \n") == "nvidia-smi topo -m");
  BOOST_TEST(format_of("<!-- note -->\n<system version=\"1\"><cpu numaid=\"0\"><pci busid=\"0:1\" "
                       "class=\"0x030200\"/></cpu></system>") == "NCCL topology XML");
  BOOST_TEST(format_of("Bidirectional P2P=Enabled Bandwidth Matrix (GB/s)\n D\\D 0 1\n 0 800 12\n 1 14 800\n") ==
             "p2pBandwidthLatencyTest");
}

BOOST_AUTO_TEST_CASE(what_is_no_topology_is_refused_for_what_it_is) {
  refused("", errc::malformed, "empty");
  refused(" \n\t", errc::malformed, "empty");
  refused("BZh91AY&SY\x01\x02", errc::unsupported, "bzip2");
  refused("\x1f\x8b\x08", errc::unsupported, "gzip");
  refused("ab\0cd"sv, errc::unsupported, "binary");
  refused("Machine (P#0 total=16GiB)\n  Package L#0\n    NUMANode L#0 (P#0)\n", errc::unsupported, "hwloc");
  refused("GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-0)\n", errc::unsupported, "nvidia-smi -L");
  refused("+---+\n| NVIDIA-SMI 560.1 |\n|  GPU0 |\n", errc::unsupported, "summary");
  refused("version https://git-lfs.github.com/spec/v1\n", errc::unsupported, "git lfs pull");
  refused("hello\n", errc::unknown_format, "nvidia-smi topo -m");
  refused("{\"format\":", errc::malformed, "line 1");
  refused("[1]", errc::unknown_format, "format");
}

BOOST_AUTO_TEST_SUITE_END()
