// SPDX-License-Identifier: Apache-2.0
// Weights times few inputs: bound by reading the weights. A block takes some rows and its threads their columns, so
// that every thread has several 16-byte loads under way at once and the inputs are read once for all rows of the block.
#include "kernels.h"
#include "launch.cuh"
#include "numbers.cuh"

namespace berth_cuda {
namespace {

constexpr uint32_t threads = 128, warps = threads / 32;

/// Rows and inputs of a block: many rows for one input (each input value then serves more weights), fewer where sums
/// for several inputs need the registers.
template <int tokens>
constexpr int rows_for = tokens == 1 ? 8 : 4;

struct product_shape {
  uint64_t rows, columns, tokens;
  uint64_t groups = 1;  ///< of inputs; those of the same rows follow each other, so that the weights are still in cache
};

/// Adds up over the block and writes rows [first_row, ...) of outputs [first_token, ...).
template <int tokens>
__device__ void finish(const float (&sum)[rows_for<tokens>][tokens], const product_shape& shape, uint64_t first_row,
                       uint64_t first_token, const float* scales, int output_type, void* output) {
  constexpr int rows = rows_for<tokens>;
  __shared__ float of_warp[warps][rows * tokens];
#pragma unroll
  for (int r = 0; r < rows; ++r)
#pragma unroll
    for (int t = 0; t < tokens; ++t) {
      const float all = warp_sum(sum[r][t]);
      if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32][r * tokens + t] = all;
    }
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < static_cast<uint32_t>(rows * tokens); i += threads) {
    const uint64_t row = first_row + i / tokens, token = first_token + i % tokens;
    if (row >= shape.rows || token >= shape.tokens) continue;
    float v = 0;
    for (uint32_t w = 0; w < warps; ++w) v += of_warp[w][i];
    if (scales != nullptr) v *= __fdiv_rn(scales[row], 127.0f);
    store_as(output_type, v, output, token * shape.rows + row);
  }
}

/// The next elements of an input as f32, `count` of them in 16-byte loads.
template <class Input, int count>
__device__ void read_input(const Input* at, float (&x)[count]) {
  constexpr int per = sixteen_bytes<Input>::count;
  static_assert(count % per == 0, "whole loads");
#pragma unroll
  for (int p = 0; p < count / per; ++p) {
    sixteen_bytes<Input> in;
    in.raw = __ldg(reinterpret_cast<const uint4*>(at) + p);
#pragma unroll
    for (int i = 0; i < per; ++i) x[p * per + i] = to_float(in.element[i]);
  }
}

template <class Weight, class Input, int tokens>
__global__ void __launch_bounds__(threads)
    product_lines(product_shape shape, const Weight* weights, const float* scales, const Input* inputs, int output_type,
                  void* output) {
  constexpr int rows = rows_for<tokens>, per = sixteen_bytes<Weight>::count;
  const uint64_t first = blockIdx.x / shape.groups * rows, token = blockIdx.x % shape.groups * tokens;
  // Beyond the last row and token the last one is read once more, and nothing written.
  const Weight* row_at[rows];
#pragma unroll
  for (int r = 0; r < rows; ++r) {
    const uint64_t row = first + static_cast<uint32_t>(r);
    row_at[r] = weights + (row < shape.rows ? row : shape.rows - 1) * shape.columns;
  }
  float sum[rows][tokens] = {};
  for (uint64_t c = threadIdx.x * per; c < shape.columns; c += threads * per) {
    sixteen_bytes<Weight> held[rows];
#pragma unroll
    for (int r = 0; r < rows; ++r) held[r].raw = __ldcs(reinterpret_cast<const uint4*>(row_at[r] + c));
#pragma unroll
    for (int t = 0; t < tokens; ++t) {
      const uint64_t input = token + static_cast<uint32_t>(t);
      float x[per];
      read_input(inputs + (input < shape.tokens ? input : shape.tokens - 1) * shape.columns + c, x);
#pragma unroll
      for (int r = 0; r < rows; ++r)
#pragma unroll
        for (int i = 0; i < per; ++i) sum[r][t] = fmaf(to_float(held[r].element[i]), x[i], sum[r][t]);
    }
  }
  finish<tokens>(sum, shape, first, token, scales, output_type, output);
}

/// Rows that do not all begin at a multiple of 16 bytes: element by element.
template <class Weight, class Input, int tokens>
__global__ void __launch_bounds__(threads)
    product_elements(product_shape shape, const Weight* weights, const float* scales, const Input* inputs,
                     int output_type, void* output) {
  constexpr int rows = rows_for<tokens>;
  const uint64_t first = blockIdx.x / shape.groups * rows, token = blockIdx.x % shape.groups * tokens;
  float sum[rows][tokens] = {};
  for (uint64_t c = threadIdx.x; c < shape.columns; c += threads)
#pragma unroll
    for (int r = 0; r < rows; ++r) {
      const uint64_t row = first + static_cast<uint32_t>(r);
      const float w = to_float(weights[(row < shape.rows ? row : shape.rows - 1) * shape.columns + c]);
#pragma unroll
      for (int t = 0; t < tokens; ++t) {
        const uint64_t input = token + static_cast<uint32_t>(t);
        const uint64_t at = (input < shape.tokens ? input : shape.tokens - 1) * shape.columns + c;
        sum[r][t] = fmaf(w, to_float(inputs[at]), sum[r][t]);
      }
    }
  finish<tokens>(sum, shape, first, token, scales, output_type, output);
}

template <class Weight, class Input, int tokens>
int start(product_shape shape, const void* weights, const float* scales, const void* inputs, int output_type,
          void* output, void* stream) {
  const bool lines = shape.columns * sizeof(Weight) % 16 == 0 && shape.columns * sizeof(Input) % 16 == 0 &&
                     is_aligned(weights, 16) && is_aligned(inputs, 16);
  const auto kernel = lines ? product_lines<Weight, Input, tokens> : product_elements<Weight, Input, tokens>;
  shape.groups = ceil_div(shape.tokens, tokens);
  return launch(kernel, ceil_div(shape.rows, rows_for<tokens>) * shape.groups, threads, stream, shape,
                static_cast<const Weight*>(weights), scales, static_cast<const Input*>(inputs), output_type, output);
}

template <class Weight, class Input>
int product_of(const product_shape& shape, const void* weights, const float* scales, const void* inputs,
               int output_type, void* output, void* stream) {
  if (shape.tokens == 1) return start<Weight, Input, 1>(shape, weights, scales, inputs, output_type, output, stream);
  if (shape.tokens == 2) return start<Weight, Input, 2>(shape, weights, scales, inputs, output_type, output, stream);
  if (shape.tokens <= 4) return start<Weight, Input, 4>(shape, weights, scales, inputs, output_type, output, stream);
  return start<Weight, Input, 8>(shape, weights, scales, inputs, output_type, output, stream);
}

template <class Weight>
int product(const product_shape& shape, const void* weights, const float* scales, int input_type, const void* inputs,
            int output_type, void* output, void* stream) {
  if (!is_result_type(output_type)) return cudaErrorInvalidValue;
  if (shape.rows == 0 || shape.tokens == 0) return cudaSuccess;
  switch (input_type) {
    case BERTH_CUDA_F32:
      return product_of<Weight, float>(shape, weights, scales, inputs, output_type, output, stream);
    case BERTH_CUDA_F16:
      return product_of<Weight, f16>(shape, weights, scales, inputs, output_type, output, stream);
    case BERTH_CUDA_BF16:
      return product_of<Weight, bf16>(shape, weights, scales, inputs, output_type, output, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace
}  // namespace berth_cuda

extern "C" int berth_cuda_product_w8a16(uint64_t rows, uint64_t columns, const int8_t* codes, const float* scales,
                                        uint64_t tokens, int input_type, const void* input, int output_type,
                                        void* output, void* stream) {
  return berth_cuda::product<int8_t>({rows, columns, tokens}, codes, scales, input_type, input, output_type, output,
                                     stream);
}

extern "C" int berth_cuda_product_bf16(uint64_t rows, uint64_t columns, const void* weights, uint64_t tokens,
                                       int input_type, const void* input, int output_type, void* output, void* stream) {
  return berth_cuda::product<berth_cuda::bf16>({rows, columns, tokens}, weights, nullptr, input_type, input,
                                               output_type, output, stream);
}
