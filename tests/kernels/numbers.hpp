// SPDX-License-Identifier: Apache-2.0
// Numbers of 16 bits and random data for the tests: by way of double and powers of two, unlike the kernels and unlike
// their emulation.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <vector>

#include "../../backends/cuda/kernels/kernels.h"

namespace numbers {

struct f16 {
  std::uint16_t bits;
};
struct bf16 {
  std::uint16_t bits;
};

/// A float format with `digits` significant bits and 2^least its smallest normal number.
struct format {
  int digits, least, most;
};
inline constexpr format half{11, -14, 15}, brain{8, -126, 127};

inline double value_of(std::uint16_t bits, const format& f) {
  const int fraction_bits = f.digits - 1;
  const int exponent = (bits & 0x7fff) >> fraction_bits;
  const double fraction = bits & ((1 << fraction_bits) - 1), sign = bits & 0x8000 ? -1 : 1;
  if (exponent == f.most - f.least + 2)
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  const double significand = exponent == 0 ? fraction : fraction + std::ldexp(1.0, fraction_bits);
  return sign * std::ldexp(significand, (exponent == 0 ? 1 : exponent) - 1 + f.least - fraction_bits);
}

inline std::uint16_t nearest(double v, const format& f, std::uint16_t nan) {
  if (std::isnan(v)) return nan;
  const int fraction_bits = f.digits - 1;
  const auto sign = static_cast<std::uint16_t>(std::signbit(v) ? 0x8000 : 0);
  const int top = f.most - f.least + 2;
  int exponent = v == 0 || std::isinf(v) ? f.least : std::max(std::ilogb(v), f.least);
  double steps = std::nearbyint(std::ldexp(std::fabs(v), fraction_bits - exponent));
  if (steps == std::ldexp(1.0, f.digits)) {
    steps /= 2;
    ++exponent;
  }
  if (std::isinf(v) || exponent > f.most) return static_cast<std::uint16_t>(sign | top << fraction_bits);
  const int biased = steps < std::ldexp(1.0, fraction_bits) ? 0 : exponent - f.least + 1;
  const int fraction = static_cast<int>(steps) - (biased == 0 ? 0 : 1 << fraction_bits);
  return static_cast<std::uint16_t>(sign | biased << fraction_bits | fraction);
}

/// What a type is called in kernels.h, and its way to and from numbers. Writing goes through f32.
template <class T>
struct type;
template <>
struct type<float> {
  static constexpr int code = BERTH_CUDA_F32;
  static double read(float v) { return v; }
  static float write(double v) { return static_cast<float>(v); }
};
template <>
struct type<double> {
  static constexpr int code = BERTH_CUDA_F64;
  static double read(double v) { return v; }
  static double write(double v) { return v; }
};
template <>
struct type<f16> {
  static constexpr int code = BERTH_CUDA_F16;
  static double read(f16 v) { return value_of(v.bits, half); }
  static f16 write(double v) { return {nearest(static_cast<float>(v), half, 0x7e00)}; }
};
template <>
struct type<bf16> {
  static constexpr int code = BERTH_CUDA_BF16;
  static double read(bf16 v) { return value_of(v.bits, brain); }
  static bf16 write(double v) { return {nearest(static_cast<float>(v), brain, 0x7fc0)}; }
};
template <class T, int Code>
struct integer_type {
  static constexpr int code = Code;
  static double read(T v) { return v; }
};
template <>
struct type<std::int8_t> : integer_type<std::int8_t, BERTH_CUDA_I8> {};
template <>
struct type<std::uint8_t> : integer_type<std::uint8_t, BERTH_CUDA_U8> {};
template <>
struct type<std::int32_t> : integer_type<std::int32_t, BERTH_CUDA_I32> {};

template <class T>
bool same_bits(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

/// SplitMix64; tests say their seed.
class random {
 public:
  explicit random(std::uint64_t seed) : state_(seed) {
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  }
  std::uint64_t bits() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }
  /// In [-1, 1).
  double number() { return static_cast<double>(static_cast<std::int64_t>(bits())) / 0x1p63; }
  /// Any bits of a type: every exponent, subnormals, infinities and NaNs.
  template <class T>
  T any() {
    T out;
    const auto b = bits();
    std::memcpy(&out, &b, sizeof(T));
    return out;
  }
  template <class T>
  std::vector<T> numbers(std::size_t count, double scale = 1) {
    std::vector<T> out(count);
    for (auto& v : out) v = type<T>::write(number() * scale);
    return out;
  }

 private:
  std::uint64_t state_;
};

}  // namespace numbers
