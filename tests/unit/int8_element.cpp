// SPDX-License-Identifier: Apache-2.0
// Conversions between f32 and the 16-bit types, over all values.
#include <boost/test/unit_test.hpp>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

import berth.int8;

namespace {

namespace int8 = berth::int8;
using berth::dtype;

std::uint32_t bits_of(float v) { return std::bit_cast<std::uint32_t>(v); }

/// The value of a 16-bit float as its definition says, from sign, exponent and digits.
double by_definition(std::uint16_t raw, int exponent_bits) {
  const int digit_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = raw >> digit_bits & ((1 << exponent_bits) - 1);
  const double digits = static_cast<double>(raw & ((1 << digit_bits) - 1)) / (1 << digit_bits);
  const double sign = raw >> 15 != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1)
    return digits == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  return sign * (exponent == 0 ? std::ldexp(digits, 1 - bias) : std::ldexp(1 + digits, exponent - bias));
}

bool same(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(element)

BOOST_AUTO_TEST_CASE(every_16_bit_value_widens_to_what_its_definition_says_and_comes_back) {
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const auto raw = static_cast<std::uint16_t>(i);
    const float f16 = int8::float_from_f16(raw), bf16 = int8::float_from_bf16(raw);
    BOOST_REQUIRE(same(static_cast<double>(f16), by_definition(raw, 5)));
    BOOST_REQUIRE(same(static_cast<double>(bf16), by_definition(raw, 8)));
    if (!std::isnan(f16)) BOOST_REQUIRE_EQUAL(int8::f16_from_float(f16), raw);
    if (!std::isnan(bf16)) BOOST_REQUIRE_EQUAL(int8::bf16_from_float(bf16), raw);
  }
}

BOOST_AUTO_TEST_CASE(narrowing_takes_the_nearest_value_and_the_even_one_of_two) {
  // Between each two neighbours: the middle, and one f32 to either side of it.
  const auto check = [](auto narrow, auto widen, std::uint16_t last_finite) {
    for (std::uint16_t raw = 0; raw < last_finite; ++raw) {
      const float low = widen(raw), high = widen(static_cast<std::uint16_t>(raw + 1));
      const float middle = low + (high - low) / 2;
      const auto even = static_cast<std::uint16_t>(raw + (raw & 1));
      BOOST_REQUIRE_EQUAL(narrow(middle), even);
      BOOST_REQUIRE_EQUAL(narrow(std::nextafterf(middle, low)), raw);
      BOOST_REQUIRE_EQUAL(narrow(std::nextafterf(middle, high)), raw + 1);
      BOOST_REQUIRE_EQUAL(narrow(-middle), even | 0x8000);
    }
  };
  check(int8::f16_from_float, int8::float_from_f16, 0x7bff);
  // The smallest bfloat16 values have no f32 between them and their middle's neighbours: still the rule holds.
  check(int8::bf16_from_float, int8::float_from_bf16, 0x7f7f);
  BOOST_TEST(int8::f16_from_float(65519.996f) == 0x7bff);
  BOOST_TEST(int8::f16_from_float(65520.0f) == 0x7c00);
  BOOST_TEST(int8::f16_from_float(0x1p-25f) == 0);
  BOOST_TEST(int8::f16_from_float(std::nextafterf(0x1p-25f, 1.0f)) == 1);
  BOOST_TEST(int8::bf16_from_float(std::numeric_limits<float>::max()) == 0x7f80);
  BOOST_TEST(int8::bf16_from_float(std::bit_cast<float>(0x7f800001u)) == 0x7fc0);
  BOOST_TEST(int8::f16_from_float(std::bit_cast<float>(0xff800001u)) == 0xfe00);
}

BOOST_AUTO_TEST_CASE(arrays_convert_as_single_values_do_on_every_path) {
  std::vector<std::uint16_t> raw(65536);
  for (std::size_t i = 0; i < raw.size(); ++i) raw[i] = static_cast<std::uint16_t>(i);
  const auto* source = reinterpret_cast<const std::byte*>(raw.data());
  for (const auto path : int8::all_paths) {
    if (!int8::is_available(path)) {
      BOOST_TEST_MESSAGE("skipped: this processor has no " << int8::name_of(path));
      continue;
    }
    for (const auto type : {dtype::f16, dtype::bf16})
      for (const std::size_t count : {raw.size(), std::size_t{37}, std::size_t{16}, std::size_t{0}}) {
        std::vector<float> out(count + 1, 42.0f);
        int8::widen(source, type, count, out.data(), path);
        BOOST_REQUIRE_EQUAL(out[count], 42.0f);
        for (std::size_t i = 0; i < count; ++i)
          BOOST_REQUIRE_EQUAL(bits_of(out[i]), bits_of(type == dtype::f16 ? int8::float_from_f16(raw[i])
                                                                          : int8::float_from_bf16(raw[i])));
      }
  }
}

BOOST_AUTO_TEST_CASE(floats_narrow_alike_on_every_path) {
  const auto seed = std::random_device{}();
  BOOST_TEST_MESSAGE("seed " << seed);
  std::mt19937 random(seed);
  std::vector<float> values(100'003);
  for (auto& v : values) v = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
  // Random bits seldom hit the range of f16: scale half of them into it.
  for (std::size_t i = 0; i < values.size(); i += 2)
    values[i] = std::ldexp(static_cast<float>(random()) / 4e9f, static_cast<int>(random() % 45) - 28);
  for (const auto path : int8::all_paths) {
    if (!int8::is_available(path)) continue;
    for (const auto type : {dtype::f16, dtype::bf16}) {
      std::vector<std::uint16_t> out(values.size());
      int8::narrow(values.data(), values.size(), reinterpret_cast<std::byte*>(out.data()), type, path);
      for (std::size_t i = 0; i < values.size(); ++i)
        BOOST_REQUIRE_MESSAGE(
            out[i] == (type == dtype::f16 ? int8::f16_from_float(values[i]) : int8::bf16_from_float(values[i])),
            "seed " << seed << ", bits " << bits_of(values[i]) << " on " << int8::name_of(path));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
