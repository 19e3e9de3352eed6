// SPDX-License-Identifier: Apache-2.0
// Codes and scales: every instruction path against the reference, bit for bit, and the reference against its rule.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <vector>

import berth.int8;

namespace {

namespace int8 = berth::int8;
using berth::dtype;
using int8::bad_row;
using int8::row_fault;

constexpr std::array types{dtype::f32, dtype::f16, dtype::bf16};

/// Floats in their stored form, owning its bytes. Row r, column c lies at r * row_stride + c * column_stride.
struct matrix {
  dtype type = dtype::f32;
  std::uint64_t rows = 0, columns = 0, row_stride = 0, column_stride = 1;
  std::vector<std::byte> data;

  matrix(dtype t, std::uint64_t r, std::uint64_t c, std::uint64_t rs, std::uint64_t cs)
      : type(t), rows(r), columns(c), row_stride(rs), column_stride(cs) {
    const auto last = rows == 0 || columns == 0 ? 0 : (rows - 1) * row_stride + (columns - 1) * column_stride + 1;
    data.resize(last * berth::bits_of(type) / 8);
  }
  matrix(dtype t, std::uint64_t r, std::uint64_t c) : matrix(t, r, c, c, 1) {}

  void set(std::uint64_t r, std::uint64_t c, float v) {
    const auto at = r * row_stride + c * column_stride;
    if (type == dtype::f32) {
      std::memcpy(data.data() + at * 4, &v, 4);
      return;
    }
    const auto raw = type == dtype::f16 ? int8::f16_from_float(v) : int8::bf16_from_float(v);
    std::memcpy(data.data() + at * 2, &raw, 2);
  }
  float at(std::uint64_t r, std::uint64_t c) const {
    return int8::element_at(data.data(), type, r * row_stride + c * column_stride);
  }
  int8::float_matrix view() const { return {type, data.data(), rows, columns, row_stride, column_stride}; }
};

struct quantized {
  std::vector<std::int8_t> codes;
  std::vector<float> scales;
  std::optional<bad_row> bad;

  /// Scales by their bits: NaN never occurs, and zeros have no sign.
  friend bool operator==(const quantized& a, const quantized& b) {
    return a.bad == b.bad && (a.bad || (a.codes == b.codes &&
                                        std::ranges::equal(a.scales, b.scales, {}, std::bit_cast<std::uint32_t, float>,
                                                           std::bit_cast<std::uint32_t, float>)));
  }
};

quantized room_for(const matrix& m) {
  quantized out;
  out.codes.resize(m.rows * m.columns);
  out.scales.resize(m.rows);
  return out;
}
quantized by_reference(const matrix& m) {
  auto out = room_for(m);
  out.bad = int8::quantize_rows_reference(m.view(), out.codes.data(), out.scales.data());
  return out;
}
quantized by(int8::instruction_path path, const matrix& m) {
  auto out = room_for(m);
  out.bad = int8::quantize_rows(m.view(), out.codes.data(), out.scales.data(), path);
  return out;
}

std::vector<int8::instruction_path> paths() {
  std::vector<int8::instruction_path> out;
  for (const auto p : int8::all_paths)
    if (int8::is_available(p))
      out.push_back(p);
    else
      BOOST_TEST_MESSAGE("skipped: this processor has no " << int8::name_of(p));
  return out;
}

void every_path_agrees(const matrix& m, const std::string& what) {
  const auto expected = by_reference(m);
  for (const auto path : paths()) BOOST_REQUIRE_MESSAGE(by(path, m) == expected, what << " on " << int8::name_of(path));
}

std::uint32_t new_seed() {
  const auto seed = std::random_device{}();
  BOOST_TEST_MESSAGE("seed " << seed);
  return seed;
}

/// Rows of very different size, some of zeros, some with one large value.
void fill(matrix& m, std::mt19937& random) {
  std::normal_distribution<float> normal;
  for (std::uint64_t r = 0; r < m.rows; ++r) {
    const float size = random() % 8 == 0 ? 0 : std::ldexp(1.0f, static_cast<int>(random() % 20) - 10);
    for (std::uint64_t c = 0; c < m.columns; ++c) m.set(r, c, normal(random) * size);
    if (m.columns > 0 && random() % 5 == 0) m.set(r, random() % m.columns, 40 * size);
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(quantize)

BOOST_AUTO_TEST_CASE(every_16_bit_value_alone_in_a_row_is_its_own_scale) {
  for (const auto type : {dtype::f16, dtype::bf16})
    for (std::uint32_t i = 0; i < 65536; ++i) {
      matrix m(type, 1, 1);
      const auto raw = static_cast<std::uint16_t>(i);
      std::memcpy(m.data.data(), &raw, 2);
      const auto q = by_reference(m);
      const float v = m.at(0, 0);
      if (!std::isfinite(v)) {
        BOOST_REQUIRE(q.bad == bad_row({0, row_fault::not_finite}));
      } else if (v != 0 && static_cast<double>(std::fabs(v)) * std::numeric_limits<float>::max() < 127) {
        BOOST_REQUIRE(q.bad == bad_row({0, row_fault::scale_out_of_range}));
      } else {
        BOOST_REQUIRE(!q.bad);
        BOOST_REQUIRE_EQUAL(q.scales[0], std::fabs(v));
        BOOST_REQUIRE_EQUAL(int{q.codes[0]}, v == 0 ? 0 : v > 0 ? 127 : -127);
      }
      for (const auto path : int8::all_paths)
        if (int8::is_available(path)) BOOST_REQUIRE(by(path, m) == q);
    }
}

BOOST_AUTO_TEST_CASE(every_16_bit_value_beside_a_larger_one_has_the_code_of_the_rule) {
  for (const auto type : {dtype::f16, dtype::bf16}) {
    // All finite values in rows of 32 beside a one, the rest in rows whose largest value they are.
    matrix m(type, 2048, 33);
    for (std::uint32_t i = 0; i < 65536; ++i) {
      const auto raw = static_cast<std::uint16_t>((i & 0x7f80u) == 0x7f80u || (i & 0x7c00u) == 0x7c00u ? 0x3c00u : i);
      std::memcpy(m.data.data() + (i / 32 * 33 + i % 32) * 2, &raw, 2);
    }
    for (std::uint64_t r = 0; r < m.rows; ++r) m.set(r, 32, 1);
    every_path_agrees(m, std::string(berth::info_of(type).torch));
    const auto q = by_reference(m);
    BOOST_REQUIRE(!q.bad);
    for (std::uint64_t r = 0; r < m.rows; ++r)
      for (std::uint64_t c = 0; c < m.columns; ++c) {
        const double exact = static_cast<double>(m.at(r, c)) * 127 / static_cast<double>(q.scales[r]);
        BOOST_REQUIRE_SMALL(exact - q.codes[r * m.columns + c], 0.5 + 1e-5);
      }
  }
}

BOOST_AUTO_TEST_CASE(random_matrices_of_all_sizes_agree_on_every_path) {
  const auto seed = new_seed();
  std::mt19937 random(seed);
  for (const auto type : types)
    for (const std::uint64_t columns :
         std::initializer_list<std::uint64_t>{0, 1, 2, 15, 16, 17, 31, 33, 64, 100, 255, 257, 1000})
      for (const std::uint64_t rows : std::initializer_list<std::uint64_t>{0, 1, 3, 16, 63, 65}) {
        matrix m(type, rows, columns);
        fill(m, random);
        every_path_agrees(m, "seed " + std::to_string(seed) + ", " + std::to_string(rows) + " x " +
                                 std::to_string(columns) + " " + std::string(berth::info_of(type).torch));
      }
}

BOOST_AUTO_TEST_CASE(columns_and_interleaved_rows_have_the_codes_of_the_same_rows_copied) {
  const auto seed = new_seed();
  std::mt19937 random(seed);
  for (const auto type : types)
    for (const std::uint64_t rows : std::initializer_list<std::uint64_t>{1, 15, 64, 65, 130})
      for (const std::uint64_t columns : std::initializer_list<std::uint64_t>{1, 63, 64, 200, 300})
        for (const int how : {0, 1, 2}) {
          // Conv1D's [in, out]; the same in a wider matrix; every second element of every row.
          const auto m = [&] {
            if (how == 0) return matrix(type, rows, columns, 1, rows);
            if (how == 1) return matrix(type, rows, columns, 1, rows + 7);
            return matrix(type, rows, columns, 2 * columns, 2);
          };
          auto strided = m();
          fill(strided, random);
          matrix copied(type, rows, columns);
          for (std::uint64_t r = 0; r < rows; ++r)
            for (std::uint64_t c = 0; c < columns; ++c) copied.set(r, c, strided.at(r, c));
          const auto expected = by_reference(copied);
          for (const auto path : int8::all_paths)
            if (int8::is_available(path))
              BOOST_REQUIRE_MESSAGE(by(path, strided) == expected, "seed " << seed << ", " << rows << " x " << columns
                                                                           << " way " << how << " on "
                                                                           << int8::name_of(path));
        }
}

BOOST_AUTO_TEST_CASE(ties_go_to_the_even_code) {
  for (const auto type : types) {
    matrix m(type, 1, 254);
    m.set(0, 0, 127);
    for (std::uint64_t c = 1; c < m.columns; ++c) m.set(0, c, (static_cast<float>(c) - 127) + 0.5f);
    if (type == dtype::bf16)  // has no halves above 64
      for (std::uint64_t c = 1; c < m.columns; ++c) m.set(0, c, (static_cast<float>(c % 64) - 32) + 0.5f);
    every_path_agrees(m, "ties");
    const auto q = by_reference(m);
    for (std::uint64_t c = 1; c < m.columns; ++c) {
      BOOST_TEST(q.codes[c] % 2 == 0);
      BOOST_TEST(std::fabs(q.codes[c] - m.at(0, c)) == 0.5f);
    }
  }
}

BOOST_AUTO_TEST_CASE(rows_of_zeros_and_of_denormals) {
  matrix zeros(dtype::f32, 3, 20);
  zeros.set(1, 4, -0.0f);
  const auto z = by_reference(zeros);
  BOOST_TEST(!z.bad);
  BOOST_TEST(std::ranges::all_of(z.codes, [](auto c) { return c == 0; }));
  BOOST_TEST(std::ranges::all_of(z.scales, [](auto s) { return s == 0 && !std::signbit(s); }));
  every_path_agrees(zeros, "zeros");

  // Denormals of f16 are ordinary f32 values.
  matrix half(dtype::f16, 1, 18);
  for (std::uint64_t c = 0; c < 18; ++c) half.set(0, c, static_cast<float>(c) * 0x1p-24f);
  const auto h = by_reference(half);
  BOOST_TEST(h.scales[0] == 17 * 0x1p-24f);
  BOOST_TEST(int{h.codes[17]} == 127);
  every_path_agrees(half, "f16 denormals");

  // Beside a normal value denormals of f32 count as what they are; alone they have no scale.
  matrix single(dtype::f32, 2, 17);
  single.set(0, 0, 1);
  single.set(0, 1, 1e-40f);
  single.set(1, 16, 1e-40f);
  every_path_agrees(single, "f32 denormals");
  BOOST_TEST((by_reference(single).bad == bad_row({1, row_fault::scale_out_of_range})));
}

BOOST_AUTO_TEST_CASE(scales_reach_from_the_least_invertible_to_the_largest_float) {
  const auto outcome = [](float v) {
    matrix m(dtype::f32, 1, 3);
    m.set(0, 1, v);
    m.set(0, 2, -v / 2);
    every_path_agrees(m, std::to_string(v));
    return by_reference(m);
  };
  BOOST_TEST(!outcome(std::numeric_limits<float>::max()).bad);
  BOOST_TEST(int{outcome(std::numeric_limits<float>::max()).codes[1]} == 127);
  float least = 127.0f / std::numeric_limits<float>::max();
  while (std::isfinite(127.0f / std::nextafterf(least, 0.0f))) least = std::nextafterf(least, 0.0f);
  while (!std::isfinite(127.0f / least)) least = std::nextafterf(least, 1.0f);
  BOOST_TEST(!outcome(least).bad);
  BOOST_TEST(int{outcome(least).codes[1]} == 127);
  BOOST_TEST((outcome(std::nextafterf(least, 0.0f)).bad == bad_row({0, row_fault::scale_out_of_range})));
}

BOOST_AUTO_TEST_CASE(the_least_bad_row_is_told_wherever_it_lies) {
  const auto seed = new_seed();
  std::mt19937 random(seed);
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const auto type : types)
    for (int round = 0; round < 200; ++round) {
      const auto rows = 1 + random() % 150, columns = 1 + random() % 100;
      auto m = random() % 2 == 0 ? matrix(type, rows, columns) : matrix(type, rows, columns, 1, rows);
      fill(m, random);
      const auto first = random() % rows;
      for (auto r = first; r < rows; r += 1 + random() % 40)
        m.set(r, random() % columns, std::array{inf, -inf, nan, -nan}[random() % 4]);
      // `fill` may leave rows of bf16 too small for a scale nowhere: sizes are above 2^-10.
      BOOST_REQUIRE(by_reference(m).bad == bad_row({first, row_fault::not_finite}));
      every_path_agrees(m, "seed " + std::to_string(seed));
    }
  const auto why = int8::failure_of({7, row_fault::not_finite}, "model.layers.0.mlp.weight").why;
  BOOST_TEST(why.subject.view() == "model.layers.0.mlp.weight");
  BOOST_TEST(why.detail.view().starts_with("row 7 "));
}

BOOST_AUTO_TEST_CASE(every_weight_comes_back_within_half_a_step) {
  const auto seed = new_seed();
  std::mt19937 random(seed);
  for (const auto type : types)
    for (const auto path : paths()) {
      matrix m(type, 40, 333);
      fill(m, random);
      const auto q = by(path, m);
      BOOST_REQUIRE(!q.bad);
      const int8::code_matrix codes{q.codes.data(), q.scales.data(), m.rows, m.columns};
      std::vector<float> back(m.rows * m.columns);
      int8::dequantize_rows(codes, reinterpret_cast<std::byte*>(back.data()), dtype::f32, path);
      std::vector<std::uint16_t> narrow(back.size());
      for (const auto to : {dtype::f16, dtype::bf16}) {
        int8::dequantize_rows(codes, reinterpret_cast<std::byte*>(narrow.data()), to, path);
        for (std::size_t i = 0; i < back.size(); ++i)
          BOOST_REQUIRE_EQUAL(narrow[i],
                              to == dtype::f16 ? int8::f16_from_float(back[i]) : int8::bf16_from_float(back[i]));
      }
      for (std::uint64_t r = 0; r < m.rows; ++r)
        for (std::uint64_t c = 0; c < m.columns; ++c) {
          const double scale = static_cast<double>(q.scales[r]);
          const auto value = back[r * m.columns + c];
          BOOST_REQUIRE_EQUAL(value, static_cast<float>(q.codes[r * m.columns + c]) * (q.scales[r] / 127.0f));
          BOOST_REQUIRE_MESSAGE(std::fabs(static_cast<double>(value) - static_cast<double>(m.at(r, c))) <=
                                    scale / 254 + scale * 3 * 0x1p-24,
                                "seed " << seed << " row " << r << " column " << c);
        }
    }
}

BOOST_AUTO_TEST_SUITE_END()
