// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

export module berth.formats:quantization;

import berth.model;
import :conversion;
import :json;

export namespace berth {

/// How the weight of one Linear is stored.
enum class weight_encoding : std::uint8_t {
  plain,     ///< not quantized
  bnb_int8,  ///< bitsandbytes LLM.int8
  bnb_4bit,  ///< bitsandbytes nf4 or fp4
  gptq,
  awq,
  fp8,  ///< one scale per tensor, or per block
  mxfp4,
  mxfp8,
  nvfp4,
  int_grouped,    ///< compressed-tensors integers with a scale per group, channel or tensor
  float_channel,  ///< compressed-tensors float8
  mlx,
  unknown,  ///< a method whose sizes are not known here
};

/// "bitsandbytes int8", "GPTQ" ...
std::string_view describe(weight_encoding e);

/// Encoding with the numbers that decide its size.
struct weight_format {
  weight_encoding encoding = weight_encoding::plain;
  unsigned bits = 16;
  std::uint64_t group = 0;      ///< weights along `in` that share a scale; 0: the whole row
  std::uint64_t block_out = 0;  ///< fp8 blocks: rows and columns that share a scale; 0: the whole tensor
  std::uint64_t block_in = 0;
  bool double_quantized = false;   ///< bitsandbytes 4-bit: the scales are quantized too
  bool symmetric = true;           ///< no zero points
  bool packed = false;             ///< compressed-tensors: packed into 32-bit words, with the shape beside
  bool one_scale = false;          ///< compressed-tensors: one scale for the tensor
  unsigned activation_scales = 0;  ///< float32 scalars for the input
  friend bool operator==(const weight_format&, const weight_format&) = default;
};

/// How the names of modules that stay as they are, are written.
enum class skip_style : std::uint8_t {
  transformers,  ///< regular expression at the start, or plain text at the end
  wildcard,      ///< whole name with "*", a plain name also covers its children
  expression,    ///< whole name, class name, or "re:" and an expression at the start
  contains,      ///< plain text anywhere in the name
};

/// A checkpoint's quantization as its config states it.
struct quantization {
  std::string method;  ///< "bitsandbytes", "gptq", "fp8", "modelopt", "mlx" ...
  std::string source;  ///< where it was found: "quantization_config", "text_config.quantization_config" ...
  weight_format format;
  /// Modules with a format of their own, by checkpoint name; a name covers its children.
  std::vector<std::pair<std::string, weight_format>> overrides;
  std::vector<std::string> skip;  ///< modules that are not converted
  skip_style style = skip_style::transformers;
  bool default_skip = false;    ///< no list was given: the method's own rule holds (head and tied modules stay)
  bool experts_only = false;    ///< only stacked experts are converted
  bool embeddings_too = false;  ///< embeddings are converted as well
  std::optional<unsigned> kv_cache_bits;  ///< element bits of the KV cache if the config quantizes it
  std::vector<std::string> warnings;
};

/// Finds and reads the quantization of a checkpoint: `quantization_config` at the top level or in the text model's
/// config, `quantization` (MLX), else the hf_quant_config.json document. Either pointer may be null. Nothing if the
/// checkpoint is not quantized. Errors: `malformed` if a member has the wrong type.
result<std::optional<quantization>> read_quantization(const json::value* config, const json::value* document,
                                                      std::string_view what);

/// Bytes of one Linear's weight of shape [out, in] with everything stored beside it, or nothing for encodings whose
/// size is not known. `has_bias`: the Linear has a bias of its own (GPTQ stores one in any case). Code books and
/// the JSON state of bitsandbytes 4-bit are `encoding_overhead`.
std::optional<bytes> encoded_bytes(const weight_format& f, std::uint64_t out, std::uint64_t in, unsigned scale_bytes,
                                   bool has_bias);

/// What bitsandbytes 4-bit stores once per Linear besides: code books exactly, and a JSON text of about 170 bytes.
bytes encoding_overhead(const weight_format& f);

/// Sizes of a tree's tensors under a quantization.
struct quantized_tree {
  tensor_sizes sizes;                  ///< tied names repeat their size
  bytes total = 0;                     ///< persistent tensors, each storage once
  bytes overhead = 0;                  ///< estimated, not in `total`
  std::vector<std::string> converted;  ///< tree names of the weights that are quantized
};

/// Computes what each tensor of a tree takes as stored under `q`: which Linear weights (and stacked experts) are
/// converted and how large they are; everything else keeps its dtype. If the names of stored tensors are known, they
/// decide: a weight with scales or other companions is converted, one without is not. Error: `unsupported` for an
/// unknown method. Linear in tensors times skip patterns.
result<quantized_tree> quantized_sizes(const module_tree& tree, const quantization& q, const name_map* names = nullptr);

}  // namespace berth
