// SPDX-License-Identifier: Apache-2.0
// berth.int8: LLM.int8 arithmetic on the CPU. Row-wise absmax codes, back to floats, products with them. Works on the
// caller's memory and allocates nothing; rows are independent, so threads are the caller's affair too.
export module berth.int8;

export import berth.base;
export import :element;
export import :instruction_path;
export import :quantize;
export import :dequantize;
export import :product;
export import :matmul;
