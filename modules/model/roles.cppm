// SPDX-License-Identifier: Apache-2.0
// What a module inside a block is for, read from its class and name. Frameworks do not say it in any other way: the
// vocabulary below is that of transformers' model classes and of the names found in checkpoints.
module;

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

module berth.model:roles;

import :tree;

namespace berth {

enum class module_role : std::uint8_t { other, norm, attention, cross_attention, ffn };

template <std::size_t N>
constexpr bool is_one_of(std::string_view s, const std::array<std::string_view, N>& words) {
  return std::find(words.begin(), words.end(), s) != words.end();
}
template <std::size_t N>
constexpr bool contains_one_of(std::string_view s, const std::array<std::string_view, N>& words) {
  return std::any_of(words.begin(), words.end(), [&](auto w) { return s.find(w) != std::string_view::npos; });
}
template <std::size_t N>
constexpr bool ends_in_one_of(std::string_view s, const std::array<std::string_view, N>& words) {
  return std::any_of(words.begin(), words.end(), [&](auto w) { return s.ends_with(w); });
}

/// Classes come first: NemotronH calls every kind of part "mixer".
constexpr module_role role_of(std::string_view class_name, std::string_view local) {
  constexpr std::array<std::string_view, 4> norm_words{"Norm", "norm", "ln_", "LayerNorm"};
  constexpr std::array<std::string_view, 3> cross_words{"Cross", "cross", "EncDec"};
  constexpr std::array<std::string_view, 4> attention_classes{"Attention", "DeltaNet", "Mixer", "ShortConv"};
  constexpr std::array<std::string_view, 10> ffn_ends{"MLP", "Mlp",     "MoE",         "Moe",          "MoeBlock",
                                                      "FF",  "Experts", "FeedForward", "Intermediate", "ActDense"};
  constexpr std::array<std::string_view, 8> attention_names{
      "attn", "self_attn", "attention", "self_attention", "linear_attn", "crossattention", "encoder_attn", "mixer"};
  constexpr std::array<std::string_view, 11> ffn_names{"mlp", "ffn",          "feed_forward", "block_sparse_moe",
                                                       "moe", "intermediate", "output",       "ffn_output",
                                                       "fc1", "fc2",          "experts"};
  if (contains_one_of(class_name, norm_words) || local.starts_with("ln_") || local.find("norm") != local.npos)
    return module_role::norm;
  if (ends_in_one_of(class_name, ffn_ends)) return module_role::ffn;
  // "...AttentionDecoderLayer" is a block with attention in it, not attention.
  const bool by_class = contains_one_of(class_name, attention_classes) && !class_name.ends_with("DecoderLayer");
  if (by_class || is_one_of(local, attention_names)) {
    const bool crosses = contains_one_of(class_name, cross_words) || contains_one_of(local, cross_words);
    return crosses || local == "encoder_attn" ? module_role::cross_attention : module_role::attention;
  }
  return is_one_of(local, ffn_names) ? module_role::ffn : module_role::other;
}

constexpr bool attends(module_role r) { return r == module_role::attention || r == module_role::cross_attention; }

/// The module that holds all routed experts of a layer, stacked or as a list.
constexpr bool is_expert_bundle(std::string_view class_name, std::string_view local) {
  return local == "experts" || class_name.ends_with("Experts");
}

/// Where a part of a block stands in the order of execution: blocks register their norms after the parts that they
/// precede, in every family. Equal stages keep tree order.
constexpr int stage_of(std::string_view class_name, std::string_view local) {
  constexpr std::array<std::string_view, 2> before_cross{"cross", "encoder_attn"};
  constexpr std::array<std::string_view, 1> after_attention{"post_attention"};
  constexpr std::array<std::string_view, 9> before_ffn{"pre_feedforward",  "pre_ff",      "layernorm_after",
                                                       "final_layer_norm", "layer_norm2", "norm2",
                                                       "norm_2",           "ffn_norm",    "ln_2"};
  constexpr std::array<std::string_view, 2> after_ffn{"post_feedforward", "full_layer"};
  switch (role_of(class_name, local)) {
    case module_role::norm:
      if (contains_one_of(local, before_cross)) return 3;
      if (contains_one_of(local, after_attention)) return 2;
      if (contains_one_of(local, before_ffn) || local == "ln_mlp") return 5;
      return contains_one_of(local, after_ffn) ? 7 : 0;
    case module_role::cross_attention:
      return 4;
    case module_role::ffn:
      return 6;
    default:
      return 1;
  }
}

/// The same among the parts of a mixture: the router decides before any expert runs.
constexpr int mixture_stage_of(std::string_view class_name, std::string_view local) {
  if (local == "gate" || local == "router" || class_name.ends_with("Router")) return 0;
  if (local == "fc1_latent_proj") return 1;  // Nemotron-H narrows the experts' input
  return is_expert_bundle(class_name, local) ? 2 : 3;
}

static_assert(role_of("Qwen3MoeAttention", "self_attn") == module_role::attention);
static_assert(role_of("Qwen3MoeRMSNorm", "input_layernorm") == module_role::norm);
static_assert(role_of("Qwen3MoeSparseMoeBlock", "mlp") == module_role::ffn);
static_assert(role_of("NemotronHMLP", "mixer") == module_role::ffn);
static_assert(role_of("ZambaAttentionDecoderLayer", "shared_transf") == module_role::other);
static_assert(role_of("T5LayerCrossAttention", "1") == module_role::cross_attention);
static_assert(stage_of("LlamaRMSNorm", "input_layernorm") < stage_of("LlamaAttention", "self_attn"));
static_assert(stage_of("LlamaAttention", "self_attn") < stage_of("LlamaRMSNorm", "post_attention_layernorm"));

}  // namespace berth
