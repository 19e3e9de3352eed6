// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <span>

// Not exported: elements on the CPU, one after the other.
export module berth.runtime:elements;

import berth.base;

namespace berth {

/// Writes `count` elements of dtype `to` side by side, from elements of `from` that are `stride` elements apart. Floats
/// go through f32 and are rounded to nearest, ties to even; NaN becomes the quiet NaN that torch gives. The same dtype
/// is moved bit by bit. Precondition: `is_convertible(from, to)`, or `to` is f32, or equal dtypes of whole bytes.
void convert_run(dtype from, const std::byte* source, std::uint64_t stride, dtype to, std::byte* target,
                 std::uint64_t count);

/// One row of LLM.int8 weights: the scale is the largest magnitude, codes are rint(w * (127 / scale)). False: the row
/// holds NaN or infinity, or its scale leaves the normal f32 range; nothing is said about `codes` then.
bool quantize_row(std::span<const float> row, std::byte* codes, float& scale);

}  // namespace berth
