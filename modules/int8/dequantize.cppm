// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>

export module berth.int8:dequantize;

import berth.base;
import :instruction_path;

export namespace berth::int8 {

/// Rows of codes with a scale each, as `quantize_rows` makes them: codes[r * columns + i], scales[r].
struct code_matrix {
  const std::int8_t* codes = nullptr;
  const float* scales = nullptr;
  std::uint64_t rows = 0, columns = 0;
};

/// What one step of a code stands for: scale / 127, rounded to f32.
constexpr float step_of(float scale) { return scale / 127.0f; }

/// Writes the floats that the codes stand for, code x (scale / 127), row by row without gaps: two roundings to f32,
/// then one to `to` (f16 and bf16: nearest, ties to even; above 65519 f16 becomes infinity).
/// Every weight w of a row with largest magnitude m comes back within m / 254 and those roundings (in f32 3 x 2^-24
/// of m).
void dequantize_rows(const code_matrix& m, std::byte* target, dtype to, instruction_path path = best_path());

}  // namespace berth::int8
