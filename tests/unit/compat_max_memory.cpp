// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>
#include <string>
#include <vector>

#include "compat_support.hpp"

using namespace compat_test;

namespace {

template <auto Function>
std::string budgets_of(const hf::memory_request& request, std::vector<hf::warning>* warnings = nullptr) {
  std::vector<hf::warning> seen;
  const auto b = Function(request, seen);
  if (warnings != nullptr) *warnings = seen;
  return b ? text_of(*b) : std::string(b.error().subject.view());
}
std::string accelerate_budgets(const hf::memory_request& r, std::vector<hf::warning>* w = nullptr) {
  return budgets_of<hf::accelerate::get_max_memory>(r, w);
}
std::string transformers_budgets(const hf::memory_request& r) {
  return budgets_of<hf::transformers::get_max_memory>(r);
}

hf::memory_request of_machine() {
  hf::machine m;
  m.accelerators = {hf::machine::accelerator{1000, 5000, 300, 100, false}, std::nullopt,
                    hf::machine::accelerator{2000, 5000, 0, 0, false}};
  m.cpu_available = 10001;
  return {std::nullopt, m};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(compat_max_memory)

BOOST_AUTO_TEST_CASE(devices_are_ordered_accelerators_then_mps_cpu_disk) {
  BOOST_TEST(accelerate_budgets(memory_of("disk=1,cpu=2,mps=3,10=5,2=4KB")) == "2=4000,10=5,mps=3,cpu=2,disk=1");
  BOOST_TEST(accelerate_budgets(memory_of("")) == "");
}

BOOST_AUTO_TEST_CASE(unknown_devices_and_sizes_are_refused) {
  BOOST_TEST(accelerate_budgets(memory_of("cuda:0=5")) == "ValueError");
  BOOST_TEST(transformers_budgets(memory_of("gpu=5,0=1")) == "ValueError");
  BOOST_TEST(accelerate_budgets(memory_of("0=ten")) == "ValueError");
  BOOST_TEST(accelerate_budgets(memory_of("0=1e400GB")) == "OverflowError");
  BOOST_TEST(accelerate_budgets({}) == "max_memory");
}

BOOST_AUTO_TEST_CASE(a_negative_number_is_only_warned_about) {
  std::vector<hf::warning> warnings;
  BOOST_TEST(accelerate_budgets(memory_of("-1=5,0=6"), &warnings) == "-1=5,0=6");
  BOOST_TEST(warns(warnings, hf::warning_kind::device_not_available));
}

BOOST_AUTO_TEST_CASE(without_budgets_accelerate_takes_the_free_figures) {
  auto r = of_machine();
  BOOST_TEST(accelerate_budgets(r) == "0=1000,2=2000,cpu=10001");
  r.host->accelerators[2]->integrated = true;
  BOOST_TEST(accelerate_budgets(r) == "0=1000,2=2000");
  r.host->mps = true;
  BOOST_TEST(accelerate_budgets(r) == "0=1000,2=2000,mps=10001");
}

BOOST_AUTO_TEST_CASE(transformers_adds_what_the_allocator_holds_and_keeps_a_tenth_of_the_ram) {
  auto r = of_machine();
  BOOST_TEST(transformers_budgets(r) == "0=1200,2=2000,cpu=9000.9");
  r.limits = memory_of("0=1100,cpu=10001").limits;
  BOOST_TEST(transformers_budgets(r) == "0=1100,cpu=10001");
}

BOOST_AUTO_TEST_SUITE_END()
