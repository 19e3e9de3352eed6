// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

export module berth.formats:bitsandbytes;

import berth.model;
import :checkpoint;
import :json;
import :model_file;
import :safetensors_write;

export namespace berth {

/// What becomes of one stored tensor.
struct int8_part {
  std::uint32_t stored = 0;  ///< index into `checkpoint::tensors`
  bool quantized = false;    ///< false: copied as it is
  /// Of quantized ones: rows that share a scale, and their length. With `by_column` they are the columns of the stored
  /// matrix (Conv1D keeps [in, out]); the codes are written [out, in] in any case, as bitsandbytes does.
  bool by_column = false;
  std::uint64_t rows = 0, columns = 0;
  /// Where it goes: file, and the number of its first tensor there; quantized ones take three (codes, scales, format).
  std::uint32_t shard = 0;
  std::uint32_t first = 0;
};

/// A bitsandbytes LLM.int8 checkpoint to be written: per quantized Linear `weight` I8 [out, in], `SCB` F32 [out] and
/// `weight_format` U8, a scalar 0 (row by row); everything else as it was.
struct int8_checkpoint {
  std::vector<int8_part> parts;  ///< parallel to `checkpoint::tensors`
  std::vector<std::vector<tensor_outline>> shards;
  json::value config;         ///< with its `quantization_config`
  std::size_t quantized = 0;  ///< weights
  bytes bytes_before = 0, bytes_after = 0;
};

struct int8_options {
  /// As `precision::int8_skip`: without a list the head and tied modules stay.
  std::optional<std::vector<std::string>> skip;
  bytes max_shard = 5 * GiB;  ///< largest file, but for a tensor that is larger by itself
};

/// Decides which weights of a checkpoint become int8 (`int8_modules`: those of Linear and Conv1D) and which file takes
/// them. A weight that is stored in parts (projections joined in the model) is quantized part by part, which gives the
/// same rows. Stays as it is: what is stored in another dtype than f32, f16, bf16, and stacked experts; their names are
/// added to the skip list, so that other readers expect the same. Errors: `unsupported` for checkpoints that are
/// quantized already, or without headers or config; `invalid_argument` if nothing is left to quantize, or a skipped
/// name is no module. Linear in the number of tensors.
result<int8_checkpoint> plan_int8_checkpoint(const loaded_model& model, const int8_options& options = {});

}  // namespace berth
