// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cfloat>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "device_memory.hpp"
#include "numbers.hpp"

namespace {

using numbers::bf16;
using numbers::f16;
using numbers::type;

struct quantized {
  std::vector<std::int8_t> codes;
  std::vector<float> scales;
  std::uint32_t bad_row = 0xffffffffu;
};

/// The rule, one row after the other.
template <class T>
quantized by_rule(const std::vector<T>& w, std::uint64_t rows, std::uint64_t columns, std::uint64_t row_stride,
                  std::uint64_t column_stride) {
  quantized out;
  for (std::uint64_t r = 0; r < rows; ++r) {
    const auto at = [&](std::uint64_t c) {
      return static_cast<float>(type<T>::read(w[r * row_stride + c * column_stride]));
    };
    float scale = 0;
    bool good = true;
    for (std::uint64_t c = 0; c < columns; ++c) {
      good = good && std::isfinite(at(c));
      scale = std::max(scale, std::fabs(at(c)));
    }
    const volatile float inverse = 127.0f / scale;
    good = good && (scale == 0 || (scale >= FLT_MIN && std::isfinite(inverse)));
    if (!good && out.bad_row == 0xffffffffu) out.bad_row = static_cast<std::uint32_t>(r);
    out.scales.push_back(good ? scale : 0);
    for (std::uint64_t c = 0; c < columns; ++c) {
      const volatile float product = good && scale > 0 ? at(c) * inverse : 0.0f;
      out.codes.push_back(static_cast<std::int8_t>(std::nearbyint(product)));
    }
  }
  return out;
}

template <class T>
void check(const std::vector<T>& w, std::uint64_t rows, std::uint64_t columns, std::uint64_t row_stride,
           std::uint64_t column_stride, std::size_t offset = 0, std::size_t code_offset = 0) {
  const device::array<T> from(w, offset);
  const device::array<std::int8_t> codes(rows * columns, code_offset);
  const device::array<float> scales(rows);
  const device::host_word bad(0xffffffffu);
  const int status = berth_cuda_quantize(rows, columns, type<T>::code, from.at(), row_stride, column_stride,
                                         codes.typed(), scales.typed(), bad.at(), nullptr);
  BOOST_REQUIRE_EQUAL(status, 0);
  const auto want = by_rule(w, rows, columns, row_stride, column_stride);
  const auto got = codes.values();
  const auto got_scales = scales.values();
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < got.size(); ++i) wrong += got[i] == want.codes[i] ? 0 : 1;
  for (std::size_t i = 0; i < rows; ++i) wrong += numbers::same_bits(got_scales[i], want.scales[i]) ? 0 : 1;
  BOOST_TEST(wrong == 0u, rows << " x " << columns << " of type " << type<T>::code << ", strides " << row_stride << ", "
                               << column_stride << ", offset " << offset << ": " << wrong << " wrong");
  BOOST_TEST(bad.value() == want.bad_row);
}

template <class T>
void check_sizes(numbers::random& r) {
  // Every way through the kernel: one to eight vectors per thread, rows too long for the chip, heads and tails.
  for (const std::uint64_t columns : {1u, 7u, 8u, 31u, 64u, 1000u, 4097u, 9000u, 20000u, 70001u}) {
    const std::uint64_t rows = columns < 5000 ? 3 : 1;
    check(r.numbers<T>(rows * columns, 3), rows, columns, columns, 1);
  }
  check(r.numbers<T>(5 * 40, 1e-3), 5, 33, 40, 1);                // rows apart
  check(r.numbers<T>(3 * 129, 7), 3, 129, 129, 1, sizeof(T), 1);  // neither end at 16 bytes
  check(r.numbers<T>(3 * 128, 7), 3, 128, 128, 1, 8, 4);          // where safetensors begin
  check(r.numbers<T>(3 * 128, 7), 3, 128, 128, 1, 1);             // not aligned to the type
  check(r.numbers<T>(70 * 45), 70, 45, 1, 70);                    // stored by column
  check(r.numbers<T>(4 * 300), 4, 100, 300, 3, sizeof(T));        // interleaved
}

}  // namespace

BOOST_AUTO_TEST_SUITE(quantize)

BOOST_AUTO_TEST_CASE(codes_and_scales_are_those_of_the_scalar_rule_bit_for_bit) {
  numbers::random r(21);
  check_sizes<float>(r);
  check_sizes<f16>(r);
  check_sizes<bf16>(r);
}

BOOST_AUTO_TEST_CASE(ties_go_to_even_and_rows_of_zeros_have_scale_zero) {
  check<float>({127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 63.5f}, 1, 8, 8, 1);
  check<float>({0.0f, -0.0f, 0.0f, 1.0f, -1.0f, 0.5f}, 2, 3, 3, 1);
}

// Every finite bf16 and f16 value beside a maximum of its own size: all exponents occur as scales.
BOOST_AUTO_TEST_CASE(every_scale_that_a_type_can_have_is_treated_by_the_rule) {
  std::vector<bf16> brain;
  std::vector<f16> half;
  for (std::uint32_t bits = 0; bits < 0x8000u; bits += 17)
    for (const std::uint32_t part : {bits, bits / 2, bits | 0x8000u, bits ^ 1u}) {
      brain.push_back({static_cast<std::uint16_t>(part)});
      half.push_back({static_cast<std::uint16_t>(part)});
    }
  check(brain, brain.size() / 4, 4, 4, 1);
  check(half, half.size() / 4, 4, 4, 1);
}

BOOST_AUTO_TEST_CASE(the_least_bad_row_is_told_whichever_block_finds_it) {
  numbers::random r(22);
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const float bad : {infinity, -infinity, nan, -nan, 0x1p-140f, 0x1p-126f, 3.7e-37f})
    for (const std::uint64_t stride : {1u, 64u}) {
      // All of a row is small where the badness is smallness.
      auto w = r.numbers<float>(64 * 64);
      for (const std::size_t row : {41u, 9u, 63u})
        for (std::size_t c = 0; c < 64; ++c)
          if (std::fabs(bad) < 1 || c == 17) w[stride == 1 ? row * 64 + c : c * 64 + row] = bad;
      check(w, 64, 64, stride == 1 ? 64 : 1, stride == 1 ? 1 : 64);
    }
  check<float>({4e-37f, -4e-37f, 1e-37f, FLT_MAX, -FLT_MAX, 1.0f}, 2, 3, 3, 1);  // good, if barely
}

BOOST_AUTO_TEST_CASE(matrices_without_rows_or_columns_are_no_work) {
  const device::array<float> from(1), scales(std::vector<float>{5, 5});
  const device::array<std::int8_t> codes(1);
  const device::host_word bad(0xffffffffu);
  BOOST_TEST(berth_cuda_quantize(0, 4, BERTH_CUDA_F32, from.at(), 4, 1, codes.typed(), scales.typed(), bad.at(),
                                 nullptr) == 0);
  BOOST_TEST(scales.values()[0] == 5);
  BOOST_TEST(berth_cuda_quantize(2, 0, BERTH_CUDA_F32, from.at(), 0, 1, codes.typed(), scales.typed(), bad.at(),
                                 nullptr) == 0);
  BOOST_TEST(scales.values()[1] == 0);
  BOOST_TEST(berth_cuda_quantize(1, 1, BERTH_CUDA_F64, from.at(), 1, 1, codes.typed(), scales.typed(), bad.at(),
                                 nullptr) != 0);
}

BOOST_AUTO_TEST_CASE(dequantized_codes_are_one_product_with_a_127th_of_the_scale) {
  numbers::random r(23);
  const auto check_to = [&]<class To>(To, std::uint64_t rows, std::uint64_t columns, std::size_t offset) {
    std::vector<std::int8_t> codes(rows * columns);
    for (auto& c : codes) c = r.any<std::int8_t>();
    auto scales = r.numbers<float>(rows, 10);
    const device::array<std::int8_t> in(codes, offset);
    const device::array<float> s(scales);
    const device::array<To> out(codes.size());
    BOOST_REQUIRE_EQUAL(berth_cuda_dequantize(rows, columns, in.typed(), s.typed(), type<To>::code, out.at(), nullptr),
                        0);
    const auto got = out.values();
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < codes.size(); ++i) {
      const volatile float unit = scales[i / columns] / 127.0f;
      const volatile float v = static_cast<float>(codes[i]) * unit;
      wrong += numbers::same_bits(got[i], type<To>::write(v)) ? 0 : 1;
    }
    BOOST_TEST(wrong == 0u);
  };
  for (const std::uint64_t columns : {1u, 7u, 64u, 4097u})
    for (const std::size_t offset : {0u, 1u}) {
      check_to(float{}, 3, columns, offset);
      check_to(f16{}, 3, columns, offset);
      check_to(bf16{}, 3, columns, offset);
    }
}

BOOST_AUTO_TEST_SUITE_END()
