// SPDX-License-Identifier: Apache-2.0
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <limits>
#include <ostream>
#include <string>
#include <string_view>

import berth.base;

using berth::bytes;
using berth::errc;
using berth::format_size;
using berth::GiB;
using berth::KiB;
using berth::max_bytes;
using berth::MiB;
using berth::parse_size;
using berth::TiB;

namespace {

struct accepted {
  std::string_view text;
  bytes value;
  friend std::ostream& operator<<(std::ostream& out, const accepted& a) { return out << '"' << a.text << '"'; }
};

struct refused {
  std::string_view text;
  errc code;
  std::string_view advice;  // a part of the message
  friend std::ostream& operator<<(std::ostream& out, const refused& r) { return out << '"' << r.text << '"'; }
};

constexpr accepted good[] = {
    {"0", 0},
    {"1048576", MiB},
    {"1B", 1},
    {"1KB", 1'000},
    {"1KiB", KiB},
    {"1MB", 1'000'000},
    {"1MiB", MiB},
    {"20GB", 20'000'000'000},
    {"20GiB", 20 * GiB},
    {"2TB", 2'000'000'000'000},
    {"2TiB", 2 * TiB},
    {"1.5GiB", GiB + GiB / 2},
    {"1.GiB", GiB},
    {".5KiB", 512},
    {"007KiB", 7 * KiB},
    {"0.1KB", 100},
    {"0.0005KB", 0},          // fractions of a byte are cut off
    {"0.0019KB", 1},          //
    {"0.3GiB", 322'122'547},  // floor(0.3 * 2^30), which a product of doubles gets right only by luck
    {"8388607TiB", 8388607 * TiB},
    {"100000000000000000", 100'000'000'000'000'000},
};

constexpr refused bad[] = {
    {"", errc::invalid_argument, "empty size"},
    {"GiB", errc::invalid_argument, "not a size"},
    {".", errc::invalid_argument, "not a size"},
    {"-1", errc::invalid_argument, "cannot be negative"},
    {"-1GiB", errc::invalid_argument, "cannot be negative"},
    {"+1", errc::invalid_argument, "not a size"},
    {" 1", errc::invalid_argument, "not a size"},
    {"20 GiB", errc::invalid_argument, "GiB, without a space before it"},
    {"20 Gib", errc::invalid_argument, "GiB, without a space before it"},
    {"20gib", errc::invalid_argument, "the unit is spelt GiB"},
    {"20GIB", errc::invalid_argument, "the unit is spelt GiB"},
    {"20kb", errc::invalid_argument, "the unit is spelt KB"},
    {"20G", errc::invalid_argument, "not a size"},
    {"20GiBs", errc::invalid_argument, "not a size"},
    {"1e3", errc::invalid_argument, "not a size"},
    {"0x10", errc::invalid_argument, "not a size"},
    {"1,5GiB", errc::invalid_argument, "not a size"},
    {"1.2.3GiB", errc::invalid_argument, "not a size"},
    {"1.5", errc::invalid_argument, "a number with a decimal point needs a unit"},
    {"18446744073709551616", errc::overflow, "18 digits"},
    {"9223372036854775808", errc::overflow, "18 digits"},
    {"8388608TiB", errc::overflow, "8 EiB"},
    {"999999999999999999GiB", errc::overflow, "8 EiB"},
    {"0.0000000000000000001GiB", errc::overflow, "18 digits"},
};

}  // namespace

BOOST_AUTO_TEST_SUITE(sizes)

BOOST_DATA_TEST_CASE(sizes_are_read_exactly, boost::unit_test::data::make(good)) {
  const auto r = parse_size(sample.text);
  BOOST_REQUIRE(r.has_value());
  BOOST_TEST(*r == sample.value);
}

BOOST_DATA_TEST_CASE(what_is_not_a_size_is_refused_with_advice, boost::unit_test::data::make(bad)) {
  const auto r = parse_size(sample.text);
  BOOST_REQUIRE(!r.has_value());
  BOOST_TEST((r.error().code == sample.code));
  BOOST_TEST(r.error().subject.view() == sample.text);
  const auto detail = std::string(r.error().detail.view());
  BOOST_TEST(detail.find(sample.advice) != std::string::npos, detail);
}

BOOST_AUTO_TEST_CASE(a_very_long_text_is_refused_without_reading_it_as_a_number) {
  BOOST_TEST(!parse_size(std::string(100'000, '9')));
  BOOST_TEST(!parse_size(std::string(100'000, ' ')));
  BOOST_TEST(*parse_size(std::string(100'000, '0') + "1KiB") == KiB);
}

BOOST_AUTO_TEST_CASE(sizes_are_printed_in_the_largest_binary_unit_below_tib) {
  BOOST_TEST(format_size(0) == "0 B");
  BOOST_TEST(format_size(1023) == "1023 B");
  BOOST_TEST(format_size(KiB) == "1.00 KiB");
  BOOST_TEST(format_size(MiB + MiB / 4) == "1.25 MiB");
  BOOST_TEST(format_size(16'060'522'496) == "14.96 GiB");
  BOOST_TEST(format_size(2 * TiB) == "2048.00 GiB");
  BOOST_TEST(format_size(std::numeric_limits<std::uint64_t>::max()) == "17179869184.00 GiB");
}

BOOST_AUTO_TEST_CASE(printed_hundredths_are_rounded_half_up) {
  BOOST_TEST(format_size(KiB + 5) == "1.00 KiB");  // 0.49 hundredths
  BOOST_TEST(format_size(KiB + 6) == "1.01 KiB");
}

BOOST_AUTO_TEST_CASE(checked_arithmetic_stops_at_63_bits) {
  BOOST_TEST(*berth::checked_mul(0, max_bytes) == 0u);
  BOOST_TEST(*berth::checked_mul(1, max_bytes) == max_bytes);
  BOOST_TEST(!berth::checked_mul(2, max_bytes / 2 + 1));
  BOOST_TEST(!berth::checked_mul(std::numeric_limits<bytes>::max(), 1));
  BOOST_TEST(*berth::checked_add(max_bytes, 0) == max_bytes);
  BOOST_TEST(!berth::checked_add(max_bytes, 1));
  BOOST_TEST(!berth::checked_add(0, max_bytes + 1));
  BOOST_TEST(!berth::checked_add(max_bytes + 1, 0));
}

BOOST_AUTO_TEST_CASE(rounding_up_leaves_multiples_alone) {
  BOOST_TEST(berth::round_up(0, 256) == 0u);
  BOOST_TEST(berth::round_up(1, 256) == 256u);
  BOOST_TEST(berth::round_up(512, 256) == 512u);
  BOOST_TEST(berth::round_up(7, 0) == 7u);
  BOOST_TEST(berth::round_up(7, 1) == 7u);
}

BOOST_AUTO_TEST_SUITE_END()
