// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>

export module berth.cuda:transforms;

import berth.base;
import berth.exec;
import :kernel_table;

export namespace berth::cuda {

/// Carries transforms out on a GPU: each is a kernel enqueued on the launch's native stream, on addresses of that GPU
/// (`bad_row`: pinned host memory). The table must outlive the engine. A refused launch shows as the thread's last CUDA
/// error, which `machine::launch` reports. Precondition: `has_transform(t.kind, t.from, t.to)`.
transform_engine cuda_transforms(const kernel_table& kernels);

/// What the kernels can do: conversions of f64, f32, f16, bf16, i8, u8 and i32 to the first four, moves of whole-byte
/// dtypes of at most 64 bits, quantization of f32, f16 and bf16.
bool has_transform(transform_kind kind, dtype from, dtype to);

}  // namespace berth::cuda
