// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>

module berth.int8;

import :lanes;

namespace berth::int8 {
namespace {

/// Sums of one row of codes with `Tokens` rows of activations, `stride` floats apart.
template <std::size_t Tokens>
[[gnu::always_inline]] inline void dot(const std::int8_t* codes, const float* x, std::uint64_t stride,
                                       std::uint64_t columns, float* out) {
#pragma clang fp contract(off)
  f32x16 even[Tokens] = {}, odd[Tokens] = {};
  std::uint64_t c = 0;
  for (; c + 2 * lanes <= columns; c += 2 * lanes) {
    f32x16 first, second;
    load_codes(first, codes + c);
    load_codes(second, codes + c + lanes);
    for (std::size_t t = 0; t < Tokens; ++t) {
      f32x16 a, b;
      __builtin_memcpy(&a, x + t * stride + c, 64);
      __builtin_memcpy(&b, x + t * stride + c + lanes, 64);
      even[t] += first * a;
      odd[t] += second * b;
    }
  }
  for (; c < columns; c += lanes) {
    const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(columns - c, lanes));
    f32x16 weights;
    load_codes(weights, codes + c, n);
    for (std::size_t t = 0; t < Tokens; ++t) {
      f32x16 a{};
      __builtin_memcpy(&a, x + t * stride + c, n * sizeof(float));
      even[t] += weights * a;
    }
  }
  for (std::size_t t = 0; t < Tokens; ++t) {
    even[t] += odd[t];
    out[t] = sum_of(even[t]);
  }
}

template <std::size_t Tokens>
[[gnu::always_inline]] inline void multiply(const code_matrix& w, const float* x, const float* bias, float* y) {
#pragma clang fp contract(off)
  for (std::uint64_t r = 0; r < w.rows; ++r) {
    float sums[Tokens];
    dot<Tokens>(w.codes + r * w.columns, x, w.columns, w.columns, sums);
    for (std::size_t t = 0; t < Tokens; ++t) {
      const float product = sums[t] * step_of(w.scales[r]);
      y[t * w.rows + r] = bias == nullptr ? product : product + bias[r];
    }
  }
}

struct multiply_kernel {
  template <instruction_path P>
  [[gnu::always_inline]] static void run(const code_matrix& w, const float* x, std::uint64_t tokens, const float* bias,
                                         float* y) {
    std::uint64_t t = 0;
    for (; t + 4 <= tokens; t += 4) multiply<4>(w, x + t * w.columns, bias, y + t * w.rows);
    for (; t < tokens; ++t) multiply<1>(w, x + t * w.columns, bias, y + t * w.rows);
  }
};

}  // namespace

void multiply_weights(const code_matrix& weights, const float* x, std::uint64_t tokens, const float* bias, float* y,
                      instruction_path path) {
  on_path<multiply_kernel>(path, weights, x, tokens, bias, y);
}

}  // namespace berth::int8
