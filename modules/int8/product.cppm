// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>

export module berth.int8:product;

import berth.base;
import :dequantize;
import :instruction_path;

export namespace berth::int8 {

/// y = x W^T with int8 weights and float activations (W8A16: `widen` 16-bit activations first): x[tokens][columns],
/// y[tokens][rows], both row by row without gaps,
///   y[t][r] = (sum over i of codes[r][i] x x[t][i]) x (scales[r] / 127) + bias[r].
/// Sums are f32 in 32 partial sums that are added in a fixed order, without fused multiply-adds: the same bits on every
/// path, and for every number of tokens. Codes are read once per 4 tokens, so this is for decoding and short prompts.
/// `bias` may be null. Threads may share it by rows of the weights, if `y` has room of its own for each.
void multiply_weights(const code_matrix& weights, const float* x, std::uint64_t tokens, const float* bias, float* y,
                      instruction_path path = best_path());

}  // namespace berth::int8
