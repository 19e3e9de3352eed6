// SPDX-License-Identifier: Apache-2.0
// The one file of each unit test program that defines the Boost.Test module (BERTH_TEST_SUITE comes from the build).
#define BOOST_TEST_MODULE BERTH_TEST_SUITE
#include <boost/test/unit_test.hpp>
