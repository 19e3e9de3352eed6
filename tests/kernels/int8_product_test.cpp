// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "device_memory.hpp"
#include "int8_rule.hpp"
#include "numbers.hpp"

namespace {

using numbers::bf16;
using numbers::f16;
using numbers::type;

/// Multiplies and compares with the rule.
template <class Input>
void compare(const int8_rule::weights& w, const std::vector<Input>& inputs, float threshold) {
  const auto rows = w.rows, columns = w.columns, tokens = inputs.size() / w.columns;
  std::vector<double> plain;
  for (const auto& v : inputs) plain.push_back(type<Input>::read(v));
  const auto want = int8_rule::product(w, plain, threshold);

  const device::array<Input> x(inputs);
  const device::array<std::int8_t> q(w.codes);
  const device::array<float> s(w.scales), y(tokens * rows);
  const device::array<std::byte> work(berth_cuda_product_int8_workspace(tokens, columns));
  BOOST_REQUIRE_EQUAL(berth_cuda_product_int8(rows, columns, q.typed(), s.typed(), tokens, threshold, type<Input>::code,
                                              x.at(), BERTH_CUDA_F32, y.at(), work.at(), nullptr),
                      0);
  const auto got = y.values();
  std::size_t wrong = 0;
  for (std::uint64_t t = 0; t < tokens; ++t) {
    double most = 0;
    for (std::uint64_t k = 0; k < rows; ++k) most = std::max(most, std::fabs(want[t * rows + k]));
    for (std::uint64_t k = 0; k < rows; ++k)
      if (!(std::fabs(got[t * rows + k] - want[t * rows + k]) <= 1e-5 * most)) ++wrong;
  }
  BOOST_TEST(wrong == 0u, rows << " x " << columns << ", " << tokens << " inputs, threshold " << threshold << ": "
                               << wrong << " wrong");
}

template <class Input>
void check(std::uint64_t rows, std::uint64_t columns, std::uint64_t tokens, float threshold, double outliers,
           numbers::random& r) {
  std::vector<Input> inputs(tokens * columns);
  for (auto& v : inputs) v = type<Input>::write(r.number() * (std::fabs(r.number()) < outliers ? 40 : 4));
  int8_rule::weights w{rows, columns, std::vector<std::int8_t>(rows * columns), r.numbers<float>(rows, 0.3)};
  for (auto& c : w.codes) c = static_cast<std::int8_t>(static_cast<int>(r.bits() % 255) - 127);
  compare(w, inputs, threshold);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(int8_product)

BOOST_AUTO_TEST_CASE(products_with_and_without_outliers_are_those_of_the_rule) {
  numbers::random r(41);
  check<f16>(70, 256, 3, 6.0f, 0.01, r);
  check<f16>(70, 256, 3, 0.0f, 0.01, r);
  check<bf16>(64, 1024, 1, 6.0f, 0.002, r);
  check<bf16>(65, 192, 70, 6.0f, 0.0005, r);
  check<float>(5, 300, 17, 6.0f, 0.3, r);  // nearly every column
  check<f16>(5, 64, 2, 6.0f, 0.0, r);      // none
}

BOOST_AUTO_TEST_CASE(ragged_columns_count_in_full) {
  numbers::random r(42);
  for (const std::uint64_t columns : {1u, 7u, 66u, 4097u}) check<f16>(9, columns, 2, 6.0f, 0.01, r);
}

BOOST_AUTO_TEST_CASE(an_entry_equal_to_the_threshold_is_an_outlier_and_its_column_with_it) {
  const int8_rule::weights w{2, 4, {64, 127, -3, 9, 95, -127, 50, 1}, {2.0f, 4.0f}};
  compare<float>(w, {6.0f, 0.37f, -1.21f, 0.5f, 5.9f, 0.11f, 2.3f, -0.7f}, 6.0f);
  compare<float>(w, {-6.0f, 0.37f, -1.21f, 0.5f}, 6.0f);
}

BOOST_AUTO_TEST_CASE(a_nan_in_the_input_reaches_every_result_of_its_row_and_no_other) {
  for (const float threshold : {6.0f, 0.0f}) {
    std::vector<float> inputs(2 * 32, 1.0f);
    inputs[32 + 5] = std::numeric_limits<float>::quiet_NaN();
    const device::array<float> x(inputs), s(std::vector<float>(3, 1.0f)), y(2 * 3);
    const device::array<std::int8_t> q(std::vector<std::int8_t>(3 * 32, 1));
    const device::array<std::byte> work(berth_cuda_product_int8_workspace(2, 32));
    BOOST_REQUIRE_EQUAL(berth_cuda_product_int8(3, 32, q.typed(), s.typed(), 2, threshold, BERTH_CUDA_F32, x.at(),
                                                BERTH_CUDA_F32, y.at(), work.at(), nullptr),
                        0);
    const auto got = y.values();
    for (std::size_t k = 0; k < 3; ++k) {
      BOOST_TEST(std::isfinite(got[k]));
      BOOST_TEST(std::isnan(got[3 + k]));
    }
  }
}

BOOST_AUTO_TEST_CASE(more_columns_than_the_integers_hold_are_refused) {
  const device::array<float> a(4);
  const device::array<std::int8_t> q(4);
  BOOST_TEST(berth_cuda_product_int8(1, 133145, q.typed(), a.typed(), 1, 6.0f, BERTH_CUDA_F32, a.at(), BERTH_CUDA_F32,
                                     a.at(), a.at(), nullptr) != 0);
}

BOOST_AUTO_TEST_SUITE_END()
