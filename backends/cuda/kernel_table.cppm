// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>

export module berth.cuda:kernel_table;

import berth.base;

export namespace berth::cuda {

/// The kernels of this library behind plain C functions; `kernels()` fills it, tests fill it with their own. What they
/// do, and the numbers of the types: kernels/kernels.h. Each enqueues on `stream` and returns a `cudaError_t`, 0 on
/// success. No member is null.
struct kernel_table {
  int (*convert)(std::uint64_t rows, std::uint64_t columns, int from, const void* source,
                 std::uint64_t source_row_stride, std::uint64_t source_column_stride, int to, void* target,
                 std::uint64_t target_row_stride, std::uint64_t target_column_stride, void* stream);
  int (*quantize)(std::uint64_t rows, std::uint64_t columns, int from, const void* source, std::uint64_t row_stride,
                  std::uint64_t column_stride, std::int8_t* codes, float* scales, std::uint32_t* bad_row, void* stream);
  int (*dequantize)(std::uint64_t rows, std::uint64_t columns, const std::int8_t* codes, const float* scales, int to,
                    void* target, void* stream);
  int (*product_w8a16)(std::uint64_t rows, std::uint64_t columns, const std::int8_t* codes, const float* scales,
                       std::uint64_t tokens, int input_type, const void* input, int output_type, void* output,
                       void* stream);
  int (*product_bf16)(std::uint64_t rows, std::uint64_t columns, const void* weights, std::uint64_t tokens,
                      int input_type, const void* input, int output_type, void* output, void* stream);
  int (*product_int8)(std::uint64_t rows, std::uint64_t columns, const std::int8_t* codes, const float* scales,
                      std::uint64_t tokens, float threshold, int input_type, const void* input, int output_type,
                      void* output, void* workspace, void* stream);
  std::size_t (*product_int8_workspace)(std::uint64_t tokens, std::uint64_t columns);
  int (*copy)(const void* source, void* target, std::size_t size, void* stream);
  int (*fill)(void* target, std::uint32_t word, std::size_t size, void* stream);
  int (*idle)(void* stream);
};

/// The kernels of this build. Error: `unavailable` if it has none (names the option).
result<const kernel_table*> kernels();

/// The number of an element type in kernels.h; -1 for types that the kernels only move.
constexpr int kernel_type(dtype t) {
  switch (t) {
    case dtype::f32:
      return 0;
    case dtype::f16:
      return 1;
    case dtype::bf16:
      return 2;
    case dtype::f64:
      return 3;
    case dtype::i8:
      return 4;
    case dtype::u8:
      return 5;
    case dtype::i32:
      return 6;
    default:
      return -1;
  }
}

}  // namespace berth::cuda
