// SPDX-License-Identifier: Apache-2.0
// LLM.int8 products. Four kernels: which columns of the inputs hold outliers, their list in order, the other columns as
// int8 codes, and the product of the codes in integers with the outliers added as they are.
#include "kernels.h"
#include "launch.cuh"
#include "numbers.cuh"

namespace berth_cuda {
namespace {

constexpr uint32_t threads = 256;

/// What the kernels hand to each other, cut from the caller's workspace.
struct scratch {
  int8_t* codes;    ///< of the inputs, tokens x columns
  float* scales;    ///< one per input
  uint32_t* marks;  ///< per column: not 0 if it holds an outlier
  uint32_t* list;   ///< the columns with outliers, ascending
  uint32_t* count;  ///< how many
  size_t size;      ///< of it all
};

inline scratch cut(void* workspace, uint64_t tokens, uint64_t columns) {
  const auto base = reinterpret_cast<uintptr_t>(workspace);
  uintptr_t at = base;
  const auto take = [&](uint64_t size) {
    const uintptr_t found = at;
    at += ceil_div(size, 16) * 16;
    return found;
  };
  scratch s;
  s.codes = reinterpret_cast<int8_t*>(take(tokens * columns));
  s.scales = reinterpret_cast<float*>(take(tokens * sizeof(float)));
  s.marks = reinterpret_cast<uint32_t*>(take(columns * sizeof(uint32_t)));
  s.list = reinterpret_cast<uint32_t*>(take(columns * sizeof(uint32_t)));
  s.count = reinterpret_cast<uint32_t*>(take(sizeof(uint32_t)));
  s.size = at - base;
  return s;
}

template <class T>
__global__ void mark_outliers(uint64_t tokens, uint64_t columns, const T* inputs, float threshold, uint32_t* marks) {
  const uint64_t c = static_cast<uint64_t>(blockIdx.x) * threads + threadIdx.x;
  if (c >= columns) return;
  bool found = false;
  // Not "at least the threshold": a NaN is none, but must reach the result.
  for (uint64_t t = 0; t < tokens; ++t) found = found || !(fabsf(to_float(inputs[t * columns + c])) < threshold);
  marks[c] = found ? 1 : 0;
}

/// One block: each thread counts and lists its own stretch of columns, so that the list is in order.
__global__ void list_outliers(uint64_t columns, const uint32_t* marks, uint32_t* list, uint32_t* count) {
  __shared__ uint32_t before[threads + 1];
  const uint64_t stretch = (columns + threads - 1) / threads, first = threadIdx.x * stretch;
  const uint64_t end = first + stretch < columns ? first + stretch : columns;
  uint32_t own = 0;
  for (uint64_t c = first; c < end; ++c) own += marks[c];
  before[threadIdx.x + 1] = own;
  __syncthreads();
  if (threadIdx.x == 0) {
    before[0] = 0;
    for (uint32_t t = 0; t < threads; ++t) before[t + 1] += before[t];
    *count = before[threads];
  }
  __syncthreads();
  uint32_t at = before[threadIdx.x];
  for (uint64_t c = first; c < end; ++c)
    if (marks[c] != 0) list[at++] = static_cast<uint32_t>(c);
}

/// The scale is the largest magnitude below the threshold, also of columns that hold an outlier of another input.
template <class T>
__global__ void quantize_inputs(uint64_t columns, const T* inputs, float threshold, const uint32_t* marks,
                                int8_t* codes, float* scales) {
  constexpr uint32_t infinity = 0x7f800000u;
  const T* at = inputs + blockIdx.x * columns;
  uint32_t most = 0;
  for (uint64_t c = threadIdx.x; c < columns; c += threads) {
    const float magnitude = fabsf(to_float(at[c]));
    if (!(threshold > 0) || magnitude < threshold) most = max(most, __float_as_uint(magnitude));
  }
  most = block_max(most);
  float scale = __uint_as_float(most);
  float inverse = most == 0 ? 0.0f : __fdiv_rn(127.0f, scale);
  if (most >= infinity) {  // only without a threshold: the result is to be no number
    scale = __uint_as_float(0x7fc00000u);
    inverse = 0;
  } else if (__float_as_uint(inverse) >= infinity) {  // below 1e-36: nothing
    scale = inverse = 0;
  }
  for (uint64_t c = threadIdx.x; c < columns; c += threads) {
    const bool kept = marks[c] == 0 && inverse != 0.0f;
    codes[blockIdx.x * columns + c] =
        kept ? static_cast<int8_t>(__float2int_rn(__fmul_rn(to_float(at[c]), inverse))) : int8_t{0};
  }
  if (threadIdx.x == 0) scales[blockIdx.x] = scale;
}

constexpr uint32_t tile_rows = 64, step = 16;  // step: in words of four codes

/// Four codes from column `c` on, 0 beyond the end.
__device__ inline int codes_at(const int8_t* row, uint64_t c, uint64_t columns, bool words) {
  if (words) return c < columns ? *reinterpret_cast<const int*>(row + c) : 0;
  uint32_t out = 0;
  for (uint32_t i = 0; i < 4; ++i)
    if (c + i < columns) out |= static_cast<uint32_t>(static_cast<uint8_t>(row[c + i])) << i * 8;
  return static_cast<int>(out);
}

struct int8_problem {
  uint64_t rows, columns, tokens;
  const int8_t* codes;
  const float* scales;
  const void* inputs;
  int output_type;
  void* output;
  bool words;  ///< columns and both code matrices are multiples of four
};

/// 64 rows x `tile_tokens` inputs per block; a thread has every 16th row and every 16th input.
template <class T, uint32_t tile_tokens>
__global__ void __launch_bounds__(threads) multiply(int8_problem p, scratch s) {
  constexpr uint32_t own_rows = tile_rows / 16, own_tokens = tile_tokens / 16;
  __shared__ int weight[tile_rows][step + 1];
  __shared__ int input[tile_tokens][step + 1];
  const uint64_t across = (p.tokens + tile_tokens - 1) / tile_tokens;
  const uint64_t row0 = blockIdx.x / across * tile_rows, token0 = blockIdx.x % across * tile_tokens;
  const uint32_t x = threadIdx.x % 16, y = threadIdx.x / 16;
  int whole[own_tokens][own_rows] = {};
  for (uint64_t c = 0; c < p.columns; c += step * 4) {
    for (uint32_t i = threadIdx.x; i < tile_rows * step; i += threads) {
      const uint64_t row = row0 + i / step;
      weight[i / step][i % step] =
          row < p.rows ? codes_at(p.codes + row * p.columns, c + i % step * 4, p.columns, p.words) : 0;
    }
    for (uint32_t i = threadIdx.x; i < tile_tokens * step; i += threads) {
      const uint64_t token = token0 + i / step;
      input[i / step][i % step] =
          token < p.tokens ? codes_at(s.codes + token * p.columns, c + i % step * 4, p.columns, p.words) : 0;
    }
    __syncthreads();
#pragma unroll
    for (uint32_t k = 0; k < step; ++k)
#pragma unroll
      for (uint32_t t = 0; t < own_tokens; ++t)
#pragma unroll
        for (uint32_t r = 0; r < own_rows; ++r)
          whole[t][r] = __dp4a(weight[x + 16 * r][k], input[y + 16 * t][k], whole[t][r]);
    __syncthreads();
  }
  float extra[own_tokens][own_rows] = {};
  const uint32_t outliers = *s.count;
  const T* inputs = static_cast<const T*>(p.inputs);
  for (uint32_t first = 0; first < outliers; first += step) {
    for (uint32_t i = threadIdx.x; i < tile_rows * step; i += threads) {
      const uint64_t row = row0 + i / step;
      const uint32_t j = first + i % step;
      weight[i / step][i % step] = row < p.rows && j < outliers ? p.codes[row * p.columns + s.list[j]] : 0;
    }
    for (uint32_t i = threadIdx.x; i < tile_tokens * step; i += threads) {
      const uint64_t token = token0 + i / step;
      const uint32_t j = first + i % step;
      const float v = token < p.tokens && j < outliers ? to_float(inputs[token * p.columns + s.list[j]]) : 0.0f;
      input[i / step][i % step] = __float_as_int(v);
    }
    __syncthreads();
#pragma unroll
    for (uint32_t k = 0; k < step; ++k)
#pragma unroll
      for (uint32_t t = 0; t < own_tokens; ++t)
#pragma unroll
        for (uint32_t r = 0; r < own_rows; ++r)
          extra[t][r] =
              fmaf(__int_as_float(input[y + 16 * t][k]), static_cast<float>(weight[x + 16 * r][k]), extra[t][r]);
    __syncthreads();
  }
#pragma unroll
  for (uint32_t t = 0; t < own_tokens; ++t)
#pragma unroll
    for (uint32_t r = 0; r < own_rows; ++r) {
      const uint64_t row = row0 + x + 16 * r, token = token0 + y + 16 * t;
      if (row >= p.rows || token >= p.tokens) continue;
      const float unit = __fdiv_rn(p.scales[row], 127.0f), input_unit = __fdiv_rn(s.scales[token], 127.0f);
      const float v = fmaf(__int2float_rn(whole[t][r]), input_unit, extra[t][r]) * unit;
      store_as(p.output_type, v, p.output, token * p.rows + row);
    }
}

template <class T>
int product(int8_problem p, const scratch& s, float threshold, void* stream) {
  const auto* inputs = static_cast<const T*>(p.inputs);
  int status = threshold > 0 ? launch(mark_outliers<T>, ceil_div(p.columns, threads), threads, stream, p.tokens,
                                      p.columns, inputs, threshold, s.marks)
                             : berth_cuda_fill(s.marks, 0, p.columns * sizeof(uint32_t), stream);
  if (status == cudaSuccess) status = launch(list_outliers, 1, threads, stream, p.columns, s.marks, s.list, s.count);
  if (status == cudaSuccess)
    status =
        launch(quantize_inputs<T>, p.tokens, threads, stream, p.columns, inputs, threshold, s.marks, s.codes, s.scales);
  if (status != cudaSuccess) return status;
  p.words = p.columns % 4 == 0 && is_aligned(p.codes, 4);
  const uint64_t across = ceil_div(p.rows, tile_rows);
  if (p.tokens <= 16) return launch(multiply<T, 16>, across, threads, stream, p, s);
  return launch(multiply<T, 64>, across * ceil_div(p.tokens, 64), threads, stream, p, s);
}

}  // namespace
}  // namespace berth_cuda

extern "C" size_t berth_cuda_product_int8_workspace(uint64_t tokens, uint64_t columns) {
  return berth_cuda::cut(nullptr, tokens, columns).size;
}

extern "C" int berth_cuda_product_int8(uint64_t rows, uint64_t columns, const int8_t* codes, const float* scales,
                                       uint64_t tokens, float threshold, int input_type, const void* input,
                                       int output_type, void* output, void* workspace, void* stream) {
  using namespace berth_cuda;
  constexpr uint64_t most_columns = 0x7fffffffu / (127u * 127u);
  if (columns > most_columns || !is_result_type(output_type) || !is_aligned(workspace, 16))
    return cudaErrorInvalidValue;
  if (rows == 0 || tokens == 0) return cudaSuccess;
  const scratch s = cut(workspace, tokens, columns);
  const int8_problem p{rows, columns, tokens, codes, scales, input, output_type, output, false};
  switch (input_type) {
    case BERTH_CUDA_F32:
      return product<float>(p, s, threshold, stream);
    case BERTH_CUDA_F16:
      return product<f16>(p, s, threshold, stream);
    case BERTH_CUDA_BF16:
      return product<bf16>(p, s, threshold, stream);
    default:
      return cudaErrorInvalidValue;
  }
}
