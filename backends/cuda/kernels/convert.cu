// SPDX-License-Identifier: Apache-2.0
// Elements to other types and other places. Three ways, all at the rate of the memory: long runs 16 bytes at a time;
// one element per thread where both sides run the same way; tiles turned over in shared memory where they do not.
#include "kernels.h"
#include "launch.cuh"
#include "numbers.cuh"

namespace berth_cuda {
namespace {

constexpr uint32_t threads = 256, tile = 32, tile_lines = threads / tile;

/// Where the elements of a matrix lie; `columns` is the way in which the target's elements follow each other.
struct placement {
  uint64_t rows, columns;
  uint64_t from_row, from_column, to_row, to_column;
};

/// Elements that a thread converts at once: 16 bytes of the narrower type.
template <class From, class To>
constexpr int run = 16 / static_cast<int>(sizeof(From) < sizeof(To) ? sizeof(From) : sizeof(To));

template <class From, class To>
__global__ void convert_runs(uint64_t runs, const uint4* source, uint4* target) {
  constexpr int length = run<From, To>;
  constexpr int in_parts = length / sixteen_bytes<From>::count, out_parts = length / sixteen_bytes<To>::count;
  const uint64_t at = static_cast<uint64_t>(blockIdx.x) * threads + threadIdx.x;
  if (at >= runs) return;
  sixteen_bytes<From> in[in_parts];
  sixteen_bytes<To> out[out_parts];
#pragma unroll
  for (int p = 0; p < in_parts; ++p) in[p].raw = __ldcs(source + at * in_parts + p);
#pragma unroll
  for (int i = 0; i < length; ++i)
    out[i / sixteen_bytes<To>::count].element[i % sixteen_bytes<To>::count] =
        cast<To, From>::of(in[i / sixteen_bytes<From>::count].element[i % sixteen_bytes<From>::count]);
#pragma unroll
  for (int p = 0; p < out_parts; ++p) __stcs(target + at * out_parts + p, out[p].raw);
}

template <class From, class To>
__global__ void convert_each(placement m, const uint8_t* source, bool aligned, To* target) {
  const uint64_t all = m.rows * m.columns;
  for (uint64_t i = static_cast<uint64_t>(blockIdx.x) * threads + threadIdx.x; i < all;
       i += static_cast<uint64_t>(gridDim.x) * threads) {
    const uint64_t row = i / m.columns, column = i % m.columns;
    target[row * m.to_row + column * m.to_column] =
        cast<To, From>::of(element_at<From>(source, row * m.from_row + column * m.from_column, aligned));
  }
}

template <class From, class To>
__global__ void convert_tiles(placement m, const uint8_t* source, bool aligned, To* target) {
  __shared__ To turned[tile][tile + 1];  // one column more, or all lanes would meet in one bank
  const uint32_t x = threadIdx.x % tile, y = threadIdx.x / tile;
  const uint64_t across = (m.columns + tile - 1) / tile, tiles = across * ((m.rows + tile - 1) / tile);
  for (uint64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
    const uint64_t top = t / across * tile, left = t % across * tile;
    for (uint32_t line = y; line < tile; line += tile_lines)
      if (top + x < m.rows && left + line < m.columns)
        turned[x][line] = cast<To, From>::of(
            element_at<From>(source, (top + x) * m.from_row + (left + line) * m.from_column, aligned));
    __syncthreads();
    for (uint32_t line = y; line < tile; line += tile_lines)
      if (top + line < m.rows && left + x < m.columns)
        target[(top + line) * m.to_row + (left + x) * m.to_column] = turned[line][x];
    __syncthreads();
  }
}

constexpr uint64_t most_blocks = 1u << 20;
inline uint64_t bounded(uint64_t blocks) { return blocks < most_blocks ? blocks : most_blocks; }

template <class From, class To>
int convert(placement m, const void* source, void* target, void* stream) {
  const auto* from = static_cast<const uint8_t*>(source);
  auto* to = static_cast<To*>(target);
  const bool aligned = is_aligned(source, sizeof(From));
  if (!is_aligned(target, sizeof(To))) return cudaErrorMisalignedAddress;
  if (m.rows == 1) m.from_row = m.to_row = m.columns;
  if (m.columns == 1) m.from_column = m.to_column = 1;
  const bool gapless = m.from_column == 1 && m.to_column == 1 && m.from_row == m.columns && m.to_row == m.columns;
  if (gapless && is_aligned(source, 16) && is_aligned(target, 16)) {
    constexpr uint64_t length = run<From, To>;
    const uint64_t all = m.rows * m.columns, runs = all / length, done = runs * length;
    if (const int status = launch(convert_runs<From, To>, ceil_div(runs, threads), threads, stream, runs,
                                  reinterpret_cast<const uint4*>(from), reinterpret_cast<uint4*>(to));
        status != cudaSuccess)
      return status;
    const placement rest{1, all - done, 1, 1, 1, 1};
    return launch(convert_each<From, To>, ceil_div(rest.columns, threads), threads, stream, rest,
                  from + done * sizeof(From), aligned, to + done);
  }
  const bool along = m.from_column <= m.from_row;
  if (along)
    return launch(convert_each<From, To>, bounded(ceil_div(m.rows * m.columns, threads)), threads, stream, m, from,
                  aligned, to);
  return launch(convert_tiles<From, To>, bounded(ceil_div(m.rows, tile) * ceil_div(m.columns, tile)), threads, stream,
                m, from, aligned, to);
}

template <class From>
int convert_from(int to, const placement& m, const void* source, void* target, void* stream) {
  switch (to) {
    case BERTH_CUDA_F32:
      return convert<From, float>(m, source, target, stream);
    case BERTH_CUDA_F16:
      return convert<From, f16>(m, source, target, stream);
    case BERTH_CUDA_BF16:
      return convert<From, bf16>(m, source, target, stream);
    case BERTH_CUDA_F64:
      return convert<From, double>(m, source, target, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

/// Bits that stay as they are, by their width; 0: no such type.
inline int width_of(int type) {
  switch (type) {
    case BERTH_CUDA_I8:
    case BERTH_CUDA_U8:
    case BERTH_CUDA_BITS8:
      return 1;
    case BERTH_CUDA_F16:
    case BERTH_CUDA_BF16:
    case BERTH_CUDA_BITS16:
      return 2;
    case BERTH_CUDA_F32:
    case BERTH_CUDA_I32:
    case BERTH_CUDA_BITS32:
      return 4;
    case BERTH_CUDA_F64:
    case BERTH_CUDA_BITS64:
      return 8;
    default:
      return 0;
  }
}

int move(int type, const placement& m, const void* source, void* target, void* stream) {
  switch (width_of(type)) {
    case 1:
      return convert<uint8_t, uint8_t>(m, source, target, stream);
    case 2:
      return convert<uint16_t, uint16_t>(m, source, target, stream);
    case 4:
      return convert<uint32_t, uint32_t>(m, source, target, stream);
    case 8:
      return convert<uint64_t, uint64_t>(m, source, target, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace
}  // namespace berth_cuda

extern "C" int berth_cuda_convert(uint64_t rows, uint64_t columns, int from, const void* source,
                                  uint64_t source_row_stride, uint64_t source_column_stride, int to, void* target,
                                  uint64_t target_row_stride, uint64_t target_column_stride, void* stream) {
  using namespace berth_cuda;
  if (rows == 0 || columns == 0) return cudaSuccess;
  placement m{rows, columns, source_row_stride, source_column_stride, target_row_stride, target_column_stride};
  if (target_row_stride < target_column_stride)
    m = {columns, rows, source_column_stride, source_row_stride, target_column_stride, target_row_stride};
  if (from == to) return move(from, m, source, target, stream);
  switch (from) {
    case BERTH_CUDA_F32:
      return convert_from<float>(to, m, source, target, stream);
    case BERTH_CUDA_F16:
      return convert_from<f16>(to, m, source, target, stream);
    case BERTH_CUDA_BF16:
      return convert_from<bf16>(to, m, source, target, stream);
    case BERTH_CUDA_F64:
      return convert_from<double>(to, m, source, target, stream);
    case BERTH_CUDA_I8:
      return convert_from<int8_t>(to, m, source, target, stream);
    case BERTH_CUDA_U8:
      return convert_from<uint8_t>(to, m, source, target, stream);
    case BERTH_CUDA_I32:
      return convert_from<int32_t>(to, m, source, target, stream);
    default:
      return cudaErrorInvalidValue;
  }
}
