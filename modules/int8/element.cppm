// SPDX-License-Identifier: Apache-2.0
module;

#include <bit>
#include <cstddef>
#include <cstdint>

export module berth.int8:element;

import berth.base;
import :instruction_path;

export namespace berth::int8 {

/// The value of an IEEE binary16, exactly; NaNs become quiet and keep their payload.
constexpr float float_from_f16(std::uint16_t h) {
  const auto sign = std::uint32_t{h & 0x8000u} << 16;
  const auto magnitude = std::uint32_t{h & 0x7fffu};
  if (magnitude > 0x7c00u) return std::bit_cast<float>(sign | 0x7fc00000u | (magnitude & 0x3ffu) << 13);
  if (magnitude == 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u);
  if (magnitude >= 0x400u) return std::bit_cast<float>(sign | ((magnitude << 13) + (112u << 23)));
  // Denormal: 2^-14 x (1 + m / 1024) less 2^-14, all of them normal f32.
  const float value = std::bit_cast<float>(0x38800000u | magnitude << 13) - std::bit_cast<float>(0x38800000u);
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(value));
}

/// The value of a bfloat16, exactly.
constexpr float float_from_bf16(std::uint16_t b) { return std::bit_cast<float>(std::uint32_t{b} << 16); }

/// The nearest binary16, ties to even; from 65520 on infinity. NaNs become quiet and keep the top of their payload.
constexpr std::uint16_t f16_from_float(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = bits >> 16 & 0x8000u;
  const auto magnitude = bits & 0x7fffffffu;
  const auto made = [sign](std::uint32_t m) { return static_cast<std::uint16_t>(sign | m); };
  if (magnitude > 0x7f800000u) return made(0x7e00u | (magnitude >> 13 & 0x3ffu));
  if (magnitude >= 0x477ff000u) return made(0x7c00u);
  if (magnitude >= 0x38800000u)  // 2^-14: normal
    return made((magnitude + 0xfffu + (magnitude >> 13 & 1u) - (112u << 23)) >> 13);
  if (magnitude <= 0x33000000u) return made(0);  // 2^-25: half of the least denormal, and even is zero
  const auto shift = 126u - (magnitude >> 23);
  const auto digits = (magnitude & 0x7fffffu) | 0x800000u;
  const auto whole = digits >> shift, rest = digits & ((1u << shift) - 1), half = 1u << (shift - 1);
  return made(whole + (rest > half || (rest == half && (whole & 1u) != 0) ? 1u : 0u));
}

/// The nearest bfloat16, ties to even. NaNs become quiet and keep the top of their payload.
constexpr std::uint16_t bf16_from_float(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/// True for the floats that this module reads and writes: f32, f16, bf16.
constexpr bool is_element(dtype t) { return t == dtype::f32 || t == dtype::f16 || t == dtype::bf16; }

/// Element `index` of an array of `t`. Precondition: `is_element(t)`.
float element_at(const std::byte* data, dtype t, std::uint64_t index);

/// `count` elements of type `from` as f32, as `float_from_f16` and `float_from_bf16` give them. The arrays do not
/// overlap. Precondition: `is_element(from)`.
void widen(const std::byte* source, dtype from, std::uint64_t count, float* target,
           instruction_path path = best_path());

/// `count` floats as elements of type `to`, rounded as `f16_from_float` and `bf16_from_float` do. The arrays do not
/// overlap. Precondition: `is_element(to)`.
void narrow(const float* source, std::uint64_t count, std::byte* target, dtype to, instruction_path path = best_path());

}  // namespace berth::int8
