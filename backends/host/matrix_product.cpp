// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <vector>

module berth.host;

namespace berth::host {
namespace {

/// C[rows x columns] = A[rows x depth] B[depth x columns]. A, B and C together fill half a MiB: an L2 cache.
constexpr std::size_t rows = 96, columns = 512, depth = 128;
/// Every entry of A and B, and so of C; all exact in f32.
constexpr float a_entry = 0.5f, b_entry = 0.25f, product_entry = a_entry * b_entry * depth;

/// One product with vectors of `Width` floats and tiles of `Tall` rows by two vectors, which stay in registers. A lies
/// in panels [depth][Tall], B in panels [depth][2 Width], so that both are read in order.
template <std::size_t Width, std::size_t Tall>
[[gnu::always_inline]] inline void product(const float* a, const float* b, float* c) {
#ifdef __clang__
#pragma clang fp contract(fast)
#endif
  using vec = float __attribute__((vector_size(Width * sizeof(float))));
  for (std::size_t column = 0; column < columns; column += 2 * Width) {
    for (std::size_t row = 0; row < rows; row += Tall) {
      std::array<vec, 2 * Tall> sum{};
      const float* pa = a + row * depth;
      const float* pb = b + column * depth;
      for (std::size_t k = 0; k < depth; ++k, pa += Tall, pb += 2 * Width) {
        vec left, right;
        std::memcpy(&left, pb, sizeof left);
        std::memcpy(&right, pb + Width, sizeof right);
        for (std::size_t i = 0; i < Tall; ++i) {
          sum[2 * i] += pa[i] * left;
          sum[2 * i + 1] += pa[i] * right;
        }
      }
      for (std::size_t i = 0; i < Tall; ++i)
        std::memcpy(c + (row + i) * columns + column, &sum[2 * i], 2 * sizeof(vec));
    }
  }
}

using kernel = void (*)(const float*, const float*, float*);

#if defined(__x86_64__)
[[gnu::target("avx512f")]] void product_avx512(const float* a, const float* b, float* c) { product<16, 12>(a, b, c); }
[[gnu::target("avx2,fma")]] void product_avx2(const float* a, const float* b, float* c) { product<8, 6>(a, b, c); }
void product_sse(const float* a, const float* b, float* c) { product<4, 6>(a, b, c); }

kernel best_kernel() {
  if (__builtin_cpu_supports("avx512f")) return product_avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return product_avx2;
  return product_sse;
}
#else
void product_plain(const float* a, const float* b, float* c) { product<4, 12>(a, b, c); }

kernel best_kernel() { return product_plain; }
#endif

}  // namespace

product_task::product_task() : a_(rows * depth, a_entry), b_(depth * columns, b_entry), c_(rows * columns) {}

void product_task::run(int times) {
  const auto k = best_kernel();
  for (int i = 0; i < times; ++i) k(a_.data(), b_.data(), c_.data());
}

bool product_task::correct() const {
  return std::all_of(c_.begin(), c_.end(), [](float v) { return v == product_entry; });
}

double product_task::flops() { return 2.0 * rows * columns * depth; }

}  // namespace berth::host
