// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstdint>
#include <string_view>

export module berth.int8:instruction_path;

export namespace berth::int8 {

/// Which instructions a call may use. Every path gives the same bits: they run the same operations in the same order,
/// only on wider registers.
enum class instruction_path : std::uint8_t {
  portable,  ///< what the whole program is compiled for
  avx2,      ///< AVX2 and F16C
  avx512,    ///< AVX-512 F, BW, DQ, VL
};
inline constexpr std::array all_paths{instruction_path::portable, instruction_path::avx2, instruction_path::avx512};

/// "portable", "avx2", "avx512".
constexpr std::string_view name_of(instruction_path p) {
  return p == instruction_path::avx512 ? "avx512" : p == instruction_path::avx2 ? "avx2" : "portable";
}

/// True if this processor and this build can run `p`.
bool is_available(instruction_path p);
/// The widest available path; asks the processor's own description, costs a few loads.
instruction_path best_path();

}  // namespace berth::int8
