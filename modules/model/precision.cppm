// SPDX-License-Identifier: Apache-2.0
module;

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

export module berth.model:precision;

import berth.base;
import :tree;

export namespace berth {

/// Bytes that each tensor of a tree takes on its device, parallel to `tree.parameters()` and `tree.buffers()`.
struct tensor_sizes {
  std::vector<bytes> parameters;
  std::vector<bytes> buffers;
};

/// How weights are stored on the device, where that differs from the tree's own dtypes.
struct precision {
  /// Load dtype: floating parameters and buffers are converted to it (integers, bool and complex are not).
  std::optional<dtype> load;
  /// Prefix of a dotted name -> dtype; the longest prefix wins and beats `load`.
  std::vector<std::pair<std::string, dtype>> overrides;
  /// LLM.int8: the weight of every Linear and Conv1D that is not skipped becomes 1 byte per element plus an f32
  /// scale per output row. Source of the rule: bitsandbytes' Int8Params (CB and SCB).
  bool int8 = false;
  /// Module names (prefixes at a dot) that int8 leaves alone. Without a list: the output embedding and tied modules.
  std::optional<std::vector<std::string>> int8_skip;
};

/// Largest error of one weight under the int8 rule, as a share of the largest magnitude in its row. Row-wise absmax:
/// the scale of a row is absmax / 127, and rounding to the nearest integer is off by at most half a step, scale / 2 =
/// absmax / 254. Source: bitsandbytes' LLM.int8 without outlier columns (Dettmers et al. 2022, vector-wise
/// quantization). It bounds weights, not the model's output.
inline constexpr double int8_relative_bound = 1.0 / 254;

/// The same in words, to be stated with a plan that stores weights in int8.
inline constexpr std::string_view int8_bound_statement =
    "int8 weights: each is off by at most 1/254 (0.394 %) of the largest magnitude in its row";

/// True if `prefix` is `name` or ends at a dot boundary of it; "" is a prefix of everything.
constexpr bool is_dotted_prefix(std::string_view prefix, std::string_view name) {
  if (prefix.empty()) return true;
  if (name.substr(0, prefix.size()) != prefix) return false;
  return name.size() == prefix.size() || name[prefix.size()] == '.';
}

/// Sizes of all tensors of `tree` in its own dtypes.
tensor_sizes native_sizes(const module_tree& tree);

/// Applies `p` to `sizes` (as stored: from `native_sizes`, or from checkpoint headers). A tensor whose stored size is
/// not elements x dtype is quantised already and is left alone. Error: an override that matches no tensor.
result<tensor_sizes> apply_precision(const module_tree& tree, tensor_sizes sizes, const precision& p);

/// How a tensor lies on its device.
struct tensor_form {
  dtype type = dtype::f32;  ///< of its elements; of codes: of the floats that they stand for
  /// LLM.int8: `rows` f32 scales, then as many rows of codes, one byte per element.
  bool int8 = false;
  bool by_column = false;  ///< a row of codes is a column of the tensor (Conv1D keeps [in, out])
  std::uint64_t rows = 0;  ///< of codes
  bool packed = false;     ///< quantised already in the checkpoint: its bytes, and its companions', as they are stored
  friend bool operator==(const tensor_form&, const tensor_form&) = default;
};
/// Parallel to `tree.parameters()` and `tree.buffers()`.
struct tensor_forms {
  std::vector<tensor_form> parameters, buffers;
};
/// What `p` makes of tensors that are stored with `sizes`; `apply_precision` says how large they become. Errors as
/// there.
result<tensor_forms> apply_forms(const module_tree& tree, const tensor_sizes& sizes, const precision& p);

/// A precision in words, for a plan that says how its weights are stored: "" as they are, "bfloat16", "int8",
/// "bfloat16 int8 model.norm=float32 skip=lm_head". `precision_from` reads it back; nothing if it is no such text.
std::string words_of(const precision& p);
std::optional<precision> precision_from(std::string_view words);

/// Names of the modules that `p.int8` converts, in tree order.
std::vector<std::string> int8_modules(const module_tree& tree, const precision& p);

}  // namespace berth
