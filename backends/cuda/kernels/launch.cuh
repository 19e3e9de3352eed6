// SPDX-License-Identifier: Apache-2.0
// How kernels start, and what the threads of a block compute together.
#pragma once

#include <cuda_runtime_api.h>
#include <stdint.h>

namespace berth_cuda {

/// Starts a kernel and says whether it was accepted. Not <<<>>>: that would leave the status to cudaGetLastError, which
/// may tell of someone else's call.
template <class... Parameters, class... Arguments>
int launch(void (*kernel)(Parameters...), uint64_t blocks, uint32_t threads, void* stream, Arguments... arguments) {
  if (blocks == 0) return cudaSuccess;
  if (blocks > 0x7fffffffu) return cudaErrorInvalidConfiguration;
  return [&](Parameters... exact) -> int {
    void* pointers[] = {static_cast<void*>(&exact)..., nullptr};
    return cudaLaunchKernel(kernel, dim3(static_cast<uint32_t>(blocks)), dim3(threads), pointers, 0,
                            static_cast<cudaStream_t>(stream));
  }(static_cast<Parameters>(arguments)...);
}

inline uint64_t ceil_div(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

constexpr uint32_t all_lanes = 0xffffffffu;
constexpr uint32_t most_warps = 32;

/// The largest value of any thread, told to all. All threads of the block call it; blocks are whole warps.
__device__ inline uint32_t block_max(uint32_t v) {
  __shared__ uint32_t of_warp[most_warps];
  for (int step = 16; step > 0; step /= 2) {
    const uint32_t other = __shfl_xor_sync(all_lanes, v, step);
    v = v > other ? v : other;
  }
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = v;
  __syncthreads();
  v = of_warp[0];
  for (uint32_t w = 1; w < blockDim.x / 32; ++w) v = v > of_warp[w] ? v : of_warp[w];
  __syncthreads();  // before the next call writes
  return v;
}

/// The sum over the lanes of a warp, told to all; the order is that of the butterfly, whatever the GPU.
__device__ inline float warp_sum(float v) {
  for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(all_lanes, v, step);
  return v;
}

}  // namespace berth_cuda
