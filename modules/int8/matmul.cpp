// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

module berth.int8;

import :lanes;

namespace berth::int8 {
namespace {

/// 127 x 127 x 2^17 < 2^31.
constexpr std::uint64_t max_columns = std::uint64_t{1} << 17;
constexpr std::int32_t infinity_bits = 0x7f800000;

/// Bits from which on a magnitude is an outlier. Magnitudes compare as their bits do, and NaNs are above all.
std::int32_t outlier_bits(float threshold) {
  return threshold > 0 ? std::bit_cast<std::int32_t>(threshold) : std::numeric_limits<std::int32_t>::max();
}

std::int32_t magnitude_of(float v) { return std::bit_cast<std::int32_t>(v) & 0x7fffffff; }

/// Largest magnitude of a row below `limit`, as bits; tells whether there are outliers at all.
struct scan_kernel {
  template <instruction_path P>
  [[gnu::always_inline]] static void run(const float* row, std::uint64_t columns, std::int32_t limit,
                                         std::int32_t* largest_below, bool* any_outlier) {
    i32x16 largest{}, outliers{};
    for (std::uint64_t c = 0; c < columns; c += lanes) {
      f32x16 v;
      i32x16 magnitude;
      load_at_most<dtype::f32, P>(v, reinterpret_cast<const std::byte*>(row + c), columns - c);
      magnitude_bits(magnitude, v);
      const i32x16 is_outlier = magnitude >= limit;
      outliers |= is_outlier;
      keep_larger(largest, magnitude & ~is_outlier);
    }
    std::int32_t best = 0;
    bool any = false;
    for (std::size_t i = 0; i < lanes; ++i) {
      best = std::max(best, largest[i]);
      any = any || outliers[i] != 0;
    }
    *largest_below = best;
    *any_outlier = any;
  }
};

struct encode_kernel {
  template <instruction_path P>
  [[gnu::always_inline]] static void run(const float* row, std::uint64_t columns, std::int32_t limit, float factor,
                                         std::int8_t* codes) {
    const f32x16 factors = factor - f32x16{};
    for (std::uint64_t c = 0; c < columns; c += lanes) {
      f32x16 v;
      i32x16 magnitude, rounded;
      load_at_most<dtype::f32, P>(v, reinterpret_cast<const std::byte*>(row + c), columns - c);
      magnitude_bits(magnitude, v);
      const i32x16 kept = magnitude < limit;
      i32x16 bits;
      __builtin_memcpy(&bits, &v, 64);
      bits &= kept;
      __builtin_memcpy(&v, &bits, 64);
      round_products(rounded, v, factors);
      std::int8_t last[lanes];
      store_codes(last, rounded);
      __builtin_memcpy(codes + c, last, std::min<std::uint64_t>(lanes, columns - c));
    }
  }
};

/// Sums of one row of weight codes with `Tokens` rows of activation codes.
template <std::size_t Tokens>
[[gnu::always_inline]] inline void dot_codes(const std::int8_t* w, const std::int8_t* a, std::uint64_t columns,
                                             std::int32_t* out) {
  i32x16 sums[Tokens] = {};
  std::uint64_t c = 0;
  for (; c + lanes <= columns; c += lanes) {
    i8x16 y;
    __builtin_memcpy(&y, w + c, 16);
    const i16x16 weights = __builtin_convertvector(y, i16x16);
    for (std::size_t t = 0; t < Tokens; ++t) {
      i8x16 x;
      __builtin_memcpy(&x, a + t * columns + c, 16);
      // Products of codes fit 16 bits.
      const i16x16 products = weights * __builtin_convertvector(x, i16x16);
      sums[t] += __builtin_convertvector(products, i32x16);
    }
  }
  for (std::size_t t = 0; t < Tokens; ++t) {
    out[t] = 0;
    for (std::size_t i = 0; i < lanes; ++i) out[t] += sums[t][i];
    for (std::uint64_t i = c; i < columns; ++i) out[t] += w[i] * a[t * columns + i];
  }
}

struct dot_codes_kernel {
  template <instruction_path P>
  [[gnu::always_inline]] static void run(const std::int8_t* w, const std::int8_t* a, std::uint64_t tokens,
                                         std::uint64_t columns, std::int32_t* out) {
    std::uint64_t t = 0;
    for (; t + 4 <= tokens; t += 4) dot_codes<4>(w, a + t * columns, columns, out + t);
    for (; t < tokens; ++t) dot_codes<1>(w, a + t * columns, columns, out + t);
  }
};

/// Marks the columns of outliers in `flags` (one per column).
void mark_outliers(const float* row, std::uint64_t columns, std::int32_t limit, std::span<std::uint32_t> flags) {
  for (std::uint64_t c = 0; c < columns; ++c)
    if (magnitude_of(row[c]) >= limit) flags[c] = 1;
}

/// Turns flags into the ascending list of those that are set, in place.
std::size_t list_of(std::span<std::uint32_t> flags) {
  std::size_t n = 0;
  for (std::size_t c = 0; c < flags.size(); ++c)
    if (flags[c] != 0) flags[n++] = static_cast<std::uint32_t>(c);
  return n;
}

void encode_row(const float* row, std::uint64_t columns, std::int32_t limit, std::int32_t largest, float& scale,
                std::int8_t* codes, instruction_path path) {
  if (largest >= infinity_bits) {  // only without a threshold
    scale = std::numeric_limits<float>::quiet_NaN();
    std::fill_n(codes, columns, std::int8_t{0});
    return;
  }
  scale = std::bit_cast<float>(largest);
  float factor = largest == 0 ? 0 : 127.0f / scale;
  if (magnitude_of(factor) >= infinity_bits) scale = factor = 0;
  on_path<encode_kernel>(path, row, columns, limit, factor, codes);
}

}  // namespace

result<done> split(const float* a, std::uint64_t rows, std::uint64_t columns, float threshold, split_activations& out,
                   instruction_path path) {
  const auto codes = checked_mul(rows, columns);
  if (columns > std::numeric_limits<std::uint32_t>::max() || !codes || out.codes.size() < *codes ||
      out.scales.size() < rows || out.outlier_columns.size() < columns)
    return fail(errc::capacity, "int8 activations",
                "the room for codes, scales or outlier columns is too small: rows x columns, rows and columns of them",
                columns, out.outlier_columns.size());
  const auto limit = outlier_bits(threshold);
  const auto flags = out.outlier_columns.first(static_cast<std::size_t>(columns));
  std::ranges::fill(flags, 0u);
  for (std::uint64_t r = 0; r < rows; ++r) {
    const auto* row = a + r * columns;
    std::int32_t largest = 0;
    bool any = false;
    on_path<scan_kernel>(path, row, columns, limit, &largest, &any);
    if (any) mark_outliers(row, columns, limit, flags);
    encode_row(row, columns, limit, largest, out.scales[r], out.codes.data() + r * columns, path);
  }
  out.outlier_columns = flags.first(list_of(flags));
  for (std::uint64_t r = 0; r < rows; ++r)
    for (const auto c : out.outlier_columns) out.codes[r * columns + c] = 0;
  return done{};
}

void multiply_codes(const std::int8_t* w, const std::int8_t* a, std::uint64_t tokens, std::uint64_t columns,
                    std::int32_t* out, instruction_path path) {
  on_path<dot_codes_kernel>(path, w, a, tokens, columns, out);
}

result<done> matmul(const float* a, std::uint64_t tokens, const code_matrix& w, float threshold, const float* bias,
                    float* y, matmul_scratch scratch, instruction_path path) {
#pragma clang fp contract(off)
  if (w.columns > max_columns)
    return fail(errc::capacity, "int8 product", "more columns than 32-bit sums can hold", w.columns, max_columns);
  if (scratch.sums.size() < tokens)
    return fail(errc::capacity, "int8 product", "the room for sums is too small: one per token", tokens,
                scratch.sums.size());
  auto& parts = scratch.activations;
  if (const auto r = split(a, tokens, w.columns, threshold, parts, path); !r) return r.propagate();
  for (std::uint64_t r = 0; r < w.rows; ++r) {
    const auto* codes = w.codes + r * w.columns;
    const float w_step = step_of(w.scales[r]);
    multiply_codes(codes, parts.codes.data(), tokens, w.columns, scratch.sums.data(), path);
    for (std::uint64_t t = 0; t < tokens; ++t) {
      const float whole = static_cast<float>(scratch.sums[t]) * step_of(parts.scales[t]) * w_step;
      float outliers = 0;
      for (const auto c : parts.outlier_columns)
        outliers += a[t * w.columns + c] * (static_cast<float>(codes[c]) * w_step);
      const float sum = whole + outliers;
      y[t * w.rows + r] = bias == nullptr ? sum : sum + bias[r];
    }
  }
  return done{};
}

}  // namespace berth::int8
