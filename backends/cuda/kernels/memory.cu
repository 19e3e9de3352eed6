// SPDX-License-Identifier: Apache-2.0
// What measuring needs: long copies and fills at the rate of the memory, and a kernel that does nothing.
#include "kernels.h"
#include "launch.cuh"
#include "numbers.cuh"

namespace berth_cuda {
namespace {

constexpr uint32_t threads = 256;
constexpr int loads = 4;  // in flight per thread

__global__ void copy_vectors(const uint4* source, uint4* target, uint64_t count) {
  const uint64_t first = static_cast<uint64_t>(blockIdx.x) * (threads * loads) + threadIdx.x;
  uint4 held[loads];
  for (int i = 0; i < loads; ++i)
    if (const uint64_t at = first + static_cast<uint32_t>(i) * threads; at < count) held[i] = __ldcs(source + at);
  for (int i = 0; i < loads; ++i)
    if (const uint64_t at = first + static_cast<uint32_t>(i) * threads; at < count) __stcs(target + at, held[i]);
}

__global__ void copy_bytes(const uint8_t* source, uint8_t* target, uint64_t count) {
  const uint64_t at = static_cast<uint64_t>(blockIdx.x) * threads + threadIdx.x;
  if (at < count) target[at] = source[at];
}

__global__ void fill_bytes(uint8_t* target, uint32_t word, uint64_t count) {
  const uint64_t at = static_cast<uint64_t>(blockIdx.x) * threads + threadIdx.x;
  if (at < count) target[at] = static_cast<uint8_t>(word >> at % 4 * 8);
}

__global__ void fill_vectors(uint4* target, uint32_t word, uint64_t count) {
  const uint64_t at = static_cast<uint64_t>(blockIdx.x) * threads + threadIdx.x;
  if (at < count) target[at] = make_uint4(word, word, word, word);
}

__global__ void nothing() {}

}  // namespace
}  // namespace berth_cuda

using namespace berth_cuda;

extern "C" int berth_cuda_copy(const void* source, void* target, size_t size, void* stream) {
  const auto* from = static_cast<const uint8_t*>(source);
  auto* to = static_cast<uint8_t*>(target);
  const uint64_t vectors = is_aligned(from, 16) && is_aligned(to, 16) ? size / 16 : 0, rest = size - vectors * 16;
  if (const int status = launch(copy_vectors, ceil_div(vectors, threads * loads), threads, stream,
                                reinterpret_cast<const uint4*>(from), reinterpret_cast<uint4*>(to), vectors);
      status != cudaSuccess)
    return status;
  return launch(copy_bytes, ceil_div(rest, threads), threads, stream, from + vectors * 16, to + vectors * 16, rest);
}

extern "C" int berth_cuda_fill(void* target, uint32_t word, size_t size, void* stream) {
  auto* to = static_cast<uint8_t*>(target);
  const uint64_t vectors = is_aligned(to, 16) ? size / 16 : 0, rest = size - vectors * 16;
  if (const int status = launch(fill_vectors, ceil_div(vectors, threads), threads, stream, reinterpret_cast<uint4*>(to),
                                word, vectors);
      status != cudaSuccess)
    return status;
  return launch(fill_bytes, ceil_div(rest, threads), threads, stream, to + vectors * 16, word, rest);
}

extern "C" int berth_cuda_idle(void* stream) { return launch(nothing, 1, 32, stream); }
