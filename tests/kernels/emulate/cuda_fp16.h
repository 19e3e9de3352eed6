// SPDX-License-Identifier: Apache-2.0
// What the kernels take from <cuda_fp16.h>, for the emulation: exact, from the definitions of IEEE 754.
#pragma once

#include "device.hpp"

struct __half {
  uint16_t bits;
};

inline __half __ushort_as_half(uint16_t bits) { return {bits}; }
inline uint16_t __half_as_ushort(__half h) { return h.bits; }
float __half2float(__half h);
__half __float2half_rn(float v);
