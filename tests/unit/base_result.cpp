// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

import berth.base;

using berth::errc;
using berth::fail;
using berth::result;

namespace {

result<int> half(int n) {
  if (n % 2 != 0) return fail(errc::invalid_argument, "n", "odd", 2, 1);
  return n / 2;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(result_object)

BOOST_AUTO_TEST_CASE(a_value_is_read_back) {
  const auto r = half(8);
  BOOST_REQUIRE(r.has_value());
  BOOST_TEST(static_cast<bool>(r));
  BOOST_TEST(*r == 4);
}

BOOST_AUTO_TEST_CASE(an_error_keeps_everything_that_was_said) {
  const auto r = half(3);
  BOOST_REQUIRE(!r);
  BOOST_TEST((r.error().code == errc::invalid_argument));
  BOOST_TEST(r.error().subject.view() == "n");
  BOOST_TEST(r.error().detail.view() == "odd");
  BOOST_TEST(r.error().needed == 2u);
  BOOST_TEST(r.error().available == 1u);
}

BOOST_AUTO_TEST_CASE(an_error_propagates_to_another_value_type) {
  const result<std::string> r = half(3).propagate();
  BOOST_REQUIRE(!r);
  BOOST_TEST(r.error().detail.view() == "odd");
}

BOOST_AUTO_TEST_CASE(value_or_falls_back_only_on_error) {
  BOOST_TEST(half(8).value_or(-1) == 4);
  BOOST_TEST(half(3).value_or(-1) == -1);
}

BOOST_AUTO_TEST_CASE(chains_stop_at_the_first_error) {
  BOOST_TEST(half(8).and_then(half).value_or(-1) == 2);
  int calls = 0;
  const auto r = half(6).and_then(half).and_then([&](int n) {
    ++calls;
    return half(n);
  });
  BOOST_TEST(!r);
  BOOST_TEST(calls == 0);
}

BOOST_AUTO_TEST_CASE(transform_changes_the_value_type_and_keeps_the_error) {
  const auto to_text = [](int n) { return std::to_string(n); };
  BOOST_TEST(half(8).transform(to_text).value_or("") == "4");
  BOOST_TEST(half(3).transform(to_text).error().detail.view() == "odd");
}

BOOST_AUTO_TEST_CASE(a_value_that_only_moves_can_be_moved_out) {
  result<std::unique_ptr<int>> r = std::make_unique<int>(7);
  const auto owned = *std::move(r);
  BOOST_TEST(*owned == 7);
}

BOOST_AUTO_TEST_CASE(code_names_are_the_stable_spelling) {
  BOOST_TEST(name_of(errc::does_not_fit) == "does_not_fit");
  BOOST_TEST(name_of(errc::peer_failure) == "peer_failure");
  BOOST_TEST(static_cast<int>(errc::invalid_argument) == 100);
  BOOST_TEST(static_cast<int>(errc::peer_failure) == 503);
}

BOOST_AUTO_TEST_SUITE_END()
