// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "device_memory.hpp"
#include "numbers.hpp"

namespace {

using numbers::bf16;
using numbers::f16;
using numbers::type;

/// Relative steps of a result type.
template <class T>
double step_of() {
  return std::is_same_v<T, float> ? 0x1p-24 : std::is_same_v<T, f16> ? 0x1p-11 : 0x1p-8;
}

/// Columns per thread one after the other, the tree over 128 threads, and the scale: as many f32 roundings.
double roundings(std::uint64_t columns) { return static_cast<double>(columns) / 128 + 16 + 16; }

/// Compares with double precision; the error of each result is bounded by roundings * 2^-24 * sum |w x|.
template <class Input, class Output, class Weight>
void compare(const std::vector<Output>& got, std::uint64_t rows, std::uint64_t columns, std::uint64_t tokens,
             const std::vector<Input>& inputs, const Weight& weight) {
  std::size_t wrong = 0;
  double worst = 0;
  for (std::uint64_t t = 0; t < tokens; ++t)
    for (std::uint64_t r = 0; r < rows; ++r) {
      double want = 0, size = 0;
      for (std::uint64_t c = 0; c < columns; ++c) {
        const double part = weight(r, c) * type<Input>::read(inputs[t * columns + c]);
        want += part;
        size += std::fabs(part);
      }
      const double bound = roundings(columns) * 0x1p-24 * size + step_of<Output>() * std::fabs(want) + 1e-30;
      const double off = std::fabs(type<Output>::read(got[t * rows + r]) - want);
      if (!(off <= bound)) ++wrong;
      worst = std::max(worst, off / bound);
    }
  BOOST_TEST(wrong == 0u, rows << " x " << columns << ", " << tokens << " inputs: " << wrong
                               << " beyond the bound, the worst by a factor of " << worst);
}

template <class Input, class Output>
void check(std::uint64_t rows, std::uint64_t columns, std::uint64_t tokens, numbers::random& r,
           std::size_t offset = 0) {
  const auto inputs = r.numbers<Input>(tokens * columns);
  std::vector<std::int8_t> codes(rows * columns);
  for (auto& c : codes) c = static_cast<std::int8_t>(static_cast<int>(r.bits() % 255) - 127);
  const auto scales = r.numbers<float>(rows, 0.1);
  const auto weights = r.numbers<bf16>(rows * columns, 0.1);
  const device::array<Input> x(inputs);
  const device::array<std::int8_t> q(codes, offset);
  const device::array<float> s(scales);
  const device::array<bf16> w(weights, offset * 2);
  const device::array<Output> y(tokens * rows);
  BOOST_REQUIRE_EQUAL(berth_cuda_product_w8a16(rows, columns, q.typed(), s.typed(), tokens, type<Input>::code, x.at(),
                                               type<Output>::code, y.at(), nullptr),
                      0);
  compare(y.values(), rows, columns, tokens, inputs, [&](std::uint64_t row, std::uint64_t c) {
    return codes[row * columns + c] * (static_cast<double>(scales[row]) / 127);
  });
  BOOST_REQUIRE_EQUAL(berth_cuda_product_bf16(rows, columns, w.at(), tokens, type<Input>::code, x.at(),
                                              type<Output>::code, y.at(), nullptr),
                      0);
  compare(y.values(), rows, columns, tokens, inputs,
          [&](std::uint64_t row, std::uint64_t c) { return type<bf16>::read(weights[row * columns + c]); });
}

}  // namespace

BOOST_AUTO_TEST_SUITE(product)

BOOST_AUTO_TEST_CASE(products_with_every_number_of_inputs_stay_within_the_bound) {
  numbers::random r(31);
  for (const std::uint64_t tokens : {1u, 2u, 3u, 4u, 7u, 8u, 9u, 17u}) check<bf16, bf16>(13, 512, tokens, r);
}

BOOST_AUTO_TEST_CASE(products_of_every_input_and_result_type_stay_within_the_bound) {
  numbers::random r(32);
  check<float, float>(9, 2064, 1, r);
  check<float, f16>(9, 256, 3, r);
  check<f16, f16>(9, 4096, 1, r);
  check<f16, float>(9, 128, 5, r);
  check<bf16, float>(9, 4112, 2, r);
  check<bf16, f16>(1, 16, 1, r);
}

BOOST_AUTO_TEST_CASE(ragged_rows_and_misaligned_weights_give_the_same_quality) {
  numbers::random r(33);
  for (const std::uint64_t columns : {1u, 7u, 4097u}) check<bf16, float>(5, columns, 1, r);
  check<f16, f16>(17, 129, 3, r);
  check<bf16, bf16>(10, 256, 2, r, 1);
}

BOOST_AUTO_TEST_CASE(types_that_no_product_knows_are_refused) {
  const device::array<float> x(16), y(16), s(1);
  const device::array<std::int8_t> q(16);
  BOOST_TEST(berth_cuda_product_w8a16(1, 16, q.typed(), s.typed(), 1, BERTH_CUDA_F64, x.at(), BERTH_CUDA_F32, y.at(),
                                      nullptr) != 0);
  BOOST_TEST(berth_cuda_product_w8a16(1, 16, q.typed(), s.typed(), 1, BERTH_CUDA_F32, x.at(), BERTH_CUDA_I8, y.at(),
                                      nullptr) != 0);
  BOOST_TEST(berth_cuda_product_w8a16(0, 16, q.typed(), s.typed(), 1, BERTH_CUDA_F32, x.at(), BERTH_CUDA_F32, y.at(),
                                      nullptr) == 0);
}

BOOST_AUTO_TEST_SUITE_END()
