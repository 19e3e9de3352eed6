// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>

export module berth.runtime:cpu_transforms;

import berth.base;
import berth.exec;

export namespace berth {

/// Carries transforms out on the CPU, on the thread that runs the launch: what host memory is filled with, and what
/// stands in for a GPU's kernels where a host machine rehearses it. Conversions go through f32 and round to nearest,
/// ties to even, as torch does; between equal dtypes elements are moved unchanged. Rows are quantized by the LLM.int8
/// rule. Neither source nor target need be aligned. Precondition: `has_transform(t.kind, t.from, t.to)`.
transform_engine cpu_transforms();

/// What the CPU can do: conversions among f64, f32, f16, bf16 and the 8-bit floats, moves of any whole-byte dtype,
/// quantization of f32, f16 and bf16.
bool has_transform(transform_kind kind, dtype from, dtype to);

}  // namespace berth
