// SPDX-License-Identifier: Apache-2.0
// A GPU for tests, as far as the kernels use one: blocks run one after the other, the threads of a block as fibers that
// take turns at barriers and shuffles. Shared memory is poisoned before every block. Memory is sequentially consistent
// here, so races between barriers go unseen, and nothing is said about speed.
#pragma once

#include <math.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

struct dim3 {
  uint32_t x = 1, y = 1, z = 1;
  constexpr dim3(uint32_t a = 1, uint32_t b = 1, uint32_t c = 1) : x(a), y(b), z(c) {}
};
struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

namespace emulate {

/// Where the running fiber is.
struct position {
  dim3 thread, block, block_size, grid_size;
};
const position& here();

/// Runs `thread` once for every thread of the grid. Ends the program with a message when threads of a block wait for
/// each other for ever or meet at different barriers.
void run(dim3 grid, dim3 block, const std::function<void()>& thread);

void barrier();
/// The word that lane `from` of this warp brings, when all lanes have brought theirs.
uint32_t shuffle(uint32_t word, uint32_t from);

}  // namespace emulate

// NOLINTBEGIN: CUDA's names
#define __global__
#define __device__
#define __launch_bounds__(...)
// A section of its own, so that the emulation can poison it; one copy per program, and one block at a time.
#define __shared__ static __attribute__((section("berth_shared")))
#define threadIdx (::emulate::here().thread)
#define blockIdx (::emulate::here().block)
#define blockDim (::emulate::here().block_size)
#define gridDim (::emulate::here().grid_size)

inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }

inline void __syncthreads() { emulate::barrier(); }
inline uint32_t __shfl_xor_sync(uint32_t, uint32_t v, int mask) {
  return emulate::shuffle(v, threadIdx.x % 32 ^ static_cast<uint32_t>(mask));
}
inline float __shfl_xor_sync(uint32_t lanes, float v, int mask) {
  return std::bit_cast<float>(__shfl_xor_sync(lanes, std::bit_cast<uint32_t>(v), mask));
}

inline uint32_t __float_as_uint(float v) { return std::bit_cast<uint32_t>(v); }
inline float __uint_as_float(uint32_t v) { return std::bit_cast<float>(v); }
inline int __float_as_int(float v) { return std::bit_cast<int>(v); }
inline float __int_as_float(int v) { return std::bit_cast<float>(v); }
inline float __double2float_rn(double v) { return static_cast<float>(v); }
inline float __int2float_rn(int v) { return static_cast<float>(v); }
/// Saturates, and makes 0 of a NaN.
inline int __float2int_rn(float v) {
  if (std::isnan(v)) return 0;
  if (v >= 2147483648.0f) return INT32_MAX;
  if (v < -2147483648.0f) return INT32_MIN;
  return static_cast<int>(std::nearbyint(v));
}
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }

inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i) c += static_cast<int8_t>(a >> (i * 8)) * static_cast<int8_t>(b >> (i * 8));
  return c;
}

template <class T>
T __ldcs(const T* at) {
  return *at;
}
template <class T>
T __ldg(const T* at) {
  return *at;
}
template <class T>
void __stcs(T* at, T v) {
  *at = v;
}
inline uint32_t max(uint32_t a, uint32_t b) { return a > b ? a : b; }
inline uint32_t atomicMin_system(uint32_t* at, uint32_t v) {
  const uint32_t before = *at;
  if (v < before) *at = v;
  return before;
}
// NOLINTEND
