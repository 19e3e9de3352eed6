// SPDX-License-Identifier: Apache-2.0
// Conversions are those of torch; every stride is respected; int8 rows follow the rule.
#include <boost/test/unit_test.hpp>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "runtime_loading.hpp"

import berth;
import berth.runtime;

BOOST_AUTO_TEST_SUITE(cpu_transforms)

namespace {

using berth::dtype;

void apply(const berth::transform& t) {
  const auto engine = berth::cpu_transforms();
  engine.run(engine.context, t, {});
}

template <class To, class From>
std::vector<To> converted(const std::vector<From>& from, dtype source, dtype target) {
  std::vector<To> to(from.size());
  berth::transform t;
  t.from = source;
  t.to = target;
  t.rows = 1;
  t.columns = from.size();
  t.source = reinterpret_cast<const std::byte*>(from.data());
  t.target = reinterpret_cast<std::byte*>(to.data());
  apply(t);
  return to;
}

/// What the bits of a float with `e` exponent bits and `m` mantissa bits mean, by the definition.
double meaning(std::uint32_t bits, int e, int m, int bias) {
  const auto exponent = static_cast<int>(bits >> m & ((1u << e) - 1));
  const auto fraction = static_cast<double>(bits & ((1u << m) - 1)) / static_cast<double>(1u << m);
  const double magnitude = exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
  return (bits >> (e + m) & 1u) != 0 ? -magnitude : magnitude;
}

}  // namespace

BOOST_AUTO_TEST_CASE(all_half_floats_are_read_as_defined) {
  std::vector<std::uint16_t> all(65536);
  for (std::uint32_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  const auto halves = converted<float>(all, dtype::f16, dtype::f32);
  const auto brains = converted<float>(all, dtype::bf16, dtype::f32);
  std::size_t wrong = 0;
  for (std::uint32_t i = 0; i < all.size(); ++i) {
    if ((i & 0x7c00u) != 0x7c00u) wrong += halves[i] == meaning(i, 5, 10, 15) ? 0 : 1;
    if ((i & 0x7fffu) == 0x7c00u) wrong += std::isinf(halves[i]) && std::signbit(halves[i]) == (i > 0x7fffu) ? 0 : 1;
    if ((i & 0x7fffu) > 0x7c00u) wrong += std::isnan(halves[i]) ? 0 : 1;
    if ((i & 0x7f80u) != 0x7f80u) wrong += brains[i] == meaning(i, 8, 7, 127) ? 0 : 1;
    if ((i & 0x7fffu) > 0x7f80u) wrong += std::isnan(brains[i]) ? 0 : 1;
  }
  BOOST_TEST(wrong == 0u);
}

BOOST_AUTO_TEST_CASE(all_8_bit_floats_are_read_as_defined_and_written_back) {
  std::vector<std::uint8_t> all(256);
  for (std::uint32_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint8_t>(i);
  struct format {
    dtype type;
    int e, m, bias;
  };
  for (const auto& f : {format{dtype::f8_e4m3, 4, 3, 7}, format{dtype::f8_e5m2, 5, 2, 15},
                        format{dtype::f8_e4m3fnuz, 4, 3, 8}, format{dtype::f8_e5m2fnuz, 5, 2, 16}}) {
    const auto values = converted<float>(all, f.type, dtype::f32);
    const auto back = converted<std::uint8_t>(values, dtype::f32, f.type);
    std::size_t wrong = 0, ordinary = 0;
    for (std::uint32_t i = 0; i < all.size(); ++i) {
      if (std::isnan(values[i])) continue;
      wrong += back[i] == all[i] ? 0 : 1;
      if (std::isinf(values[i])) continue;
      wrong += values[i] == meaning(i, f.e, f.m, f.bias) ? 0 : 1;
      ++ordinary;
    }
    BOOST_TEST(wrong == 0u, berth::info_of(f.type).torch);
    BOOST_TEST(ordinary >= 246u, berth::info_of(f.type).torch);
  }
}

BOOST_AUTO_TEST_CASE(writing_rounds_to_the_nearest_and_ties_to_even) {
  const std::uint64_t seed = 11;
  BOOST_TEST_MESSAGE("seed " << seed);
  std::vector<float> values;
  for (std::uint64_t k = 0; k < 200'000; ++k)
    values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(load_test::mixed(seed, k))));
  for (std::uint32_t h = 0; h < 0x7bffu; h += 7)  // exactly between two halves
    values.push_back(static_cast<float>((meaning(h, 5, 10, 15) + meaning(h + 1, 5, 10, 15)) / 2));
  const auto halves = converted<std::uint16_t>(values, dtype::f32, dtype::f16);
  const auto brains = converted<std::uint16_t>(values, dtype::f32, dtype::bf16);
  std::size_t wrong = 0;
  const auto nearest = [&](float v, std::uint16_t code, int e, int m, int bias) {
    const std::uint32_t top = ((1u << e) - 1) << m, magnitude = code & 0x7fffu;
    if (std::isnan(v)) return magnitude > top;
    if (std::signbit(v) != (code > 0x7fffu) || magnitude > top) return false;
    const double size = std::fabs(static_cast<double>(v));
    const double largest = meaning(top - 1, e, m, bias), step = largest - meaning(top - 2, e, m, bias);
    if (magnitude == top) return size >= largest + step / 2;
    const double here = meaning(magnitude, e, m, bias), off = std::fabs(size - here);
    const double above = meaning(magnitude + 1, e, m, bias),
                 below = magnitude == 0 ? -above : meaning(magnitude - 1, e, m, bias);
    const bool even = magnitude % 2 == 0;
    return (off < std::fabs(above - size) || (off == std::fabs(above - size) && even)) &&
           (off < std::fabs(size - below) || (off == std::fabs(size - below) && even));
  };
  for (std::size_t i = 0; i < values.size(); ++i) {
    wrong += nearest(values[i], halves[i], 5, 10, 15) ? 0 : 1;
    wrong += nearest(values[i], brains[i], 8, 7, 127) ? 0 : 1;
  }
  BOOST_TEST(wrong == 0u);
}

BOOST_AUTO_TEST_CASE(elements_go_where_their_strides_say) {
  for (const auto to : {dtype::bf16, dtype::f32})
    for (const bool turned : {false, true})
      for (const std::uint64_t gap : {0ull, 3ull}) {
        const std::uint64_t rows = 130, columns = 67;
        std::vector<std::uint16_t> from(rows * columns);
        for (std::uint64_t i = 0; i < from.size(); ++i) from[i] = load_test::as_bf16(load_test::drawn(5, i));
        const auto size = berth::bits_of(to) / 8;
        const auto stride = columns + gap;
        std::vector<std::byte> target(rows * stride * size, std::byte{0xee});
        berth::transform t;
        t.from = dtype::bf16;
        t.to = to;
        t.rows = rows;
        t.columns = columns;
        t.source = reinterpret_cast<const std::byte*>(from.data());
        t.source_row_stride = turned ? 1 : columns;
        t.source_column_stride = turned ? rows : 1;
        t.target = target.data();
        t.target_row_stride = stride;
        apply(t);
        std::size_t wrong = 0;
        for (std::uint64_t r = 0; r < rows; ++r)
          for (std::uint64_t c = 0; c < stride; ++c) {
            const auto* at = target.data() + (r * stride + c) * size;
            if (c >= columns) {
              wrong += at[0] == std::byte{0xee} ? 0 : 1;
              continue;
            }
            const auto value = from[turned ? c * rows + r : r * columns + c];
            const std::uint32_t want = to == dtype::f32 ? std::uint32_t{value} << 16 : value;
            wrong += std::memcmp(at, &want, size) == 0 ? 0 : 1;
          }
        BOOST_TEST(wrong == 0u);
      }
}

BOOST_AUTO_TEST_CASE(the_first_row_without_a_scale_is_told) {
  std::vector<float> from(8 * 5, 1.0f);
  from[3 * 5 + 2] = std::numeric_limits<float>::infinity();
  from[6 * 5] = std::numeric_limits<float>::quiet_NaN();
  for (int c = 0; c < 5; ++c) from[static_cast<std::size_t>(2 * 5 + c)] = 0;
  std::vector<std::int8_t> codes(40, 55);
  std::vector<float> scales(8, -1);
  std::uint32_t bad = 0xffffffffu;
  berth::transform t;
  t.kind = berth::transform_kind::quantize;
  t.from = dtype::f32;
  t.to = dtype::i8;
  t.rows = 8;
  t.columns = 5;
  t.source = reinterpret_cast<const std::byte*>(from.data());
  t.source_row_stride = 5;
  t.target = reinterpret_cast<std::byte*>(codes.data());
  t.scales = scales.data();
  t.bad_row = &bad;
  apply(t);
  BOOST_TEST(bad == 3u);
  BOOST_TEST(scales[0] == 1.0f);
  BOOST_TEST(static_cast<int>(codes[4]) == 127);
  BOOST_TEST(scales[2] == 0.0f);
  BOOST_TEST(static_cast<int>(codes[2 * 5]) == 0);
}

BOOST_AUTO_TEST_SUITE_END()
