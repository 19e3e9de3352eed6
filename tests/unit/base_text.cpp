// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

import berth.base;

using berth::text;

BOOST_AUTO_TEST_SUITE(text_object)

BOOST_AUTO_TEST_CASE(holds_text_up_to_its_capacity_unchanged) {
  BOOST_TEST(text<5>("").empty());
  BOOST_TEST(text<5>("abcde").view() == "abcde");
  BOOST_TEST(text<5>("abcde").size() == 5u);
}

BOOST_AUTO_TEST_CASE(longer_text_is_cut_and_ends_in_dots) {
  BOOST_TEST(text<5>("abcdef").view() == "ab...");
  BOOST_TEST(text<3>("abcdef").view() == "...");
  BOOST_TEST(text<2>("abcdef").view() == "..");
}

BOOST_AUTO_TEST_CASE(appending_to_cut_text_keeps_the_dots) {
  text<5> t("abcdef");
  t.append("xyz").append(std::uint64_t{7});
  BOOST_TEST(t.view() == "ab...");
}

BOOST_AUTO_TEST_CASE(numbers_are_appended_in_decimal) {
  text<32> t("n=");
  t.append(std::uint64_t{0}).append(",").append(std::numeric_limits<std::uint64_t>::max());
  BOOST_TEST(t.view() == "n=0,18446744073709551615");
}

BOOST_AUTO_TEST_CASE(compares_by_content_not_by_history) {
  text<8> cut_then_same("abcdefghijk");
  BOOST_TEST((cut_then_same == text<8>("abcde...")));
  BOOST_TEST((text<8>("a") < text<8>("b")));
  BOOST_TEST((text<8>("a") < text<8>("aa")));
}

BOOST_AUTO_TEST_CASE(keeps_bytes_that_are_not_text) {
  const std::string zero("a\0b", 3);
  BOOST_TEST(text<8>(std::string_view(zero)).view() == zero);
}

BOOST_AUTO_TEST_SUITE_END()
