// SPDX-License-Identifier: Apache-2.0
// Detected GPUs as a topology, from a fake CUDA runtime and a fake NVML.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "fake_cuda.hpp"
#include "fake_nvml.hpp"

import berth;
import berth.cuda;
import berth.formats;

namespace {

using berth::errc;
using berth::cuda::nvlink_end;
using berth::cuda::pci_level;
using fake_cuda::status;

template <class T>
T must(berth::result<T> r) {
  BOOST_REQUIRE_MESSAGE(r.has_value(), (r ? "" : std::string(r.error().detail.view())));
  return *std::move(r);
}

/// A CPU with 100 GiB free and a disk, as host detection describes them.
berth::topology host(bool with_disk = true) {
  berth::topology t;
  const auto dram = t.add(berth::segment{"dram", berth::segment_kind::dram, 60e9});
  berth::device c;
  c.id = "cpu";
  c.kind = berth::device_kind::cpu;
  c.memory = 128 * berth::GiB;
  c.free = 100 * berth::GiB;
  c.peak_bandwidth = 80e9;
  c.peak_flops[0] = 1e12;
  c.cores = 12;
  c.memory_segment = dram;
  const auto at = t.add(c);
  if (!with_disk) return t;
  const auto storage = t.add(berth::segment{"disk", berth::segment_kind::disk, 2e9});
  berth::device d;
  d.id = "disk";
  d.kind = berth::device_kind::disk;
  d.memory = d.free = 500 * berth::GiB;
  d.peak_bandwidth = 2e9;
  d.memory_segment = storage;
  const auto disk = t.add(d);
  t.connect({at, disk, 0, 0, 2e9, 0, 0}, std::vector{storage, dram});
  t.connect({disk, at, 0, 0, 2e9, 0, 0}, std::vector{storage, dram});
  t.sort_routes();
  return t;
}

fake_cuda::options gpus(const std::string& name, std::size_t n, berth::bytes memory, bool peers) {
  fake_cuda::options o;
  o.devices.clear();
  o.peers = peers;
  for (std::size_t i = 0; i < n; ++i)
    o.devices.push_back(
        {name, memory, "0000:0" + std::to_string(i + 1) + ":00.0", static_cast<unsigned char>(i + 1), {}});
  return o;
}

std::string uuid(unsigned i) {
  const std::string b = "0" + std::to_string(i);
  return "GPU-" + b + b + b + b + "-" + b + b + "-" + b + b + "-" + b + b + "-" + b + b + b + b + b + b;
}

const berth::route& route(const berth::topology& t, const char* from, const char* to) {
  const auto v = t.view();
  const auto* r = v.route(*v.find(from), *v.find(to));
  BOOST_REQUIRE(r != nullptr);
  return *r;
}

bool crosses(const berth::topology& t, const berth::route& r, std::string_view part) {
  const auto hops = t.view().hops_of(r);
  return std::any_of(hops.begin(), hops.end(),
                     [&](auto h) { return t.segments[h].name.view().find(part) != std::string_view::npos; });
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_known_model_keeps_its_priors_and_gets_the_memory_that_is_free) {
  fake_cuda::runtime cuda(gpus("NVIDIA GeForce RTX 4090", 2, 24'000 * berth::MiB, false));
  void* taken = nullptr;
  BOOST_REQUIRE((cuda.table().malloc(&taken, 1000 * berth::MiB) == status::success));
  const auto found = must(berth::cuda::detect(cuda.table(), nullptr, host()));
  const auto& t = found.machine;
  BOOST_REQUIRE(t.devices.size() == 4u);
  BOOST_TEST(t.devices[0].id.view() == "0");
  BOOST_TEST(t.devices[0].model.view() == "RTX 4090");
  BOOST_TEST(t.devices[0].memory == 24'000 * berth::MiB);
  BOOST_TEST(t.devices[0].free == 23'000 * berth::MiB);
  BOOST_TEST(t.devices[1].free == 24'000 * berth::MiB);
  BOOST_TEST(t.devices[0].peak_bandwidth == 1008e9);
  BOOST_TEST(t.devices[2].free == 100 * berth::GiB);
  BOOST_TEST(t.devices[2].cores == 12);
  BOOST_TEST(t.devices[3].free == 500 * berth::GiB);
  BOOST_TEST(crosses(t, route(t, "0", "1"), "dram"));  // no peer access: staged
  BOOST_TEST(!found.notes.empty());
  (void)cuda.table().free(taken);
}

BOOST_AUTO_TEST_CASE(what_is_detected_is_what_the_matrix_of_the_same_machine_gives) {
  fake_cuda::runtime cuda(gpus("NVIDIA A100-SXM4-80GB", 2, 81'920 * berth::MiB - 512 * berth::MiB, true));
  std::vector<fake_cuda::nvml::gpu> shown;
  for (unsigned i = 1; i <= 2; ++i) {
    fake_cuda::nvml::gpu g{uuid(i), "0000:0" + std::to_string(i) + ":00.0", 4, 16, 0, {}};
    g.links.assign(12, {nvlink_end::gpu, "00000000:0" + std::to_string(3 - i) + ":00.0"});
    shown.push_back(g);
  }
  fake_cuda::nvml nvml(shown, {{{0, 1}, pci_level::node}});
  const auto found = must(berth::cuda::detect(cuda.table(), &nvml.table(), host()));
  BOOST_TEST(nvml.open == 0);
  berth::topology_options o;
  o.gpu = "A100 SXM 80GB";
  const auto matrix =
      must(berth::read_nvidia_smi("\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\n"
                                  "GPU0\t X \tNV12\t0-31\t0\n"
                                  "GPU1\tNV12\t X \t0-31\t0\n",
                                  "test", o));
  const auto &a = found.machine, &b = matrix.machine;
  BOOST_REQUIRE(a.segments.size() == b.segments.size());
  for (std::size_t i = 0; i < a.segments.size(); ++i) {
    BOOST_TEST(a.segments[i].name.view() == b.segments[i].name.view());
    if (a.segments[i].kind == berth::segment_kind::dram || a.segments[i].kind == berth::segment_kind::disk) continue;
    BOOST_TEST(a.segments[i].capacity == b.segments[i].capacity);
  }
  BOOST_TEST(a.routes.size() == b.routes.size());
  BOOST_TEST((a.hops == b.hops));
  for (std::size_t i = 0; i < 2; ++i) {
    auto x = a.devices[i], y = b.devices[i];
    x.memory = y.memory = x.free = y.free = x.context = y.context = 0;
    BOOST_TEST((x == y));
  }
}

BOOST_AUTO_TEST_CASE(cuda_decides_which_gpus_there_are_and_nvml_is_asked_about_those) {
  // NVML shows four; CUDA only the last two, in reverse, as with CUDA_VISIBLE_DEVICES=3,2.
  auto o = gpus("NVIDIA L40S", 2, 45 * berth::GiB, true);
  o.devices[0].uuid = 4;
  o.devices[1].uuid = 3;
  fake_cuda::runtime cuda(o);
  std::vector<fake_cuda::nvml::gpu> shown;
  for (unsigned i = 1; i <= 4; ++i)
    shown.push_back({uuid(i), "0000:8" + std::to_string(i) + ":00.0", i, 16 / i, i == 4 ? 1u : 0u, {}});
  fake_cuda::nvml nvml(shown, {{{2, 3}, pci_level::single}});
  const auto t = must(berth::cuda::detect(cuda.table(), &nvml.table(), host())).machine;
  BOOST_TEST(t.devices[0].numa_node == 1);
  BOOST_TEST(t.devices[1].numa_node == 0);
  BOOST_TEST(crosses(t, route(t, "cpu", "0"), "switch"));
  BOOST_TEST(crosses(t, route(t, "cpu", "1"), "switch"));
  BOOST_TEST(route(t, "cpu", "0").bandwidth == berth::pcie_rate(4, 4));
  BOOST_TEST(route(t, "cpu", "1").bandwidth == berth::pcie_rate(3, 5));
}

BOOST_AUTO_TEST_CASE(switches_of_nvlink_are_ports) {
  fake_cuda::runtime cuda(gpus("NVIDIA H100 80GB HBM3", 4, 80 * berth::GiB, true));
  std::vector<fake_cuda::nvml::gpu> shown;
  for (unsigned i = 1; i <= 4; ++i) {
    fake_cuda::nvml::gpu g{uuid(i), "", 5, 16, 0, {}};
    g.links.assign(18, {nvlink_end::nvswitch, ""});
    shown.push_back(g);
  }
  fake_cuda::nvml nvml(shown, {});
  const auto t = must(berth::cuda::detect(cuda.table(), &nvml.table(), host())).machine;
  BOOST_TEST(crosses(t, route(t, "0", "3"), "peers 0 out"));
  BOOST_TEST(route(t, "0", "3").bandwidth == 18 * 20.6e9);
}

BOOST_AUTO_TEST_CASE(an_unknown_model_is_computed_from_its_clocks_with_a_note) {
  auto o = gpus("NVIDIA Fast Thing", 1, 10 * berth::GiB, true);
  o.devices[0].attributes = {{13, 2'000'000}, {16, 100}, {36, 10'000'000}, {37, 384}, {75, 8}, {76, 9}};
  fake_cuda::runtime cuda(o);
  const auto found = must(berth::cuda::detect(cuda.table(), nullptr, host()));
  const auto& d = found.machine.devices[0];
  BOOST_TEST(d.model.view() == "NVIDIA Fast Thing");
  BOOST_TEST(d.peak_bandwidth == 960e9, boost::test_tools::tolerance(1e-9));
  BOOST_TEST(d.peak_flops[0] == 51.2e12, boost::test_tools::tolerance(1e-9));
  BOOST_TEST(found.notes.front().find("not in the table") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(nvml_that_supports_nothing_is_no_error) {
  fake_cuda::runtime cuda(gpus("NVIDIA GeForce RTX 3090", 2, 23 * berth::GiB, true));
  fake_cuda::nvml nvml({{uuid(1), "", 4, 16, 0, {}}, {uuid(2), "", 4, 16, 0, {}}}, {});
  nvml.supported = false;
  const auto found = must(berth::cuda::detect(cuda.table(), &nvml.table(), host()));
  BOOST_TEST(std::any_of(found.notes.begin(), found.notes.end(),
                         [](const auto& n) { return n.find("NVML") != std::string::npos; }));
  BOOST_TEST(!crosses(found.machine, route(found.machine, "0", "1"), "dram"));  // CUDA says that they are peers
}

BOOST_AUTO_TEST_CASE(a_host_without_a_disk_gets_none) {
  fake_cuda::runtime cuda;
  const auto t = must(berth::cuda::detect(cuda.table(), nullptr, host(false))).machine;
  BOOST_TEST(!t.view().first(berth::device_kind::disk).has_value());
  BOOST_TEST(berth::validate(t).has_value());
}

BOOST_AUTO_TEST_CASE(a_model_can_be_planned_on_what_was_detected) {
  fake_cuda::runtime cuda;
  const auto t = must(berth::cuda::detect(cuda.table(), nullptr, host())).machine;
  berth::model m;
  for (int i = 0; i < 4; ++i) {
    berth::atom a;
    const auto name = "layers." + std::to_string(i);
    a.name = name;
    a.weights = 10 * berth::GiB;
    a.work[0] = {1e12, 1e10, 1e4};
    a.work[1] = {1e10, 1e10, 1e4};
    m.add(a);
  }
  const auto p = must(berth::place_fn(berth::Auto{})(m, t, {}));
  BOOST_TEST(berth::check(p).empty());
}

BOOST_AUTO_TEST_CASE(every_failing_call_of_detection_is_an_error_with_its_name) {
  for (std::uint64_t n = 1;; ++n) {
    fake_cuda::runtime cuda(gpus("unheard of", 2, berth::GiB, true));
    cuda.fail_any(n, status::insufficient_driver);
    const auto found = berth::cuda::detect(cuda.table(), nullptr, host());
    if (cuda.calls() < n) {
      BOOST_TEST(n > 20u);
      break;
    }
    BOOST_REQUIRE(!found.has_value());
    BOOST_TEST((found.error().code == errc::unavailable));
    BOOST_TEST(found.error().detail.view().find("cudaErrorInsufficientDriver") != std::string_view::npos);
  }
  berth::topology no_cpu;
  fake_cuda::runtime cuda;
  BOOST_TEST((berth::cuda::detect(cuda.table(), nullptr, no_cpu).error().code == errc::invalid_topology));
}

BOOST_AUTO_TEST_CASE(the_real_nvml_is_there_or_not) {
  const auto nvml = berth::cuda::load_nvml();
  BOOST_TEST_MESSAGE((nvml ? "NVML is there" : "no NVML"));
  if (nvml && nvml->init() == 0) BOOST_TEST(nvml->shutdown() == 0);
}
