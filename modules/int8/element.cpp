// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

module berth.int8;

import :lanes;

namespace berth::int8 {
namespace {

template <dtype T, instruction_path P>
[[gnu::always_inline]] inline void widen_all(const std::byte* source, std::uint64_t count, float* target) {
  for (std::uint64_t i = 0; i < count; i += lanes) {
    f32x16 v;
    load_at_most<T, P>(v, source + i * element_size<T>, count - i);
    __builtin_memcpy(target + i, &v, std::min<std::uint64_t>(count - i, lanes) * sizeof(float));
  }
}

struct widen_kernel {
  template <instruction_path P>
  [[gnu::always_inline]] static void run(const std::byte* source, dtype from, std::uint64_t count, float* target) {
    if (from == dtype::f16)
      widen_all<dtype::f16, P>(source, count, target);
    else if (from == dtype::bf16)
      widen_all<dtype::bf16, P>(source, count, target);
    else if (count > 0)
      std::memcpy(target, source, count * sizeof(float));
  }
};

template <instruction_path P>
[[gnu::always_inline]] inline void narrow_to_f16(const float* source, std::uint64_t count, std::byte* target) {
  std::uint64_t i = 0;
  if constexpr (P != instruction_path::portable)
    for (; i + lanes <= count; i += lanes) {
      f32x16 v;
      __builtin_memcpy(&v, source + i, 64);
      const f16x16 n = __builtin_convertvector(v, f16x16);
      __builtin_memcpy(target + 2 * i, &n, 32);
    }
  for (; i < count; ++i) {
    const auto n = f16_from_float(source[i]);
    __builtin_memcpy(target + 2 * i, &n, 2);
  }
}

[[gnu::always_inline]] inline void narrow_to_bf16(const float* source, std::uint64_t count, std::byte* target) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto n = bf16_from_float(source[i]);
    __builtin_memcpy(target + 2 * i, &n, 2);
  }
}

struct narrow_kernel {
  template <instruction_path P>
  [[gnu::always_inline]] static void run(const float* source, std::uint64_t count, std::byte* target, dtype to) {
    if (to == dtype::f16)
      narrow_to_f16<P>(source, count, target);
    else if (to == dtype::bf16)
      narrow_to_bf16(source, count, target);
    else if (count > 0)
      std::memcpy(target, source, count * sizeof(float));
  }
};

}  // namespace

float element_at(const std::byte* data, dtype t, std::uint64_t index) {
  if (t == dtype::f32) {
    float v = 0;
    std::memcpy(&v, data + index * 4, 4);
    return v;
  }
  std::uint16_t raw = 0;
  std::memcpy(&raw, data + index * 2, 2);
  return t == dtype::f16 ? float_from_f16(raw) : float_from_bf16(raw);
}

void widen(const std::byte* source, dtype from, std::uint64_t count, float* target, instruction_path path) {
  on_path<widen_kernel>(path, source, from, count, target);
}

void narrow(const float* source, std::uint64_t count, std::byte* target, dtype to, instruction_path path) {
  on_path<narrow_kernel>(path, source, count, target, to);
}

}  // namespace berth::int8
