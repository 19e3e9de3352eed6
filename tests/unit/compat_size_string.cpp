// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>
#include <string>
#include <string_view>

import berth.compat;

using berth::hf::number;
using berth::hf::accelerate::convert_file_size_to_int;

namespace {

/// The size in digits, or the Python exception.
std::string size_of(std::string_view text) {
  const auto size = convert_file_size_to_int(text);
  return size ? size->text() : std::string(size.error().subject.view());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(compat_size_string)

BOOST_AUTO_TEST_CASE(units_are_read_in_any_case) {
  BOOST_TEST(size_of("0MB") == "0");
  BOOST_TEST(size_of("100MB") == "100000000");
  BOOST_TEST(size_of("2GiB") == "2147483648");
  BOOST_TEST(size_of("512KiB") == "524288");
  BOOST_TEST(size_of("1.5GB") == "1500000000");
  BOOST_TEST(size_of("1gIB") == "1073741824");
  BOOST_TEST(size_of("1.9999999999GB") == "1999999999");
}

BOOST_AUTO_TEST_CASE(a_lower_case_b_at_the_end_means_bits_for_decimal_units_only) {
  BOOST_TEST(size_of("10gb") == "1250000000");
  BOOST_TEST(size_of("10Gb") == "1250000000");
  BOOST_TEST(size_of("10gB") == "10000000000");
  BOOST_TEST(size_of("1kb") == "125");
  BOOST_TEST(size_of("1gib") == "1073741824");
}

BOOST_AUTO_TEST_CASE(the_number_is_read_as_python_reads_a_float) {
  BOOST_TEST(size_of(" +5 GB") == "5000000000");
  BOOST_TEST(size_of("12\tGiB") == "12884901888");
  BOOST_TEST(size_of("1_000MB") == "1000000000");
  BOOST_TEST(size_of("1__0MB") == "ValueError");
  BOOST_TEST(size_of("_1MB") == "ValueError");
  BOOST_TEST(size_of("1e1GB") == "10000000000");
  BOOST_TEST(size_of(".5GB") == "500000000");
  BOOST_TEST(size_of("5.GB") == "5000000000");
  BOOST_TEST(size_of("0x10GB") == "ValueError");
  BOOST_TEST(size_of("1,5GB") == "ValueError");
  BOOST_TEST(size_of("1\xd9\xa0GB") == "10000000000");              // Arabic zero
  BOOST_TEST(size_of("\xf0\x9d\x9f\x99\xe2\x80\x83KB") == "1000");  // mathematical one, em space
  BOOST_TEST(size_of("1\xe2\x80\x8bKB") == "ValueError");           // zero-width space is no white space
  BOOST_TEST(size_of("2G\xc4\xb1"
                     "B") == "2147483648");                            // dotless i upper-cases to I
  BOOST_TEST(size_of("9007199254740993KB") == "9007199254740992000");  // rounded to a double first
  BOOST_TEST(size_of("123456789012345678901234567890KB") == "123456789012345686040493921665024");
  BOOST_TEST(size_of("1e40KB") == "10000000000000000139372116959414099130712064");
}

BOOST_AUTO_TEST_CASE(what_the_peer_refuses_is_refused) {
  for (const std::string_view text : {"", "GB", "10", "10B", "10TB", "10Gi", "5MBB", "5k0MB", "-1GB", "10GB ", "nanGB",
                                      "ten GB", "auto", "1e-3", "iB"})
    BOOST_TEST(size_of(text) == "ValueError", text);
  BOOST_TEST(size_of("-0GB") == "0");
  BOOST_TEST(size_of("-1e-400GB") == "0");
}

BOOST_AUTO_TEST_CASE(infinite_sizes_crash_the_peer) {
  for (const std::string_view text : {"infGB", "-infinityGB", "1e400GB", "1e300GB"}) {
    const auto size = convert_file_size_to_int(text);
    BOOST_TEST(!size);
    BOOST_TEST((size.error().code == berth::errc::peer_failure), text);
  }
  BOOST_TEST(size_of("1e-400GB") == "0");
}

BOOST_AUTO_TEST_CASE(numbers_must_be_whole_and_not_negative) {
  BOOST_TEST((*convert_file_size_to_int(number(500)) == number(500)));
  BOOST_TEST(convert_file_size_to_int(number(-1)).error().subject.view() == "ValueError");
  BOOST_TEST(convert_file_size_to_int(number::real(1.5)).error().subject.view() == "AttributeError");
}

BOOST_AUTO_TEST_SUITE_END()
