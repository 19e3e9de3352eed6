// SPDX-License-Identifier: Apache-2.0
#ifndef BERTH_CUDA_KERNELS_H
#define BERTH_CUDA_KERNELS_H

#include <stddef.h>
#include <stdint.h>

// What berth runs on NVIDIA GPUs: plain C, so that neither side needs the other's language. Every function enqueues
// work on `stream` (a cudaStream_t; null: the default stream of the calling thread's device) and returns a cudaError_t
// as int: 0, or why nothing was enqueued. Nothing here allocates, waits, or keeps anything. Pointers are addresses that
// the device can use. Matrices lie row by row without gaps where no strides are given; strides are in elements.

#ifdef __cplusplus
extern "C" {
#endif

// Element types. The last four are bits that are moved and never looked at.
enum {
  BERTH_CUDA_F32 = 0,
  BERTH_CUDA_F16 = 1,
  BERTH_CUDA_BF16 = 2,
  BERTH_CUDA_F64 = 3,
  BERTH_CUDA_I8 = 4,
  BERTH_CUDA_U8 = 5,
  BERTH_CUDA_I32 = 6,
  BERTH_CUDA_BITS8 = 7,
  BERTH_CUDA_BITS16 = 8,
  BERTH_CUDA_BITS32 = 9,
  BERTH_CUDA_BITS64 = 10
};

// Elements of a matrix to another type and to other places. Any type to itself; f64, f32, f16, bf16, i8, u8 and i32 to
// f64, f32, f16 and bf16. Rounds to nearest, ties to even; f64 and i32 to 16 bits by way of f32, as torch does. A NaN
// stays one (in 16 bits 0x7e00 and 0x7fc0). Sources need no alignment, targets that of their type.
int berth_cuda_convert(uint64_t rows, uint64_t columns, int from, const void* source, uint64_t source_row_stride,
                       uint64_t source_column_stride, int to, void* target, uint64_t target_row_stride,
                       uint64_t target_column_stride, void* stream);

// LLM.int8 weights: scales[r] = max |row r|, codes[r, c] = rint(w * (127 / scales[r])) in f32, ties to even. A row of
// zeros has scale 0. A row with a NaN or an infinity, or whose scale or 127 / scale is no normal f32, gets zeros, and
// *bad_row (memory that the host can read, set to 0xffffffff by the caller) becomes the least such row.
// From f32, f16 and bf16.
int berth_cuda_quantize(uint64_t rows, uint64_t columns, int from, const void* source, uint64_t row_stride,
                        uint64_t column_stride, int8_t* codes, float* scales, uint32_t* bad_row, void* stream);

// target[r, c] = codes[r, c] * (scales[r] / 127) in f32, then rounded to `to`: f32, f16 or bf16.
int berth_cuda_dequantize(uint64_t rows, uint64_t columns, const int8_t* codes, const float* scales, int to,
                          void* target, void* stream);

// output[t, r] = sum over c of weight[r, c] * input[t, c] for `tokens` inputs, summed in f32; input and output are f32,
// f16 or bf16. Reads the weights once per 8 tokens. `w8a16`: weight = codes * (scales / 127).
int berth_cuda_product_w8a16(uint64_t rows, uint64_t columns, const int8_t* codes, const float* scales, uint64_t tokens,
                             int input_type, const void* input, int output_type, void* output, void* stream);
int berth_cuda_product_bf16(uint64_t rows, uint64_t columns, const void* weights, uint64_t tokens, int input_type,
                            const void* input, int output_type, void* output, void* stream);

// LLM.int8: columns in which some |input| >= threshold (0: none) are multiplied as they are; the others are quantised
// row by row as the weights are, and multiplied in integers. `workspace`: as many bytes as the function below says,
// aligned to 16. At most 133,144 columns (sums stay within 31 bits).
int berth_cuda_product_int8(uint64_t rows, uint64_t columns, const int8_t* codes, const float* scales, uint64_t tokens,
                            float threshold, int input_type, const void* input, int output_type, void* output,
                            void* workspace, void* stream);
size_t berth_cuda_product_int8_workspace(uint64_t tokens, uint64_t columns);

// For measuring: bytes copied and bytes filled at the rate of the memory, and a kernel that does nothing.
int berth_cuda_copy(const void* source, void* target, size_t size, void* stream);
int berth_cuda_fill(void* target, uint32_t word, size_t size, void* stream);
int berth_cuda_idle(void* stream);

#ifdef __cplusplus
}
#endif

#endif
