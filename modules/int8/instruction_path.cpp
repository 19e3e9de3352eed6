// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>

module berth.int8;

namespace berth::int8 {

bool is_available(instruction_path p) {
  if (p == instruction_path::portable) return true;
#if defined(__x86_64__)
  if (p == instruction_path::avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

instruction_path best_path() {
  if (is_available(instruction_path::avx512)) return instruction_path::avx512;
  return is_available(instruction_path::avx2) ? instruction_path::avx2 : instruction_path::portable;
}

}  // namespace berth::int8
