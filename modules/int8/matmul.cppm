// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

export module berth.int8:matmul;

import berth.base;
import :dequantize;
import :instruction_path;

export namespace berth::int8 {

/// The threshold of LLM.int8: activations from this magnitude on are multiplied in floats.
inline constexpr float default_threshold = 6.0f;

/// Activations taken apart: codes with a scale per row, and the columns that stay floats.
struct split_activations {
  std::span<std::int8_t> codes;              ///< rows x columns
  std::span<float> scales;                   ///< rows
  std::span<std::uint32_t> outlier_columns;  ///< room for all columns; shortened to those found, ascending
};

/// Takes `rows` x `columns` activations apart (Dettmers et al. 2022, as bitsandbytes does it). Entries with
/// |a| >= threshold are outliers (0: there are none); so is a NaN. A column with an outlier is an outlier column.
///   scales[r] = max |a[r, i]| over entries that are no outliers, 0 if there are none
///   codes[r, i] = rint(a[r, i] x (127 / scales[r])), ties to even; 0 in outlier columns
/// A row whose 127 / scale is not finite counts as zeros. With threshold 0 a row that holds a NaN or an infinity gets
/// scale NaN and codes 0, so that its products are NaN. Error: `capacity` if a span is too small or there are 2^32
/// columns.
result<done> split(const float* a, std::uint64_t rows, std::uint64_t columns, float threshold, split_activations& out,
                   instruction_path path = best_path());

/// out[t] = sum over i of w[i] x a[t, i], in integers: one row of weight codes with `tokens` rows of activation codes.
/// Precondition: at most 2^17 columns, so that no sum leaves 32 bits.
void multiply_codes(const std::int8_t* w, const std::int8_t* a, std::uint64_t tokens, std::uint64_t columns,
                    std::int32_t* out, instruction_path path = best_path());

/// Room that `matmul` needs for one call.
struct matmul_scratch {
  split_activations activations;
  std::span<std::int32_t> sums;  ///< one per token
};

/// LLM.int8 product y = a W^T + bias; a[tokens][columns], y[tokens][rows of W], in f32 (`narrow` gives 16 bits):
///   y = sums x a.scale x w.scale / 127^2  +  sum over outlier columns of a x code x (w.scale / 127)
/// The integer part is exact; the rest is f32 in a fixed order, the same on every path. Errors: `capacity` as `split`,
/// or for more than 2^17 columns (131072), from which 32-bit sums could overflow.
result<done> matmul(const float* a, std::uint64_t tokens, const code_matrix& w, float threshold, const float* bias,
                    float* y, matmul_scratch scratch, instruction_path path = best_path());

}  // namespace berth::int8
