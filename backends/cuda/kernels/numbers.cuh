// SPDX-License-Identifier: Apache-2.0
// Element types on the device and how they turn into one another. Every step is one rounding that IEEE 754 prescribes,
// so that results are the same bits on every GPU and in the emulation of the tests.
#pragma once

#include <cuda_fp16.h>
#include <stdint.h>
#include <string.h>

#include "kernels.h"

namespace berth_cuda {

struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};

__device__ inline float to_float(float v) { return v; }
__device__ inline float to_float(double v) { return __double2float_rn(v); }
__device__ inline float to_float(int8_t v) { return static_cast<float>(v); }
__device__ inline float to_float(uint8_t v) { return static_cast<float>(v); }
__device__ inline float to_float(int32_t v) { return __int2float_rn(v); }
__device__ inline float to_float(f16 v) { return __half2float(__ushort_as_half(v.bits)); }
__device__ inline float to_float(bf16 v) { return __uint_as_float(static_cast<uint32_t>(v.bits) << 16); }

__device__ inline void round_to(float v, float& out) { out = v; }
__device__ inline bool is_nan(float v) { return (__float_as_uint(v) & 0x7fffffffu) > 0x7f800000u; }
__device__ inline void round_to(float v, f16& out) {
  out.bits = is_nan(v) ? uint16_t{0x7e00} : __half_as_ushort(__float2half_rn(v));
}
__device__ inline void round_to(float v, bf16& out) {
  const uint32_t bits = __float_as_uint(v), up = 0x7fffu + (bits >> 16 & 1u);
  out.bits = is_nan(v) ? uint16_t{0x7fc0} : static_cast<uint16_t>((bits + up) >> 16);
}

/// One element to another type. Through f32, except what f64 can hold exactly.
template <class To, class From>
struct cast {
  __device__ static To of(From v) {
    To out;
    round_to(to_float(v), out);
    return out;
  }
};
template <class T>
struct cast<T, T> {
  __device__ static T of(T v) { return v; }
};
template <class From>
struct cast<double, From> {
  __device__ static double of(From v) { return static_cast<double>(to_float(v)); }
};
template <>
struct cast<double, int32_t> {
  __device__ static double of(int32_t v) { return static_cast<double>(v); }
};
template <>
struct cast<double, double> {
  __device__ static double of(double v) { return v; }
};

/// Element `index` of memory that need not be aligned to its type, as stored tensors are not.
template <class T>
__device__ T element_at(const uint8_t* source, uint64_t index, bool aligned) {
  const uint8_t* at = source + index * sizeof(T);
  if (aligned) return *reinterpret_cast<const T*>(at);
  T out;
  memcpy(&out, at, sizeof(T));
  return out;
}

/// The elements of 16 bytes.
template <class T>
struct sixteen_bytes {
  static constexpr int count = 16 / static_cast<int>(sizeof(T));
  union {
    uint4 raw;
    T element[16 / sizeof(T)];
  };
};

/// A result as f32, f16 or bf16.
__device__ inline void store_as(int type, float v, void* output, uint64_t at) {
  if (type == BERTH_CUDA_F32)
    static_cast<float*>(output)[at] = v;
  else if (type == BERTH_CUDA_F16)
    round_to(v, static_cast<f16*>(output)[at]);
  else
    round_to(v, static_cast<bf16*>(output)[at]);
}
inline bool is_result_type(int type) {
  return type == BERTH_CUDA_F32 || type == BERTH_CUDA_F16 || type == BERTH_CUDA_BF16;
}

inline bool is_aligned(const void* p, uint64_t to) { return reinterpret_cast<uintptr_t>(p) % to == 0; }

}  // namespace berth_cuda
