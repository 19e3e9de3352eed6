// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.formats;

namespace berth {
namespace {

const json::value* member(const json::value& v, std::string_view key) {
  const auto* m = v.find(key);
  return m == nullptr || m->is_null() ? nullptr : m;
}

std::string_view string_or(const json::value& v, std::string_view key, std::string_view fallback = {}) {
  const auto* m = member(v, key);
  return m != nullptr && m->if_string() ? std::string_view(*m->if_string()) : fallback;
}

bool flag(const json::value& v, std::string_view key, bool fallback = false) {
  const auto* m = member(v, key);
  return m != nullptr && m->if_bool() ? *m->if_bool() : fallback;
}

/// A count; negative numbers (GPTQ's "-1 = the whole column") and absent ones give the fallback.
std::uint64_t count_or(const json::value& v, std::string_view key, std::uint64_t fallback) {
  const auto* m = member(v, key);
  const auto n = m != nullptr ? m->to_uint64() : std::nullopt;
  return n && *n > 0 ? *n : fallback;
}

unsigned bits_or(const json::value& v, std::string_view key, unsigned fallback) {
  return static_cast<unsigned>(std::min<std::uint64_t>(count_or(v, key, fallback), 64));
}

/// Reads one quantization block; the steps share `out_`.
class block_reader {
 public:
  block_reader(const json::value& block, std::string_view source) : block_(block) { out_.source = source; }

  quantization read() {
    const auto method = string_or(block_, "quant_method");
    const auto algorithm = string_or(block_, "quant_algo");
    if (method == "bitsandbytes" || flag(block_, "load_in_8bit") || flag(block_, "load_in_4bit"))
      read_bitsandbytes();
    else if (method == "gptq" || method == "awq")
      read_grouped(method);
    else if (method == "mxfp4")
      read_mxfp4();
    else if (method == "compressed-tensors")
      read_compressed_tensors();
    else if (!algorithm.empty())
      read_modelopt(method.empty() ? "modelopt" : method, algorithm);
    else if (method == "fp8" || method == "fbgemm_fp8" || method == "modelopt")
      read_fp8(method);
    else if (method.empty() && member(block_, "bits") != nullptr && member(block_, "group_size") != nullptr)
      read_mlx();
    else
      read_unknown(method);
    read_kv_cache();
    return std::move(out_);
  }

 private:
  /// Adds the names under `key`; true if there is such a list, even an empty one.
  bool read_skip(std::string_view key) {
    const auto* list = member(block_, key);
    if (list == nullptr || list->if_array() == nullptr) return false;
    for (const auto& e : *list->if_array())
      if (e.if_string()) out_.skip.push_back(*e.if_string());
    return true;
  }

  void read_bitsandbytes() {
    out_.method = "bitsandbytes";
    const bool four = flag(block_, "load_in_4bit");
    out_.format.encoding = four ? weight_encoding::bnb_4bit : weight_encoding::bnb_int8;
    out_.format.bits = four ? 4 : 8;
    out_.format.group = four ? 64 : 0;
    out_.format.double_quantized = flag(block_, "bnb_4bit_use_double_quant");
    out_.default_skip = !read_skip("llm_int8_skip_modules");
  }

  void read_grouped(std::string_view method) {
    out_.method = method;
    out_.format.encoding = method == "gptq" ? weight_encoding::gptq : weight_encoding::awq;
    out_.format.bits = bits_or(block_, "bits", bits_or(block_, "w_bit", 4));
    out_.format.group = count_or(block_, "group_size", count_or(block_, "q_group_size", 0));
    out_.style = skip_style::contains;
    read_skip("modules_to_not_convert");
    out_.default_skip = true;
    if (member(block_, "dynamic") != nullptr && member(block_, "dynamic")->if_object() != nullptr &&
        !member(block_, "dynamic")->if_object()->empty())
      out_.warnings.push_back("per-module settings under \"dynamic\" are not read; sizes from config are estimates");
  }

  void read_mxfp4() {
    out_.method = "mxfp4";
    out_.format = {.encoding = weight_encoding::mxfp4, .bits = 4, .group = 32};
    out_.experts_only = true;
    read_skip("modules_to_not_convert");
  }

  void read_fp8(std::string_view method) {
    out_.method = method;
    out_.format = {.encoding = weight_encoding::fp8, .bits = 8};
    if (const auto* block = member(block_, "weight_block_size"); block != nullptr && block->if_array() != nullptr) {
      const auto& sizes = *block->if_array();
      if (sizes.size() == 2) {
        out_.format.block_out = sizes[0].to_uint64().value_or(0);
        out_.format.block_in = sizes[1].to_uint64().value_or(0);
      }
    }
    if (string_or(block_, "activation_scheme") == "static") out_.format.activation_scales = 1;
    out_.default_skip = !read_skip("modules_to_not_convert") && !read_skip("ignored_layers");
    // A list given names what a config author thought of; the head stays in any case unless it is converted by name.
    out_.skip.emplace_back("lm_head");
  }

  static weight_format modelopt_format(std::string_view algorithm, const json::value& from) {
    if (algorithm == "FP8") return {.encoding = weight_encoding::fp8, .bits = 8, .activation_scales = 1};
    if (algorithm == "FP8_PB_WO" || algorithm == "FP8_BLOCK_SCALES")
      return {.encoding = weight_encoding::fp8, .bits = 8, .block_out = 128, .block_in = 128};
    if (algorithm == "NVFP4" || algorithm == "W4A16_NVFP4" || algorithm == "NVFP4_AWQ")
      return {.encoding = weight_encoding::nvfp4,
              .bits = 4,
              .group = count_or(from, "group_size", 16),
              .activation_scales = algorithm.starts_with("W4A16") ? 0u : 1u};
    if (algorithm == "MXFP8") return {.encoding = weight_encoding::mxfp8, .bits = 8, .group = 32};
    if (algorithm == "MXFP4" || algorithm == "W4A8_MXFP4_FP8")
      return {.encoding = weight_encoding::mxfp4, .bits = 4, .group = 32};
    return {.encoding = weight_encoding::unknown};
  }

  void read_modelopt(std::string_view method, std::string_view algorithm) {
    if (method == "fp8") read_fp8(method);
    out_.method = method;
    out_.style = skip_style::wildcard;
    if (algorithm != "MIXED_PRECISION")
      out_.format = modelopt_format(algorithm, block_);
    else if (method != "fp8")
      out_.format = {};  // only what quantized_layers lists
    if (const auto* layers = member(block_, "quantized_layers"); layers != nullptr && layers->if_object() != nullptr)
      for (const auto& m : *layers->if_object())
        out_.overrides.emplace_back(m.key, modelopt_format(string_or(m.value, "quant_algo"), m.value));
    const bool listed = read_skip("exclude_modules");
    out_.default_skip = !(read_skip("ignore") || listed);
    if (out_.default_skip) out_.skip.emplace_back("lm_head");
  }

  void read_compressed_tensors() {
    out_.method = "compressed-tensors";
    out_.style = skip_style::expression;
    read_skip("ignore");
    const auto* groups = member(block_, "config_groups");
    if (groups == nullptr || groups->if_object() == nullptr || groups->if_object()->empty()) return read_unknown("");
    bool first = true;
    for (const auto& g : *groups->if_object()) {
      const auto* weights = member(g.value, "weights");
      if (weights == nullptr) continue;
      const auto f = compressed_format(string_or(g.value, "format", string_or(block_, "format")), *weights);
      const auto* targets = member(g.value, "targets");
      const auto* names = targets != nullptr ? targets->if_array() : nullptr;
      const bool whole_class = names == nullptr || std::ranges::any_of(*names, [](const json::value& n) {
                                 return n.if_string() != nullptr && *n.if_string() == "Linear";
                               });
      if (whole_class && first) out_.format = f;
      first = first && !whole_class;
      if (!whole_class)
        for (const auto& n : *names)
          if (n.if_string()) out_.overrides.emplace_back(*n.if_string(), f);
    }
  }

  static weight_format compressed_format(std::string_view packing, const json::value& weights) {
    weight_format f;
    f.bits = bits_or(weights, "num_bits", 8);
    f.symmetric = flag(weights, "symmetric", true);
    const auto strategy = string_or(weights, "strategy");
    f.group = strategy == "group" || strategy == "tensor_group" ? count_or(weights, "group_size", 0) : 0;
    f.one_scale = strategy == "tensor";
    if (packing.starts_with("nvfp4")) return {.encoding = weight_encoding::nvfp4, .bits = 4, .group = 16};
    if (packing.starts_with("mxfp4")) return {.encoding = weight_encoding::mxfp4, .bits = 4, .group = 32};
    if (string_or(weights, "type") == "float") {
      f.encoding = weight_encoding::float_channel;
      if (const auto* block = member(weights, "block_structure");
          block != nullptr && block->if_array() != nullptr && block->if_array()->size() == 2) {
        f.encoding = weight_encoding::fp8;
        f.block_out = (*block->if_array())[0].to_uint64().value_or(0);
        f.block_in = (*block->if_array())[1].to_uint64().value_or(0);
      }
    } else {
      f.encoding = weight_encoding::int_grouped;
      f.packed = packing.starts_with("pack");
    }
    return f;
  }

  static weight_format mlx_format(const json::value& from, const weight_format& base) {
    weight_format f = base;
    f.bits = bits_or(from, "bits", base.bits);
    f.group = count_or(from, "group_size", base.group);
    const auto mode = string_or(from, "mode", "affine");
    f.encoding = mode == "mxfp4"   ? weight_encoding::mxfp4
                 : mode == "mxfp8" ? weight_encoding::mxfp8
                 : mode == "nvfp4" ? weight_encoding::nvfp4
                                   : weight_encoding::mlx;
    return f;
  }

  void read_mlx() {
    out_.method = "mlx";
    out_.embeddings_too = true;
    out_.format = mlx_format(block_, {.encoding = weight_encoding::mlx, .bits = 4, .group = 64});
    for (const auto& m : *block_.if_object()) {
      if (m.value.if_object() != nullptr) out_.overrides.emplace_back(m.key, mlx_format(m.value, out_.format));
      if (m.value.if_bool() != nullptr && m.key.find('.') != std::string::npos)
        out_.overrides.emplace_back(m.key, *m.value.if_bool() ? out_.format : weight_format{});
    }
  }

  void read_unknown(std::string_view method) {
    out_.method = method.empty() ? std::string_view("unknown") : method;
    out_.format.encoding = weight_encoding::unknown;
    out_.warnings.push_back("the quantization method \"" + out_.method +
                            "\" is not known; sizes can only come from tensor headers");
  }

  void read_kv_cache() {
    const auto bits_of_name = [](std::string_view n) -> std::optional<unsigned> {
      if (n == "FP8" || n == "fp8" || n == "INT8") return 8;
      if (n == "NVFP4") return 4;
      return std::nullopt;
    };
    if (const auto* scheme = member(block_, "kv_cache_scheme")) {
      if (scheme->if_string()) out_.kv_cache_bits = bits_of_name(*scheme->if_string());
      if (scheme->if_object() && member(*scheme, "num_bits")) out_.kv_cache_bits = bits_or(*scheme, "num_bits", 8);
    }
    if (!out_.kv_cache_bits) out_.kv_cache_bits = bits_of_name(string_or(block_, "kv_cache_quant_algo"));
  }

  const json::value& block_;
  quantization out_;
};

struct found_block {
  const json::value* block = nullptr;
  std::string source;
};

found_block find_block(const json::value* config, const json::value* document) {
  if (config != nullptr) {
    if (const auto* b = member(*config, "quantization_config")) return {b, "quantization_config"};
    constexpr std::array<std::string_view, 4> inner{"text_config", "language_config", "llm_config", "thinker_config"};
    for (const auto key : inner)
      if (const auto* c = member(*config, key))
        if (const auto* b = member(*c, "quantization_config")) return {b, std::string(key) + ".quantization_config"};
    if (const auto* b = member(*config, "quantization")) return {b, "quantization"};
  }
  if (document != nullptr)
    if (const auto* b = member(*document, "quantization")) return {b, "hf_quant_config.json"};
  return {};
}

}  // namespace

std::string_view describe(weight_encoding e) {
  constexpr std::array<std::string_view, 13> names{
      "not quantized", "bitsandbytes int8", "bitsandbytes 4-bit", "GPTQ", "AWQ",    "FP8", "MXFP4", "MXFP8",
      "NVFP4",         "grouped integers",  "FP8 per channel",    "MLX",  "unknown"};
  return names[static_cast<std::size_t>(e)];
}

result<std::optional<quantization>> read_quantization(const json::value* config, const json::value* document,
                                                      std::string_view what) {
  const auto found = find_block(config, document);
  if (found.block == nullptr) return std::optional<quantization>{};
  if (found.block->if_object() == nullptr)
    return fail(errc::malformed, what, text<416>(found.source).append(" is not an object"));
  if (found.block->if_object()->empty()) return std::optional<quantization>{};
  return std::optional(block_reader(*found.block, found.source).read());
}

}  // namespace berth
