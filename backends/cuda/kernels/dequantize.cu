// SPDX-License-Identifier: Apache-2.0
// Codes and scales back to numbers.
#include "kernels.h"
#include "launch.cuh"
#include "numbers.cuh"

namespace berth_cuda {
namespace {

constexpr uint32_t threads = 256;

/// Eight codes per thread where rows allow it (`count` 8), one where not.
template <class To, int count>
__global__ void dequantize_rows(uint64_t groups, uint64_t columns, const int8_t* codes, const float* scales,
                                To* target) {
  const uint64_t group = static_cast<uint64_t>(blockIdx.x) * threads + threadIdx.x;
  if (group >= groups) return;
  const uint64_t first = group * static_cast<uint64_t>(count);
  const float unit = __fdiv_rn(scales[first / columns], 127.0f);
  union {
    uint2 raw;
    int8_t code[8];
  } in;
  if (count == 8)
    in.raw = __ldcs(reinterpret_cast<const uint2*>(codes + first));
  else
    in.code[0] = codes[first];
  constexpr int parts = count == 8 ? static_cast<int>(sizeof(To)) / 2 : 1;
  sixteen_bytes<To> out[parts];
#pragma unroll
  for (int i = 0; i < count; ++i)
    round_to(__fmul_rn(static_cast<float>(in.code[i]), unit),
             out[i / sixteen_bytes<To>::count].element[i % sixteen_bytes<To>::count]);
  if (count == 8) {
#pragma unroll
    for (int p = 0; p < parts; ++p) __stcs(reinterpret_cast<uint4*>(target + first) + p, out[p].raw);
  } else {
    target[first] = out[0].element[0];
  }
}

template <class To>
int dequantize(uint64_t rows, uint64_t columns, const int8_t* codes, const float* scales, void* target, void* stream) {
  auto* to = static_cast<To*>(target);
  const uint64_t all = rows * columns;
  if (columns % 8 == 0 && is_aligned(codes, 8) && is_aligned(to, 16))
    return launch(dequantize_rows<To, 8>, ceil_div(all / 8, threads), threads, stream, all / 8, columns, codes, scales,
                  to);
  return launch(dequantize_rows<To, 1>, ceil_div(all, threads), threads, stream, all, columns, codes, scales, to);
}

}  // namespace
}  // namespace berth_cuda

extern "C" int berth_cuda_dequantize(uint64_t rows, uint64_t columns, const int8_t* codes, const float* scales, int to,
                                     void* target, void* stream) {
  using namespace berth_cuda;
  switch (to) {
    case BERTH_CUDA_F32:
      return dequantize<float>(rows, columns, codes, scales, target, stream);
    case BERTH_CUDA_F16:
      return dequantize<f16>(rows, columns, codes, scales, target, stream);
    case BERTH_CUDA_BF16:
      return dequantize<bf16>(rows, columns, codes, scales, target, stream);
    default:
      return cudaErrorInvalidValue;
  }
}
