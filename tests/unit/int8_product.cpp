// SPDX-License-Identifier: Apache-2.0
// Products with int8 weights: with float activations against double, with int8 activations against the rule as it is
// written.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <random>
#include <set>
#include <vector>

import berth.int8;

namespace {

namespace int8 = berth::int8;

std::uint32_t new_seed() {
  const auto seed = std::random_device{}();
  BOOST_TEST_MESSAGE("seed " << seed);
  return seed;
}

struct weights {
  std::uint64_t rows, columns;
  std::vector<std::int8_t> codes;
  std::vector<float> scales;

  weights(std::uint64_t r, std::uint64_t c, std::mt19937& random) : rows(r), columns(c), codes(r * c), scales(r) {
    for (auto& code : codes) code = static_cast<std::int8_t>(static_cast<int>(random() % 255) - 127);
    for (auto& s : scales) s = random() % 10 == 0 ? 0 : static_cast<float>(random() % 1000) / 250.0f;
  }
  int8::code_matrix view() const { return {codes.data(), scales.data(), rows, columns}; }
  double at(std::uint64_t r, std::uint64_t c) const {
    return codes[r * columns + c] * static_cast<double>(scales[r]) / 127;
  }
};

std::vector<float> activations(std::uint64_t n, std::mt19937& random, bool outliers) {
  std::normal_distribution<float> normal;
  std::vector<float> out(n);
  for (auto& v : out) {
    v = normal(random);
    if (outliers && random() % 60 == 0) v *= 15;
    v = int8::float_from_f16(int8::f16_from_float(v));
  }
  return out;
}

/// What `matmul` needs, owned.
struct scratch {
  std::vector<std::int8_t> codes;
  std::vector<float> scales;
  std::vector<std::uint32_t> outliers;
  std::vector<std::int32_t> sums;
  scratch(std::uint64_t tokens, const weights& w)
      : codes(tokens * w.columns), scales(tokens), outliers(w.columns), sums(tokens) {}
  int8::matmul_scratch view() { return {{codes, scales, outliers}, sums}; }
};

/// The rule of LLM.int8 as it is written: codes in f32, everything else in double.
std::vector<double> naive(const std::vector<float>& a, std::uint64_t tokens, const weights& w, float threshold) {
  const auto at = [&](std::uint64_t t, std::uint64_t c) { return static_cast<double>(a[t * w.columns + c]); };
  const auto is_outlier = [&](double v) { return threshold > 0 && !(std::fabs(v) < static_cast<double>(threshold)); };
  std::set<std::uint64_t> columns;
  for (std::uint64_t t = 0; t < tokens; ++t)
    for (std::uint64_t c = 0; c < w.columns; ++c)
      if (is_outlier(at(t, c))) columns.insert(c);
  std::vector<double> out;
  for (std::uint64_t t = 0; t < tokens; ++t) {
    double scale = 0;
    for (std::uint64_t c = 0; c < w.columns; ++c)
      if (!is_outlier(at(t, c))) scale = std::max(scale, std::fabs(at(t, c)));
    for (std::uint64_t r = 0; r < w.rows; ++r) {
      double whole = 0, rest = 0;
      for (std::uint64_t c = 0; c < w.columns; ++c) {
        if (columns.contains(c))
          rest += at(t, c) * w.at(r, c);
        else if (scale > 0)
          whole += static_cast<double>(std::nearbyint(a[t * w.columns + c] * (127 / static_cast<float>(scale)))) *
                   w.codes[r * w.columns + c];
      }
      out.push_back(whole * scale / 127 * static_cast<double>(w.scales[r]) / 127 + rest);
    }
  }
  return out;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(product)

BOOST_AUTO_TEST_CASE(weight_only_products_are_those_of_double_within_f32_sums_and_alike_on_every_path) {
  const auto seed = new_seed();
  std::mt19937 random(seed);
  for (const std::uint64_t columns : std::initializer_list<std::uint64_t>{0, 1, 15, 16, 31, 32, 33, 63, 500, 1024})
    for (const std::uint64_t tokens : std::initializer_list<std::uint64_t>{0, 1, 2, 4, 5, 9}) {
      const weights w(7, columns, random);
      const auto x = activations(tokens * columns, random, false);
      std::vector<float> bias(w.rows);
      for (auto& b : bias) b = static_cast<float>(random() % 100) / 10;
      std::vector<float> first;
      for (const auto path : int8::all_paths) {
        if (!int8::is_available(path)) continue;
        std::vector<float> y(tokens * w.rows + 1, 42.0f);
        int8::multiply_weights(w.view(), x.data(), tokens, bias.data(), y.data(), path);
        BOOST_REQUIRE_EQUAL(y.back(), 42.0f);
        if (first.empty()) first = y;
        BOOST_REQUIRE_MESSAGE(std::memcmp(first.data(), y.data(), y.size() * sizeof(float)) == 0,
                              "seed " << seed << ", " << columns << " columns on " << int8::name_of(path));
      }
      for (std::uint64_t t = 0; t < tokens; ++t)
        for (std::uint64_t r = 0; r < w.rows; ++r) {
          double exact = static_cast<double>(bias[r]), size = std::fabs(exact);
          for (std::uint64_t c = 0; c < columns; ++c) {
            const double term = w.at(r, c) * static_cast<double>(x[t * columns + c]);
            exact += term;
            size += std::fabs(term);
          }
          // 32 partial sums of columns / 32 terms each, five more additions, four roundings.
          const double tolerance = (static_cast<double>(columns) / 32 + 10) * 0x1p-24 * size;
          BOOST_REQUIRE_MESSAGE(std::fabs(static_cast<double>(first[t * w.rows + r]) - exact) <= tolerance,
                                "seed " << seed << ", " << columns << " columns, token " << t << ", row " << r);
        }
    }
}

BOOST_AUTO_TEST_CASE(a_token_has_the_same_product_alone_and_among_others) {
  const auto seed = new_seed();
  std::mt19937 random(seed);
  const weights w(13, 777, random);
  const auto x = activations(6 * w.columns, random, false);
  std::vector<float> all(6 * w.rows), one(w.rows);
  int8::multiply_weights(w.view(), x.data(), 6, nullptr, all.data());
  for (std::uint64_t t = 0; t < 6; ++t) {
    int8::multiply_weights(w.view(), x.data() + t * w.columns, 1, nullptr, one.data());
    BOOST_TEST(std::memcmp(one.data(), all.data() + t * w.rows, w.rows * sizeof(float)) == 0);
  }
}

BOOST_AUTO_TEST_CASE(int8_products_follow_the_rule_and_are_alike_on_every_path) {
  const auto seed = new_seed();
  std::mt19937 random(seed);
  for (const float threshold : {6.0f, 0.0f, 2.5f})
    for (const std::uint64_t columns : std::initializer_list<std::uint64_t>{0, 1, 15, 17, 64, 500})
      for (const std::uint64_t tokens : std::initializer_list<std::uint64_t>{1, 2, 7}) {
        const weights w(9, columns, random);
        const auto a = activations(tokens * columns, random, true);
        const auto exact = naive(a, tokens, w, threshold);
        std::vector<float> first;
        for (const auto path : int8::all_paths) {
          if (!int8::is_available(path)) continue;
          scratch room(tokens, w);
          std::vector<float> y(tokens * w.rows);
          BOOST_REQUIRE(int8::matmul(a.data(), tokens, w.view(), threshold, nullptr, y.data(), room.view(), path));
          if (first.empty()) first = y;
          BOOST_REQUIRE(std::memcmp(first.data(), y.data(), y.size() * sizeof(float)) == 0);
        }
        double largest = 0;
        for (const auto v : exact) largest = std::max(largest, std::fabs(v));
        for (std::size_t i = 0; i < exact.size(); ++i)
          BOOST_REQUIRE_MESSAGE(std::fabs(static_cast<double>(first[i]) - exact[i]) <= 1e-5 * largest + 1e-30,
                                "seed " << seed << ", " << columns << " columns, " << tokens << " tokens, threshold "
                                        << threshold << ": " << first[i] << " for " << exact[i]);
      }
}

BOOST_AUTO_TEST_CASE(nan_and_infinity_come_through) {
  const auto seed = new_seed();
  std::mt19937 random(seed);
  weights w(4, 40, random);
  std::ranges::fill(w.scales, 1.0f);
  for (const float special : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const float threshold : {0.0f, 6.0f}) {
      auto a = activations(2 * w.columns, random, false);
      a[w.columns + 3] = special;
      scratch room(2, w);
      std::vector<float> y(2 * w.rows);
      BOOST_REQUIRE(int8::matmul(a.data(), 2, w.view(), threshold, nullptr, y.data(), room.view()));
      for (std::uint64_t r = 0; r < w.rows; ++r) {
        BOOST_TEST(std::isfinite(y[r]));
        BOOST_TEST(!std::isfinite(y[w.rows + r]));
      }
    }
}

BOOST_AUTO_TEST_CASE(the_largest_integer_sums_do_not_overflow) {
  const std::uint64_t columns = 131072;
  std::mt19937 random(1);
  weights w(1, columns, random);
  std::ranges::fill(w.codes, std::int8_t{-127});
  const std::vector<std::int8_t> a(columns, 127);
  std::int32_t sum = 0;
  for (const auto path : int8::all_paths) {
    if (!int8::is_available(path)) continue;
    int8::multiply_codes(w.codes.data(), a.data(), 1, columns, &sum, path);
    BOOST_TEST(sum == -127 * 127 * 131072);
  }
  const weights wide(1, columns + 1, random);
  scratch room(1, wide);
  const std::vector<float> x(wide.columns, 1.0f);
  float y = 0;
  const auto refused = int8::matmul(x.data(), 1, wide.view(), 6.0f, nullptr, &y, room.view());
  BOOST_REQUIRE(!refused);
  BOOST_TEST((refused.error().code == berth::errc::capacity));
}

BOOST_AUTO_TEST_CASE(too_little_room_is_refused) {
  std::mt19937 random(2);
  const weights w(3, 20, random);
  const auto a = activations(2 * w.columns, random, false);
  std::vector<float> y(2 * w.rows);
  for (int less = 0; less < 4; ++less) {
    scratch room(2, w);
    if (less == 0) room.codes.pop_back();
    if (less == 1) room.scales.pop_back();
    if (less == 2) room.outliers.pop_back();
    if (less == 3) room.sums.pop_back();
    const auto r = int8::matmul(a.data(), 2, w.view(), 6.0f, nullptr, y.data(), room.view());
    BOOST_REQUIRE(!r);
    BOOST_TEST((r.error().code == berth::errc::capacity));
  }
}

BOOST_AUTO_TEST_SUITE_END()
