// SPDX-License-Identifier: Apache-2.0
// Every case of the suite on every machine. Usage as any Boost.Test program; names are MACHINE/CASE.
#define BOOST_TEST_NO_MAIN
#define BOOST_TEST_ALTERNATIVE_INIT_API
#include <boost/test/unit_test.hpp>

#include <cstdio>
#include <string>
#include <utility>

#include "any_machine.hpp"

namespace {

/// Why a case does not apply to a machine, or null.
const std::string* skipped(const conformance::machine_kind& kind, const std::string& name) {
  for (const auto& [test, why] : kind.skips)
    if (test == name) return &why;
  return nullptr;
}

bool add_all() {
  for (const auto& kind : conformance::all_machines()) {
    auto* suite = BOOST_TEST_SUITE(kind.name);
    for (const auto& test : conformance::all_cases()) {
      if (const auto* why = skipped(kind, test.name)) {
        std::printf("skipped: %s/%s: %s\n", kind.name.c_str(), test.name.c_str(), why->c_str());
        continue;
      }
      suite->add(boost::unit_test::make_test_case(
          [kind, test] {
            auto made = kind.make();
            BOOST_REQUIRE(made.machine != nullptr);
            test.run(*made.machine);
          },
          test.name, __FILE__, __LINE__));
    }
    boost::unit_test::framework::master_test_suite().add(suite);
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) { return boost::unit_test::unit_test_main(add_all, argc, argv); }
