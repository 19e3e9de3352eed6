// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

module berth.runtime;

import :elements;

namespace berth {
namespace {

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <class T>
void store(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

float from_half(std::uint16_t bits) {
  const auto sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 31u, fraction = bits & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  const auto magnitude = static_cast<float>(fraction) * 0x1p-24f;
  return sign != 0 ? -magnitude : magnitude;
}

/// Integers and steps of 2^-24 (subnormal) or 2^(e-10): adding and taking away a power of two rounds to them.
std::uint16_t to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  const auto magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65520 and above
  if (magnitude < 0x38800000u) {                                                    // below 2^-14
    const auto steps = std::nearbyint(std::bit_cast<float>(magnitude) * 0x1p24f);
    return static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(steps));
  }
  const auto rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return static_cast<std::uint16_t>(sign | (rounded - 0x38000000u) >> 13);
}

std::uint16_t to_bfloat(float value) {
  if (value != value) return 0x7fc0;
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

float load_float(dtype from, const std::byte* at) {
  switch (from) {
    case dtype::f16:
      return from_half(load<std::uint16_t>(at));
    case dtype::bf16:
      return std::bit_cast<float>(static_cast<std::uint32_t>(load<std::uint16_t>(at)) << 16);
    case dtype::f64:
      return static_cast<float>(load<double>(at));
    default:
      return load<float>(at);
  }
}

void store_float(dtype to, std::byte* at, float value) {
  if (to == dtype::f16)
    store(at, to_half(value));
  else if (to == dtype::bf16)
    store(at, to_bfloat(value));
  else
    store(at, value);
}

}  // namespace

void convert_run(dtype from, const std::byte* source, std::uint64_t stride, dtype to, std::byte* target,
                 std::uint64_t count) {
  const std::size_t width = bits_of(from) / 8, step = width * static_cast<std::size_t>(stride);
  const std::size_t target_width = bits_of(to) / 8;
  if (from == to && stride == 1) {
    std::memcpy(target, source, static_cast<std::size_t>(count) * width);
    return;
  }
  for (std::uint64_t i = 0; i < count; ++i, source += step, target += target_width)
    if (from == to)
      std::memcpy(target, source, width);
    else
      store_float(to, target, load_float(from, source));
}

bool quantize_row(std::span<const float> row, std::byte* codes, float& scale) {
  scale = 0;
  for (const float w : row) {
    if (!std::isfinite(w)) return false;
    scale = std::max(scale, std::fabs(w));
  }
  if (scale == 0) {
    std::memset(codes, 0, row.size());
    return true;
  }
  const float factor = 127.0f / scale;
  if (scale < std::numeric_limits<float>::min() || !std::isfinite(factor)) return false;
  for (std::size_t i = 0; i < row.size(); ++i)
    codes[i] = static_cast<std::byte>(static_cast<std::int8_t>(std::nearbyint(row[i] * factor)));
  return true;
}

}  // namespace berth
