// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>

#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

#include "device_memory.hpp"
#include "numbers.hpp"

namespace {

using numbers::bf16;
using numbers::f16;
using numbers::type;

/// Where a matrix lies: strides in elements, and the bytes that its start is off a multiple of 256.
struct layout {
  std::uint64_t row, column;
  std::size_t offset = 0;
};
std::size_t extent(std::uint64_t rows, std::uint64_t columns, const layout& l) {
  return static_cast<std::size_t>((rows - 1) * l.row + (columns - 1) * l.column + 1);
}

template <class From, class To>
To expected(const From& v) {
  if constexpr (std::is_same_v<From, To>)
    return v;
  else if constexpr (std::is_same_v<To, double> && std::is_same_v<From, double>)
    return v;
  else
    return type<To>::write(type<From>::read(v));
}
template <class To>
bool agrees(const To& got, const To& want) {
  if constexpr (std::is_same_v<To, float> || std::is_same_v<To, double>)
    if (std::isnan(want)) return std::isnan(got);  // which NaN is the processor's choice
  return numbers::same_bits(got, want);
}

/// Converts random bits and compares every element, and what lies between the elements of the target.
template <class From, class To>
void check(std::uint64_t rows, std::uint64_t columns, const layout& in, const layout& out, numbers::random& r) {
  std::vector<From> source(extent(rows, columns, in));
  for (auto& v : source) v = r.any<From>();
  const device::array<From> from(source, in.offset);
  const device::array<To> to(extent(rows, columns, out), out.offset);
  auto want = to.values();
  for (std::uint64_t i = 0; i < rows; ++i)
    for (std::uint64_t k = 0; k < columns; ++k)
      want[i * out.row + k * out.column] = expected<From, To>(source[i * in.row + k * in.column]);
  BOOST_REQUIRE_EQUAL(berth_cuda_convert(rows, columns, type<From>::code, from.at(), in.row, in.column, type<To>::code,
                                         to.at(), out.row, out.column, nullptr),
                      0);
  const auto got = to.values();
  std::size_t wrong = 0, first = 0;
  for (std::size_t i = want.size(); i-- > 0;)
    if (!agrees(got[i], want[i])) {
      ++wrong;
      first = i;
    }
  BOOST_TEST(wrong == 0u, rows << " x " << columns << " from type " << type<From>::code << " to " << type<To>::code
                               << ", strides " << in.row << ", " << in.column << " to " << out.row << ", " << out.column
                               << ": " << wrong << " wrong, the first at " << first);
}

template <class From, class To>
void check_layouts(numbers::random& r) {
  check<From, To>(1, 4097, {4097, 1}, {4097, 1}, r);                    // a run with a rest
  check<From, To>(5, 7, {7, 1}, {7, 1}, r);                             // shorter than a run
  check<From, To>(33, 41, {1, 33}, {41, 1}, r);                         // stored by column
  check<From, To>(33, 41, {41, 1}, {1, 33}, r);                         // to be stored by column
  check<From, To>(40, 9, {1, 40}, {1, 40}, r);                          // both by column
  check<From, To>(6, 50, {200, 3}, {60, 1}, r);                         // interleaved, wider target
  check<From, To>(3, 129, {129, 1, sizeof(From)}, {129, 1}, r);         // start not at 16 bytes
  check<From, To>(3, 129, {129, 1}, {129, 1, sizeof(To)}, r);           // nor that of the target
  if (sizeof(From) > 1) check<From, To>(3, 65, {1, 3, 1}, {65, 1}, r);  // source not aligned to its type
  check<From, To>(1, 1, {1, 1}, {1, 1}, r);
}

template <class From, class... To>
void check_targets(numbers::random& r) {
  (check_layouts<From, To>(r), ...);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(convert)

BOOST_AUTO_TEST_CASE(every_pair_of_float_types_rounds_as_ieee_prescribes_in_every_layout) {
  numbers::random r(11);
  check_targets<float, float, f16, bf16, double>(r);
  check_targets<f16, float, f16, bf16, double>(r);
  check_targets<bf16, float, f16, bf16, double>(r);
  check_targets<double, float, f16, bf16, double>(r);
}

BOOST_AUTO_TEST_CASE(integers_become_floats_in_every_layout) {
  numbers::random r(12);
  check_targets<std::int8_t, float, f16, bf16, double>(r);
  check_targets<std::uint8_t, float, f16, bf16, double>(r);
  check_layouts<std::int32_t, double>(r);
  check_layouts<std::int32_t, float>(r);
  check_layouts<std::int32_t, bf16>(r);
}

// All 65536 values of a type, so that no rounding, subnormal or NaN is left out.
BOOST_AUTO_TEST_CASE(all_values_of_sixteen_bits_convert_exactly) {
  std::vector<std::uint16_t> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  const device::array<std::uint16_t> from(all);
  const device::array<float> to(all.size());
  for (const int half : {BERTH_CUDA_F16, BERTH_CUDA_BF16}) {
    BOOST_REQUIRE_EQUAL(
        berth_cuda_convert(1, 65536, half, from.at(), 65536, 1, BERTH_CUDA_F32, to.at(), 65536, 1, nullptr), 0);
    const auto got = to.values();
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const double want = numbers::value_of(all[i], half == BERTH_CUDA_F16 ? numbers::half : numbers::brain);
      if (std::isnan(want) ? !std::isnan(got[i]) : !numbers::same_bits<double>(want, got[i])) ++wrong;
    }
    BOOST_TEST(wrong == 0u);
  }
}

BOOST_AUTO_TEST_CASE(values_next_to_ties_and_limits_round_to_even) {
  std::vector<float> edges;
  for (const double base : {1.0, 0x1p-14, 0x1p-24, 0x1p-25, 65504.0, 65520.0, 0x1p-126, 0x1p-133, 0x1p-134, 3.3895e38})
    for (int step = -40; step <= 40; ++step)
      for (const double ulp : {0x1p-9, 0x1p-11, 0x1p-12, 0x1p-23}) {
        const auto v = static_cast<float>(base * (1 + step * ulp));
        edges.push_back(v);
        edges.push_back(-v);
      }
  const device::array<float> from(edges);
  const auto n = edges.size();
  const device::array<f16> half(n);
  const device::array<bf16> brain(n);
  BOOST_REQUIRE_EQUAL(
      berth_cuda_convert(1, n, BERTH_CUDA_F32, from.at(), n, 1, BERTH_CUDA_F16, half.at(), n, 1, nullptr), 0);
  BOOST_REQUIRE_EQUAL(
      berth_cuda_convert(1, n, BERTH_CUDA_F32, from.at(), n, 1, BERTH_CUDA_BF16, brain.at(), n, 1, nullptr), 0);
  const auto got16 = half.values();
  const auto gotb = brain.values();
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (got16[i].bits != type<f16>::write(edges[i]).bits) ++wrong;
    if (gotb[i].bits != type<bf16>::write(edges[i]).bits) ++wrong;
  }
  BOOST_TEST(wrong == 0u);
}

BOOST_AUTO_TEST_CASE(unknown_pairs_and_misaligned_targets_are_refused_before_anything_is_written) {
  const device::array<float> a(8), b(9);
  const auto before = b.values();
  BOOST_TEST(berth_cuda_convert(1, 8, BERTH_CUDA_F32, a.at(), 8, 1, BERTH_CUDA_I8, b.at(), 8, 1, nullptr) != 0);
  BOOST_TEST(berth_cuda_convert(1, 8, BERTH_CUDA_BITS32, a.at(), 8, 1, BERTH_CUDA_F32, b.at(), 8, 1, nullptr) != 0);
  BOOST_TEST(berth_cuda_convert(1, 8, 99, a.at(), 8, 1, 99, b.at(), 8, 1, nullptr) != 0);
  auto* odd = static_cast<std::byte*>(b.at()) + 1;
  BOOST_TEST(berth_cuda_convert(1, 8, BERTH_CUDA_F32, a.at(), 8, 1, BERTH_CUDA_F32, odd, 8, 1, nullptr) != 0);
  BOOST_TEST(berth_cuda_convert(0, 8, BERTH_CUDA_F32, a.at(), 8, 1, BERTH_CUDA_F32, b.at(), 8, 1, nullptr) == 0);
  const auto after = b.values();
  for (std::size_t i = 0; i < after.size(); ++i) BOOST_TEST(numbers::same_bits(before[i], after[i]));
}

BOOST_AUTO_TEST_CASE(copies_and_fills_reach_every_byte_and_no_other) {
  numbers::random r(13);
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, std::size_t{15}, std::size_t{16}, std::size_t{4097}, std::size_t{40000}})
    for (const std::size_t offset : {std::size_t{0}, std::size_t{1}}) {
      std::vector<std::uint8_t> bytes(size + 1);
      for (auto& b : bytes) b = r.any<std::uint8_t>();
      const device::array<std::uint8_t> from(bytes, offset), to(size + 1);
      BOOST_REQUIRE_EQUAL(berth_cuda_copy(from.at(), to.at(), size, nullptr), 0);
      auto got = to.values();
      BOOST_TEST(std::memcmp(got.data(), bytes.data(), size) == 0);
      BOOST_TEST(got[size] == 0xaa);
      BOOST_REQUIRE_EQUAL(berth_cuda_fill(to.at(), 0x04030201u, size, nullptr), 0);
      got = to.values();
      std::size_t wrong = got[size] == 0xaa ? 0 : 1;
      for (std::size_t i = 0; i < size; ++i)
        if (got[i] != i % 4 + 1) ++wrong;
      BOOST_TEST(wrong == 0u);
    }
  BOOST_TEST(berth_cuda_idle(nullptr) == 0);
}

BOOST_AUTO_TEST_SUITE_END()
