// SPDX-License-Identifier: Apache-2.0
// What a tensor is for the cost formulas: a matrix, a table of rows, or neither; and the arithmetic it is used in.
module;

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

module berth.model:tensor_facts;

import berth.base;
import :roles;
import :tree;

namespace berth {

constexpr bool is_table_class(std::string_view class_name) { return class_name.find("Embedding") != class_name.npos; }

/// Read one row per token: embeddings of tokens, positions and token types.
inline bool is_row_table(const tensor& t, const module_node& owner) {
  return t.shape.size() == 2 && is_table_class(owner.class_name);
}

/// Multiplied with activations: weights of Linear-like and convolution modules, stacked experts, packed weights.
/// Biases, norms (also per-head ones of rank 2), positions and elementwise parameters such as A_log are not.
inline bool is_matrix(const tensor& t, const module_node& owner) {
  constexpr std::array<std::string_view, 5> ends{"weight", "proj", "qweight", "weight_packed", "_blocks"};
  if (t.shape.size() < 2 || is_table_class(owner.class_name)) return false;
  if (owner.class_name.find("Norm") != std::string::npos) return false;
  return ends_in_one_of(t.local_name(), ends);
}

/// Weights in the matrix: packed integers hold 4-bit weights (GPTQ, AWQ, bitsandbytes nf4, MXFP4, MLX at 4 bits).
inline double logical_elements(const tensor& t) {
  const auto n = static_cast<double>(t.elements);
  return is_floating(t.type) || t.type == dtype::i8 ? n : n * bits_of(t.type) / 4;
}

/// Rows of a table kept as a buffer (rotary tables, masks): everything but the last dimension.
inline std::uint64_t table_rows(const tensor& t) {
  if (t.shape.size() < 2 || t.shape.back() == 0) return 1;
  return std::max<std::uint64_t>(1, t.elements / t.shape.back());
}

/// Arithmetic in which a matrix stored in `size` bytes is multiplied. Floats of 16 bits and more multiply as they are,
/// fp8 stays fp8; int8 and 4-bit weights are converted to half precision before the product (W8A16). What a size alone
/// says: 4, 2 or 1 bytes per element are f32, half and fp8; 1 byte and an f32 scale per output row is the int8 rule,
/// 1 byte and a scale per tensor or per 128 x 128 block is fp8.
inline dtype compute_type(const tensor& t, bytes size) {
  const dtype half = t.type == dtype::f16 ? dtype::f16 : dtype::bf16;
  if (!is_floating(t.type) || t.elements == 0) return half;
  if (size == t.size()) return bits_of(t.type) >= 8 && t.type != dtype::f8_e8m0 ? t.type : half;
  if (size == 4 * t.elements) return dtype::f32;
  if (size == 2 * t.elements) return half;
  if (size < t.elements || t.shape.size() < 2) return half;
  const auto scales = size - t.elements;
  const auto rows = t.shape[t.shape.size() - 2], columns = t.shape.back();
  if (scales == 4 * rows || scales == 4 * columns) return half;
  const auto blocks = t.elements / (rows * columns) * ((rows + 127) / 128) * ((columns + 127) / 128);
  return scales <= 8 || scales == 4 * blocks ? dtype::f8_e4m3 : half;
}

}  // namespace berth
