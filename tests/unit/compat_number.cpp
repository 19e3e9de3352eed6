// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <limits>

import berth.compat;

using berth::hf::first_max;
using berth::hf::first_min;
using berth::hf::number;

BOOST_AUTO_TEST_SUITE(compat_number)

BOOST_AUTO_TEST_CASE(integers_stay_exact_beyond_64_bits) {
  number n = std::numeric_limits<std::uint64_t>::max();
  n += n;
  BOOST_TEST(n.text() == "36893488147419103230");
  BOOST_TEST((n - number(1)).text() == "36893488147419103229");
  BOOST_TEST(!n.is_real());
}

BOOST_AUTO_TEST_CASE(anything_with_a_float_becomes_a_float) {
  BOOST_TEST((number(1) + number::real(0.5)).text() == "1.5");
  BOOST_TEST((number(29) + number::real(0)).is_real());
  BOOST_TEST((number(29) + number::real(0)).text() == "29.0");
  BOOST_TEST((number(10) * 0.9).is_real());
}

BOOST_AUTO_TEST_CASE(comparison_of_an_integer_with_a_float_is_exact) {
  const number above = (std::int64_t{1} << 53) + 1;
  BOOST_TEST((above > number::real(0x1p53)));
  BOOST_TEST((number(std::int64_t{1} << 53) == number::real(0x1p53)));
  BOOST_TEST((number(2) < number::real(2.5)));
  BOOST_TEST((number(-2) > number::real(-2.5)));
  BOOST_TEST((number(5) < number::real(std::numeric_limits<double>::infinity())));
  BOOST_TEST(!(number(5) < number::real(std::numeric_limits<double>::quiet_NaN())));
}

BOOST_AUTO_TEST_CASE(floor_division_rounds_down_for_integers_and_floats) {
  BOOST_TEST((floor_divide(number(7), 2) == number(3)));
  BOOST_TEST((floor_divide(number(-7), 2) == number(-4)));
  BOOST_TEST(floor_divide(number::real(7.5), 2).text() == "3.0");
  BOOST_TEST(floor_divide(number::real(-0.5), 2).text() == "-1.0");
}

BOOST_AUTO_TEST_CASE(true_division_rounds_once) {
  // 3 * 2^60 + 1 over 3: the exact quotient lies just above 2^60, doubles there are 256 apart.
  const number big = (berth::hf::int128{3} << 60) + 1;
  BOOST_TEST((truncated_quotient(big, 3) == number(std::int64_t{1} << 60)));
  BOOST_TEST((truncated_quotient(number(236), 3) == number(78)));
  BOOST_TEST((truncated_quotient(number::real(29.5), 2) == number(14)));
}

BOOST_AUTO_TEST_CASE(huge_integers_print_all_digits_and_survive_arithmetic) {
  const auto huge = number::truncated(1e49);
  BOOST_TEST(!huge.is_real());
  BOOST_TEST(huge.text() == "9999999999999999464902769475481793196872414789632");
  BOOST_TEST((huge > number(1)));
  BOOST_TEST((huge - number(1000) > number(1000)));
  BOOST_TEST(number::truncated(-2.9).text() == "-2");
}

BOOST_AUTO_TEST_CASE(the_first_of_two_equal_values_wins_with_its_kind) {
  BOOST_TEST(first_min(number::real(4), number(4)).is_real());
  BOOST_TEST(!first_max(number(4), number::real(4)).is_real());
  BOOST_TEST((first_max(number(3), number::real(3.5)) == number::real(3.5)));
}

BOOST_AUTO_TEST_SUITE_END()
