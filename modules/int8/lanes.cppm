// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>

// Not exported: kernels of this module only.
export module berth.int8:lanes;

import berth.base;
import :instruction_path;

// Sixteen numbers at a time, in the compiler's own vector types: the same source becomes one AVX-512, two AVX2 or four
// SSE or NEON instructions, according to the function that it is inlined into. That function carries the target
// attribute, so everything here is always inlined, and vectors pass by reference (by value their way of passing would
// depend on the target). Nothing is contracted into fused multiply-adds, or paths would differ in the last bit.
namespace berth::int8 {

inline constexpr std::size_t lanes = 16;
using f32x16 = float __attribute__((vector_size(64)));
using i32x16 = std::int32_t __attribute__((vector_size(64)));
using u16x16 = std::uint16_t __attribute__((vector_size(32)));
using f16x16 = _Float16 __attribute__((vector_size(32)));
using i16x16 = std::int16_t __attribute__((vector_size(32)));
using i8x16 = std::int8_t __attribute__((vector_size(16)));

/// Storage of each element type.
template <dtype T>
inline constexpr std::size_t element_size = T == dtype::f32 ? 4 : 2;

template <dtype T, instruction_path P>
[[gnu::always_inline]] inline void load(f32x16& out, const std::byte* from) {
  if constexpr (T == dtype::f32) {
    __builtin_memcpy(&out, from, 64);
  } else if constexpr (T == dtype::bf16) {
    u16x16 raw;
    __builtin_memcpy(&raw, from, 32);
    const i32x16 bits = __builtin_convertvector(raw, i32x16) << 16;
    __builtin_memcpy(&out, &bits, 64);
  } else if constexpr (P != instruction_path::portable) {
    f16x16 raw;
    __builtin_memcpy(&raw, from, 32);
    out = __builtin_convertvector(raw, f32x16);
  } else {
    // As `float_from_f16`: without F16C the compiler would call a function per element.
    u16x16 raw;
    __builtin_memcpy(&raw, from, 32);
    const i32x16 wide = __builtin_convertvector(raw, i32x16);
    const i32x16 magnitude = wide & 0x7fff;
    i32x16 bits = (magnitude << 13) + (112 << 23);
    bits += (magnitude >= 0x7c00) & (112 << 23);
    bits |= (magnitude > 0x7c00) & 0x400000;
    const i32x16 small = 0x38800000 | magnitude << 13;
    f32x16 value;
    __builtin_memcpy(&value, &small, 64);
    value -= 0x1p-14f;
    i32x16 denormal;
    __builtin_memcpy(&denormal, &value, 64);
    const i32x16 is_small = magnitude < 0x400;
    bits = (denormal & is_small) | (bits & ~is_small) | (wide & 0x8000) << 16;
    __builtin_memcpy(&out, &bits, 64);
  }
}

/// The first `count` < 16 elements, zeros behind them; reads no further.
template <dtype T, instruction_path P>
[[gnu::always_inline]] inline void load_some(f32x16& out, const std::byte* from, std::size_t count) {
  std::byte buffer[lanes * element_size<T>] = {};
  __builtin_memcpy(buffer, from, count * element_size<T>);
  load<T, P>(out, buffer);
}

template <dtype T, instruction_path P>
[[gnu::always_inline]] inline void load_at_most(f32x16& out, const std::byte* from, std::uint64_t count) {
  if (count >= lanes)
    load<T, P>(out, from);
  else
    load_some<T, P>(out, from, static_cast<std::size_t>(count));
}

/// Codes as floats.
[[gnu::always_inline]] inline void load_codes(f32x16& out, const std::int8_t* from) {
  i8x16 raw;
  __builtin_memcpy(&raw, from, 16);
  out = __builtin_convertvector(__builtin_convertvector(raw, i32x16), f32x16);
}
[[gnu::always_inline]] inline void load_codes(f32x16& out, const std::int8_t* from, std::size_t count) {
  std::int8_t buffer[lanes] = {};
  __builtin_memcpy(buffer, from, count);
  load_codes(out, buffer);
}

/// The nearest integers, ties to even, of values within +-2^22: adding 1.5 x 2^23 leaves no bit below one, and the
/// sum's last bits are the integer. The multiplication is rounded to f32 before.
[[gnu::always_inline]] inline void round_products(i32x16& out, const f32x16& values, const f32x16& factors) {
#pragma clang fp contract(off)
  const f32x16 product = values * factors;
  const f32x16 sum = product + 12582912.0f;
  __builtin_memcpy(&out, &sum, 64);
  out -= 0x4b400000;
}

/// Bits of the magnitudes. As integers they compare as the magnitudes do, with infinity and NaN above all numbers.
[[gnu::always_inline]] inline void magnitude_bits(i32x16& out, const f32x16& values) {
  __builtin_memcpy(&out, &values, 64);
  out &= 0x7fffffff;
}
[[gnu::always_inline]] inline void keep_larger(i32x16& largest, const i32x16& other) {
  largest = __builtin_elementwise_max(largest, other);
}

[[gnu::always_inline]] inline void store_codes(std::int8_t* to, const i32x16& codes) {
  const i8x16 narrow = __builtin_convertvector(codes, i8x16);
  __builtin_memcpy(to, &narrow, 16);
}

/// Sum of all lanes, in an order that does not depend on the target.
[[gnu::always_inline]] inline float sum_of(const f32x16& v) {
#pragma clang fp contract(off)
  float half[lanes];
  __builtin_memcpy(half, &v, 64);
  for (std::size_t width = lanes / 2; width > 0; width /= 2)
    for (std::size_t i = 0; i < width; ++i) half[i] += half[i + width];
  return half[0];
}

/// Runs `Kernel::run<path>` compiled for that path. The one place that names instruction sets.
#if defined(__x86_64__)
template <class Kernel, class... Arguments>
__attribute__((target("avx2,f16c"))) auto on_avx2(const Arguments&... arguments) {
  return Kernel::template run<instruction_path::avx2>(arguments...);
}
template <class Kernel, class... Arguments>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,f16c"))) auto on_avx512(const Arguments&... arguments) {
  return Kernel::template run<instruction_path::avx512>(arguments...);
}
#endif
template <class Kernel, class... Arguments>
auto on_path([[maybe_unused]] instruction_path path, const Arguments&... arguments) {
#if defined(__x86_64__)
  if (path == instruction_path::avx512) return on_avx512<Kernel>(arguments...);
  if (path == instruction_path::avx2) return on_avx2<Kernel>(arguments...);
#endif
  return Kernel::template run<instruction_path::portable>(arguments...);
}

}  // namespace berth::int8
