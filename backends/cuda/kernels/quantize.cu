// SPDX-License-Identifier: Apache-2.0
// LLM.int8 weights: one block per row, which stays in registers between finding its maximum and writing its codes, so
// that device memory is read once. Intrinsics name every rounding: the codes are those of the scalar rule.
#include "kernels.h"
#include "launch.cuh"
#include "numbers.cuh"

namespace berth_cuda {
namespace {

struct row_scale {
  float scale;
  float inverse;  ///< 127 / scale; 0 where the codes are to be 0
};

/// From the bits of the largest magnitude, which order as the magnitudes do, with infinities and NaNs at the end. Of
/// the threads that ask for a row, one `tells` when it is bad.
__device__ row_scale scale_of(uint32_t most, uint64_t row, bool tells, uint32_t* bad_row) {
  constexpr uint32_t smallest_normal = 0x00800000u, infinity = 0x7f800000u;
  if (most == 0) return {0.0f, 0.0f};
  const float scale = __uint_as_float(most);
  const float inverse = __fdiv_rn(127.0f, scale);
  if (most >= smallest_normal && most < infinity && __float_as_uint(inverse) < infinity) return {scale, inverse};
  if (tells) atomicMin_system(bad_row, static_cast<uint32_t>(row));
  return {0.0f, 0.0f};
}

__device__ int8_t code_of(float w, float inverse) {
  return inverse == 0.0f ? int8_t{0} : static_cast<int8_t>(__float2int_rn(__fmul_rn(w, inverse)));
}

template <class T>
__device__ uint32_t magnitude(T v) {
  return __float_as_uint(to_float(v)) & 0x7fffffffu;
}

/// `count` codes to memory of any alignment, in the widest pieces that it allows.
template <int count>
__device__ void write_codes(int8_t* to, const int8_t (&codes)[count]) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(to);
  if (at % 4 != 0) {
    for (int i = 0; i < count; ++i) to[i] = codes[i];
    return;
  }
  uint32_t words[count / 4];
  for (int w = 0; w < count / 4; ++w) {
    words[w] = 0;
    for (int i = 0; i < 4; ++i)
      words[w] |= static_cast<uint32_t>(static_cast<uint8_t>(codes[w * 4 + i])) << static_cast<uint32_t>(i * 8);
  }
  if (count == 8 && at % 8 == 0) {
    *reinterpret_cast<uint2*>(to) = make_uint2(words[0], words[count / 4 - 1]);
    return;
  }
  for (int w = 0; w < count / 4; ++w) reinterpret_cast<uint32_t*>(to)[w] = words[w];
}

/// Rows of at most threads * vectors * 16 bytes, elements beside each other and aligned to their type. Columns before
/// the first and after the last 16 aligned bytes are fewer than a warp's threads and held one by one.
template <class T, int vectors>
__global__ void __launch_bounds__(1024)
    quantize_held(uint64_t rows, uint64_t columns, const T* source, uint64_t row_stride, int8_t* codes, float* scales,
                  uint32_t* bad_row) {
  using pack = sixteen_bytes<T>;
  for (uint64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* at = source + row * row_stride;
    const uint64_t to_line = (16 - reinterpret_cast<uintptr_t>(at) % 16) % 16 / sizeof(T);
    const uint64_t head = to_line < columns ? to_line : columns;
    const uint64_t packs = (columns - head) / pack::count, tail = head + packs * pack::count;
    pack held[vectors];
    uint32_t most = 0;
#pragma unroll
    for (int i = 0; i < vectors; ++i) {
      const uint64_t p = threadIdx.x + static_cast<uint64_t>(i) * blockDim.x;
      held[i].raw = p < packs ? __ldcs(reinterpret_cast<const uint4*>(at + head) + p) : make_uint4(0, 0, 0, 0);
    }
    const float first = threadIdx.x < head ? to_float(at[threadIdx.x]) : 0.0f;
    const float last = tail + threadIdx.x < columns ? to_float(at[tail + threadIdx.x]) : 0.0f;
#pragma unroll
    for (int i = 0; i < vectors; ++i)
#pragma unroll
      for (int k = 0; k < pack::count; ++k) most = max(most, magnitude(held[i].element[k]));
    most = block_max(max(most, max(magnitude(first), magnitude(last))));
    const row_scale s = scale_of(most, row, threadIdx.x == 0, bad_row);
    int8_t* to = codes + row * columns;
#pragma unroll
    for (int i = 0; i < vectors; ++i) {
      const uint64_t p = threadIdx.x + static_cast<uint64_t>(i) * blockDim.x;
      if (p >= packs) continue;
      int8_t code[pack::count];
#pragma unroll
      for (int k = 0; k < pack::count; ++k) code[k] = code_of(to_float(held[i].element[k]), s.inverse);
      write_codes(to + head + p * pack::count, code);
    }
    if (threadIdx.x < head) to[threadIdx.x] = code_of(first, s.inverse);
    if (tail + threadIdx.x < columns) to[tail + threadIdx.x] = code_of(last, s.inverse);
    if (threadIdx.x == 0) scales[row] = s.scale;
  }
}

/// Rows that registers cannot hold, and elements apart from each other or not aligned to their type: read twice.
template <class T>
__global__ void __launch_bounds__(1024)
    quantize_twice(uint64_t rows, uint64_t columns, const uint8_t* source, uint64_t row_stride, uint64_t column_stride,
                   bool aligned, int8_t* codes, float* scales, uint32_t* bad_row) {
  for (uint64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    uint32_t most = 0;
    for (uint64_t c = threadIdx.x; c < columns; c += blockDim.x)
      most = max(most, magnitude(element_at<T>(source, row * row_stride + c * column_stride, aligned)));
    const row_scale s = scale_of(block_max(most), row, threadIdx.x == 0, bad_row);
    for (uint64_t c = threadIdx.x; c < columns; c += blockDim.x)
      codes[row * columns + c] =
          code_of(to_float(element_at<T>(source, row * row_stride + c * column_stride, aligned)), s.inverse);
    if (threadIdx.x == 0) scales[row] = s.scale;
  }
}

constexpr uint32_t tile = 32, tile_lines = 8;

/// Weights stored by column: a block takes 32 rows, reads them side by side and turns tiles over in shared memory.
template <class T>
__global__ void __launch_bounds__(tile* tile_lines)
    quantize_by_column(uint64_t rows, uint64_t columns, const uint8_t* source, uint64_t row_stride,
                       uint64_t column_stride, bool aligned, int8_t* codes, float* scales, uint32_t* bad_row) {
  __shared__ uint32_t most[tile_lines][tile];
  __shared__ float inverse[tile];
  __shared__ int8_t turned[tile][tile + 4];
  const uint32_t x = threadIdx.x % tile, y = threadIdx.x / tile;
  for (uint64_t first = blockIdx.x * static_cast<uint64_t>(tile); first < rows;
       first += gridDim.x * static_cast<uint64_t>(tile)) {
    const uint64_t row = first + x;
    uint32_t m = 0;
    for (uint64_t c = y; row < rows && c < columns; c += tile_lines)
      m = max(m, magnitude(element_at<T>(source, row * row_stride + c * column_stride, aligned)));
    most[y][x] = m;
    __syncthreads();
    if (y == 0) {
      for (uint32_t line = 1; line < tile_lines; ++line) m = max(m, most[line][x]);
      row_scale s = {0.0f, 0.0f};
      if (row < rows) {
        s = scale_of(m, row, true, bad_row);
        scales[row] = s.scale;
      }
      inverse[x] = s.inverse;
    }
    __syncthreads();
    for (uint64_t left = 0; left < columns; left += tile) {
      for (uint32_t line = y; line < tile; line += tile_lines)
        if (row < rows && left + line < columns)
          turned[x][line] = code_of(
              to_float(element_at<T>(source, row * row_stride + (left + line) * column_stride, aligned)), inverse[x]);
      __syncthreads();
      for (uint32_t line = y; line < tile; line += tile_lines)
        if (first + line < rows && left + x < columns) codes[(first + line) * columns + left + x] = turned[line][x];
      __syncthreads();
    }
  }
}

constexpr uint64_t most_blocks = 1u << 20;

inline uint32_t whole_warps(uint64_t at_least) { return static_cast<uint32_t>(ceil_div(at_least, 32) * 32); }

template <class T>
int quantize(uint64_t rows, uint64_t columns, const void* source, uint64_t row_stride, uint64_t column_stride,
             int8_t* codes, float* scales, uint32_t* bad_row, void* stream) {
  const auto* from = static_cast<const uint8_t*>(source);
  const bool aligned = is_aligned(source, sizeof(T));
  const uint64_t blocks = rows < most_blocks ? rows : most_blocks;
  if (columns > 1 && row_stride < column_stride)
    return launch(quantize_by_column<T>, ceil_div(blocks, tile), tile * tile_lines, stream, rows, columns, from,
                  row_stride, column_stride, aligned, codes, scales, bad_row);
  const uint64_t packs = ceil_div(columns * sizeof(T), 16);
  const auto held = [&](auto kernel, uint32_t vectors) {
    return launch(kernel, blocks, whole_warps(ceil_div(packs, vectors)), stream, rows, columns,
                  reinterpret_cast<const T*>(from), row_stride, codes, scales, bad_row);
  };
  // Blocks of about 256 threads: enough bytes in flight, and barriers that wait for few.
  if (aligned && column_stride == 1) {
    if (packs <= 256) return held(quantize_held<T, 1>, 1);
    if (packs <= 512) return held(quantize_held<T, 2>, 2);
    if (packs <= 2048) return held(quantize_held<T, 4>, 4);
    if (packs <= 8192) return held(quantize_held<T, 8>, 8);
  }
  return launch(quantize_twice<T>, blocks, whole_warps(columns < 1024 ? columns : 1024), stream, rows, columns, from,
                row_stride, column_stride, aligned, codes, scales, bad_row);
}

}  // namespace
}  // namespace berth_cuda

extern "C" int berth_cuda_quantize(uint64_t rows, uint64_t columns, int from, const void* source, uint64_t row_stride,
                                   uint64_t column_stride, int8_t* codes, float* scales, uint32_t* bad_row,
                                   void* stream) {
  using namespace berth_cuda;
  if (rows == 0) return cudaSuccess;
  if (columns == 0) return berth_cuda_fill(scales, 0, rows * sizeof(float), stream);
  switch (from) {
    case BERTH_CUDA_F32:
      return quantize<float>(rows, columns, source, row_stride, column_stride, codes, scales, bad_row, stream);
    case BERTH_CUDA_F16:
      return quantize<f16>(rows, columns, source, row_stride, column_stride, codes, scales, bad_row, stream);
    case BERTH_CUDA_BF16:
      return quantize<bf16>(rows, columns, source, row_stride, column_stride, codes, scales, bad_row, stream);
    default:
      return cudaErrorInvalidValue;
  }
}
