// SPDX-License-Identifier: Apache-2.0
#define BOOST_TEST_NO_MAIN
#define BOOST_TEST_ALTERNATIVE_INIT_API
#include <boost/test/unit_test.hpp>

#include <cstdio>
#include <string>

#include "device_memory.hpp"

int main(int argc, char** argv) {
  if (const auto why = device::missing(); !why.empty()) {
    std::printf("skipped: %s\n", why.c_str());
    return 77;
  }
  return boost::unit_test::unit_test_main([] { return true; }, argc, argv);
}
