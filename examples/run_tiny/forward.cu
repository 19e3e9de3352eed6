// SPDX-License-Identifier: Apache-2.0
// The forward pass on a GPU: every atom is one kernel of one block of threads, which share the outputs of each step
// out. The simplest thing that is right; a real engine uses many blocks and tensor cores.
#include "forward.hpp"

#include <cuda_runtime_api.h>

#include <cstdint>

#include "forward_core.hpp"

namespace tiny {
namespace {

constexpr unsigned threads = 256;

struct together {
  __device__ std::int64_t rank() const { return threadIdx.x; }
  __device__ std::int64_t size() const { return blockDim.x; }
  __device__ void sync() const { __syncthreads(); }
};

__global__ void embed_kernel(shape s, matrix table, const sequence* q, std::int64_t count, float* out) {
  core::embed(together{}, s, table, *q, count, out);
}
__global__ void add_positions_kernel(shape s, matrix table, const sequence* q, std::int64_t count, const float* in,
                                     float* out) {
  core::add_positions(together{}, s, table, *q, count, in, out);
}
__global__ void block_kernel(shape s, block_weights w, const sequence* q, std::int64_t count, const float* in,
                             float* out, float* cache, float* scratch) {
  core::block(together{}, s, w, *q, count, in, out, cache, scratch);
}
__global__ void final_norm_kernel(shape s, norm n, std::int64_t count, const float* in, float* out) {
  core::final_norm(together{}, s, n, count, in, out);
}
__global__ void pass_on_kernel(shape s, std::int64_t count, const float* in, float* out) {
  core::pass_on(together{}, s, count, in, out);
}
__global__ void head_kernel(shape s, linear w, sequence* q, std::int64_t count, const float* in, float* scratch) {
  core::head(together{}, s, w, *q, count, in, scratch);
}

/// Not <<<>>>, so that the status is that of this launch.
template <class... Parameters>
int start(void (*kernel)(Parameters...), void* stream, Parameters... arguments) {
  void* pointers[] = {static_cast<void*>(&arguments)...};
  return cudaLaunchKernel(kernel, dim3(1), dim3(threads), pointers, 0, static_cast<cudaStream_t>(stream));
}

int embed_on(const shape& s, const matrix& table, const sequence* q, std::int64_t count, float* out, void* stream) {
  return start(embed_kernel, stream, s, table, q, count, out);
}
int add_positions_on(const shape& s, const matrix& table, const sequence* q, std::int64_t count, const float* in,
                     float* out, void* stream) {
  return start(add_positions_kernel, stream, s, table, q, count, in, out);
}
int block_on(const shape& s, const block_weights& w, const sequence* q, std::int64_t count, const float* in, float* out,
             float* cache, float* scratch, void* stream) {
  return start(block_kernel, stream, s, w, q, count, in, out, cache, scratch);
}
int final_norm_on(const shape& s, const norm& n, std::int64_t count, const float* in, float* out, void* stream) {
  return start(final_norm_kernel, stream, s, n, count, in, out);
}
int pass_on_on(const shape& s, std::int64_t count, const float* in, float* out, void* stream) {
  return start(pass_on_kernel, stream, s, count, in, out);
}
int head_on(const shape& s, const linear& w, sequence* q, std::int64_t count, const float* in, float* scratch,
            void* stream) {
  return start(head_kernel, stream, s, w, q, count, in, scratch);
}

}  // namespace

const gpu_forward& cuda_forward() {
  static constexpr gpu_forward all{embed_on, add_positions_on, block_on, final_norm_on, pass_on_on, head_on};
  return all;
}

}  // namespace tiny
