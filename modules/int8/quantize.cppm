// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

export module berth.int8:quantize;

import berth.base;
import :instruction_path;

export namespace berth::int8 {

/// A matrix of floats somewhere in memory, seen as the rows that share a scale. Strides are in elements, so that the
/// columns of a stored matrix can be the rows (Conv1D keeps [in, out]: row stride 1, column stride `out`).
struct float_matrix {
  dtype type = dtype::f32;  ///< f32, f16 or bf16
  const std::byte* data = nullptr;
  std::uint64_t rows = 0, columns = 0;
  std::uint64_t row_stride = 0, column_stride = 1;
};

enum class row_fault : std::uint8_t {
  not_finite,          ///< a NaN or an infinity
  scale_out_of_range,  ///< 127 / absmax is no finite f32: the largest magnitude is below 3.74e-37, yet not zero
};
/// The least row that cannot be quantised, and why.
struct bad_row {
  std::uint64_t row = 0;
  row_fault fault = row_fault::not_finite;
  friend bool operator==(const bad_row&, const bad_row&) = default;
};

/// Row-wise absmax, bit for bit the rule of bitsandbytes' LLM.int8 weights (CB and SCB):
///   scales[r] = max |w[r, :]|,  codes[r, i] = rint(w[r, i] x (127 / scales[r]))
/// in f32 with every operation rounded, ties to even, so codes lie in [-127, 127]. A row of zeros has scale 0 and codes
/// 0. Codes lie row by row without gaps. Returns the least bad row, if there is one; rows before it are complete, the
/// rest of the output is unspecified. Reads the source twice, allocates nothing. Rows are independent: threads may
/// share a matrix by rows.
std::optional<bad_row> quantize_rows(const float_matrix& m, std::int8_t* codes, float* scales,
                                     instruction_path path = best_path());

/// The same rule as it is written, one element after the other: what every path and every GPU kernel is compared with.
std::optional<bad_row> quantize_rows_reference(const float_matrix& m, std::int8_t* codes, float* scales);

/// The error to return for a bad row of `tensor`: `unsupported`, naming both.
failure failure_of(const bad_row& row, std::string_view tensor);

}  // namespace berth::int8
