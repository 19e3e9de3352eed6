// SPDX-License-Identifier: Apache-2.0
module;

#ifdef BERTH_CUDA_KERNELS
#include "kernels/kernels.h"
#endif

#include <cstddef>
#include <cstdint>

module berth.cuda;

import berth.base;

namespace berth::cuda {

#ifdef BERTH_CUDA_KERNELS

static_assert(kernel_type(dtype::f32) == BERTH_CUDA_F32 && kernel_type(dtype::f16) == BERTH_CUDA_F16);
static_assert(kernel_type(dtype::bf16) == BERTH_CUDA_BF16 && kernel_type(dtype::f64) == BERTH_CUDA_F64);
static_assert(kernel_type(dtype::i8) == BERTH_CUDA_I8 && kernel_type(dtype::u8) == BERTH_CUDA_U8);
static_assert(kernel_type(dtype::i32) == BERTH_CUDA_I32);

result<const kernel_table*> kernels() {
  static constexpr kernel_table table{&berth_cuda_convert,
                                      &berth_cuda_quantize,
                                      &berth_cuda_dequantize,
                                      &berth_cuda_product_w8a16,
                                      &berth_cuda_product_bf16,
                                      &berth_cuda_product_int8,
                                      &berth_cuda_product_int8_workspace,
                                      &berth_cuda_copy,
                                      &berth_cuda_fill,
                                      &berth_cuda_idle};
  return &table;
}

#else

result<const kernel_table*> kernels() {
  return fail(errc::unavailable, "CUDA kernels",
              "this build has none; install the CUDA toolkit (nvcc, cudart) and configure with -DBERTH_CUDA=ON");
}

#endif

}  // namespace berth::cuda
