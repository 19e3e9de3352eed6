// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>

#include "device_memory.hpp"

namespace device {
namespace {

/// A test cannot go on without its device: says which call failed and ends.
void demand(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", call, cudaGetErrorString(status));
  std::exit(1);
}

}  // namespace

std::string missing() {
  int count = 0;
  const auto status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) return std::string("no device: ") + cudaGetErrorString(status);
  return count > 0 ? std::string() : "no device";
}
void* take(std::size_t size) {
  void* p = nullptr;
  demand(cudaMalloc(&p, size == 0 ? 1 : size), "cudaMalloc");
  return p;
}
void give(void* p) { demand(cudaFree(p), "cudaFree"); }
void write(void* to, const void* from, std::size_t size) {
  demand(cudaMemcpy(to, from, size, cudaMemcpyHostToDevice), "cudaMemcpy to the device");
}
void read(void* to, const void* from, std::size_t size) {
  finish();
  demand(cudaMemcpy(to, from, size, cudaMemcpyDeviceToHost), "cudaMemcpy from the device");
}
std::uint32_t* take_host_word() {
  void* p = nullptr;
  demand(cudaHostAlloc(&p, sizeof(std::uint32_t), cudaHostAllocPortable | cudaHostAllocMapped), "cudaHostAlloc");
  return static_cast<std::uint32_t*>(p);
}
void give_host_word(std::uint32_t* p) { demand(cudaFreeHost(p), "cudaFreeHost"); }
void finish() { demand(cudaDeviceSynchronize(), "cudaDeviceSynchronize"); }

}  // namespace device
