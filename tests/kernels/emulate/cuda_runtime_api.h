// SPDX-License-Identifier: Apache-2.0
// What the kernels take from the CUDA runtime, for the emulation.
#pragma once

#include <utility>

#include "device.hpp"

struct CUstream_st;
using cudaStream_t = CUstream_st*;

enum : int {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorMisalignedAddress = 716,
};

/// Runs the kernel at once, on the calling thread. The limits are those of every GPU that berth knows.
template <class... Parameters>
int cudaLaunchKernel(void (*kernel)(Parameters...), dim3 grid, dim3 block, void** arguments, std::size_t shared,
                     cudaStream_t) {
  if (grid.y != 1 || grid.z != 1 || block.y != 1 || block.z != 1 || shared != 0) return cudaErrorInvalidConfiguration;
  if (grid.x == 0 || grid.x > 0x7fffffffu || block.x == 0 || block.x > 1024) return cudaErrorInvalidConfiguration;
  const auto call = [&]<std::size_t... i>(std::index_sequence<i...>) {
    kernel(*static_cast<Parameters*>(arguments[i])...);
  };
  emulate::run(grid, block, [&] { call(std::index_sequence_for<Parameters...>()); });
  return cudaSuccess;
}
