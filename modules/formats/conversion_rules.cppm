// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

// Not exported: data of the conversion between names on disk and names in the tree.
export module berth.formats:conversion_rules;

namespace berth {

/// Which part of a tree tensor's dimension a stored tensor fills.
enum class tensor_part : std::uint8_t {
  whole,
  first_half,   ///< [0, n/2): the gate of a joined gate-and-up projection
  second_half,  ///< [n/2, n)
  even,         ///< 0, 2, 4 ...: interleaved
  odd,          ///< 1, 3, 5 ...
};

/// One spelling on disk and what it means in the tree. Patterns: see name_pattern. A "{e}" in `stored` that is not
/// in `tensor` is an index into the tensor's first dimension.
struct conversion_rule {
  std::string_view model_types;  ///< " a b c ": families that write this spelling; "" for spellings only read
  std::string_view stored;
  std::string_view tensor;
  tensor_part part = tensor_part::whole;
  std::uint8_t dimension = 0;  ///< of the tree tensor, where `part` is not whole
  bool transposed = false;
};

namespace family {
// Families whose experts lie on disk one by one as gate_proj, up_proj, down_proj.
inline constexpr std::string_view expert_list =
    " qwen2_moe qwen3_moe qwen3_next qwen3_omni_moe qwen3_omni_moe_thinker qwen3_5_moe qwen3_5_moe_text deepseek_v2 "
    "deepseek_v3 dots1 ernie4_5_moe exaone_moe afmoe flex_olmo glm4_moe glm4_moe_lite glm_moe_dsa glm4v_moe "
    "hunyuan_v1_moe hy_v3 laguna longcat_flash olmoe solar_open ";
inline constexpr std::string_view mixtral = " mixtral minimax minimax_m2 phimoe ";
inline constexpr std::string_view mixtral_only = " mixtral minimax minimax_m2 ";
inline constexpr std::string_view feed_forward_list = " jamba ";
inline constexpr std::string_view granite = " granitemoe granitemoeshared granitemoehybrid ";
// Vision-language models that wrap a complete causal model under language_model on disk.
inline constexpr std::string_view llava =
    " llava llava_next llava_next_video llava_onevision paligemma aya_vision got_ocr2 gemma3 internvl vipllava "
    "mistral3 "
    "pp_chart2table video_llava mllama fuyu ";
inline constexpr std::string_view qwen_vl = " qwen2_vl qwen2_5_vl ";
inline constexpr std::string_view read_only = "";
}  // namespace family

/// Rules about the end of a name: experts, joined projections, renamed modules inside a block. At most one applies.
inline constexpr std::array leaf_rules{
    conversion_rule{family::expert_list, "**.mlp.experts.{e}.gate_proj.weight", "**.mlp.experts.gate_up_proj",
                    tensor_part::first_half, 1},
    conversion_rule{family::expert_list, "**.mlp.experts.{e}.up_proj.weight", "**.mlp.experts.gate_up_proj",
                    tensor_part::second_half, 1},
    conversion_rule{family::expert_list, "**.mlp.experts.{e}.down_proj.weight", "**.mlp.experts.down_proj"},

    conversion_rule{family::mixtral, "**.block_sparse_moe.experts.{e}.w1.weight", "**.mlp.experts.gate_up_proj",
                    tensor_part::first_half, 1},
    conversion_rule{family::mixtral, "**.block_sparse_moe.experts.{e}.w3.weight", "**.mlp.experts.gate_up_proj",
                    tensor_part::second_half, 1},
    conversion_rule{family::mixtral, "**.block_sparse_moe.experts.{e}.w2.weight", "**.mlp.experts.down_proj"},
    conversion_rule{" phimoe ", "**.block_sparse_moe.gate.weight", "**.mlp.router.weight"},
    conversion_rule{family::mixtral_only, "**.block_sparse_moe.**", "**.mlp.**"},

    conversion_rule{" lfm2_moe ", "**.feed_forward.experts.{e}.w1.weight", "**.feed_forward.experts.gate_up_proj",
                    tensor_part::first_half, 1},
    conversion_rule{" lfm2_moe ", "**.feed_forward.experts.{e}.w3.weight", "**.feed_forward.experts.gate_up_proj",
                    tensor_part::second_half, 1},
    conversion_rule{" lfm2_moe ", "**.feed_forward.experts.{e}.w2.weight", "**.feed_forward.experts.down_proj"},
    conversion_rule{family::feed_forward_list, "**.feed_forward.experts.{e}.gate_proj.weight",
                    "**.feed_forward.experts.gate_up_proj", tensor_part::first_half, 1},
    conversion_rule{family::feed_forward_list, "**.feed_forward.experts.{e}.up_proj.weight",
                    "**.feed_forward.experts.gate_up_proj", tensor_part::second_half, 1},
    conversion_rule{family::feed_forward_list, "**.feed_forward.experts.{e}.down_proj.weight",
                    "**.feed_forward.experts.down_proj"},

    conversion_rule{" nemotron_h ", "**.mixer.experts.{e}.up_proj.weight", "**.mixer.experts.up_proj"},
    conversion_rule{" nemotron_h ", "**.mixer.experts.{e}.down_proj.weight", "**.mixer.experts.down_proj"},
    conversion_rule{" nemotron_h ", "**.embedding.weight", "**.embeddings.weight"},

    conversion_rule{family::granite, "**.block_sparse_moe.input_linear.weight",
                    "**.block_sparse_moe.experts.gate_up_proj"},
    conversion_rule{family::granite, "**.block_sparse_moe.output_linear.weight",
                    "**.block_sparse_moe.experts.down_proj"},
    conversion_rule{family::granite, "**.block_sparse_moe.router.layer.weight", "**.block_sparse_moe.router.weight"},

    conversion_rule{" ernie4_5_moe ", "**.mlp.moe_statics.e_score_correction_bias",
                    "**.mlp.gate.moe_statics.e_score_correction_bias"},
    conversion_rule{" exaone_moe ", "**.mlp.e_score_correction_bias", "**.mlp.gate.e_score_correction_bias"},
    conversion_rule{" hy_v3 ", "**.mlp.router.gate.weight", "**.mlp.gate.weight"},
    conversion_rule{" hy_v3 ", "**.mlp.expert_bias", "**.mlp.e_score_correction_bias"},
    conversion_rule{" hy_v3 ", "**.mlp.shared_mlp.**", "**.mlp.shared_experts.**"},
    conversion_rule{" laguna ", "**.mlp.experts.e_score_correction_bias", "**.mlp.gate.e_score_correction_bias"},
    conversion_rule{" laguna ", "**.mlp.shared_expert.**", "**.mlp.shared_experts.**"},
    conversion_rule{" olmo_hybrid ", "**.attention_layer_norm.**", "**.input_layernorm.**"},
    conversion_rule{" olmo_hybrid ", "**.feedforward_layer_norm.**", "**.post_attention_layernorm.**"},
    conversion_rule{" gpt_neox ", "embed_out.weight", "lm_head.weight"},

    conversion_rule{" vit ", "**.encoder.layer.{i}.attention.attention.query.**", "**.layers.{i}.attention.q_proj.**"},
    conversion_rule{" vit ", "**.encoder.layer.{i}.attention.attention.key.**", "**.layers.{i}.attention.k_proj.**"},
    conversion_rule{" vit ", "**.encoder.layer.{i}.attention.attention.value.**", "**.layers.{i}.attention.v_proj.**"},
    conversion_rule{" vit ", "**.encoder.layer.{i}.attention.output.dense.**", "**.layers.{i}.attention.o_proj.**"},
    conversion_rule{" vit ", "**.encoder.layer.{i}.intermediate.dense.**", "**.layers.{i}.mlp.fc1.**"},
    conversion_rule{" vit ", "**.encoder.layer.{i}.output.dense.**", "**.layers.{i}.mlp.fc2.**"},
    conversion_rule{" vit ", "**.encoder.layer.{i}.**", "**.layers.{i}.**"},

    // Spellings that are only read.
    conversion_rule{family::read_only, "**.LayerNorm.gamma", "**.LayerNorm.weight"},
    conversion_rule{family::read_only, "**.LayerNorm.beta", "**.LayerNorm.bias"},
    conversion_rule{family::read_only, "**.weight_g", "**.parametrizations.weight.original0"},
    conversion_rule{family::read_only, "**.weight_v", "**.parametrizations.weight.original1"},
    conversion_rule{family::read_only, "**.mlp.experts.gate_up_projs.{e}.weight", "**.mlp.experts.gate_up_proj",
                    tensor_part::whole, 0, true},
    conversion_rule{family::read_only, "**.mlp.experts.down_projs.{e}.weight", "**.mlp.experts.down_proj",
                    tensor_part::whole, 0, true},
    conversion_rule{family::read_only, "**.mlp.experts.gate_up_projs.{e}.bias", "**.mlp.experts.gate_up_proj_bias"},
    conversion_rule{family::read_only, "**.mlp.experts.down_projs.{e}.bias", "**.mlp.experts.down_proj_bias"},
    // Separate gate and up stacks of an interleaved joined projection.
    conversion_rule{family::read_only, "**.mlp.experts.gate_proj", "**.mlp.experts.gate_up_proj", tensor_part::even, 2},
    conversion_rule{family::read_only, "**.mlp.experts.up_proj", "**.mlp.experts.gate_up_proj", tensor_part::odd, 2},
    conversion_rule{family::read_only, "**.mlp.experts.gate_proj_bias", "**.mlp.experts.gate_up_proj_bias",
                    tensor_part::even, 1},
    conversion_rule{family::read_only, "**.mlp.experts.up_proj_bias", "**.mlp.experts.gate_up_proj_bias",
                    tensor_part::odd, 1},
    conversion_rule{family::read_only, "**.mm_projector.0.**", "**.multi_modal_projector.linear_1.**"},
    conversion_rule{family::read_only, "**.mm_projector.2.**", "**.multi_modal_projector.linear_2.**"},
};

/// Rules about the start of a name. At most one applies, after the leaf rule.
inline constexpr std::array prefix_rules{
    conversion_rule{family::llava, "language_model.lm_head.**", "lm_head.**"},
    conversion_rule{family::llava, "language_model.model.**", "model.language_model.**"},
    conversion_rule{family::llava, "vision_tower.**", "model.vision_tower.**"},
    conversion_rule{" mllama ", "vision_model.**", "model.vision_model.**"},
    conversion_rule{family::llava, "multi_modal_projector.**", "model.multi_modal_projector.**"},
    conversion_rule{" llava_next llava_next_video llava_onevision ", "image_newline", "model.image_newline"},
    conversion_rule{" video_llava ", "image_tower.**", "model.image_tower.**"},
    conversion_rule{" video_llava ", "video_tower.**", "model.video_tower.**"},
    conversion_rule{" fuyu ", "vision_embed_tokens.**", "model.vision_embed_tokens.**"},
    conversion_rule{family::qwen_vl, "visual.**", "model.visual.**"},
    conversion_rule{family::qwen_vl, "model.**", "model.language_model.**"},
    conversion_rule{" qwen3_5_text qwen3_5_moe_text ", "model.language_model.**", "model.**"},
    conversion_rule{" nemotron_h ", "backbone.**", "model.**"},

    // Spellings that are only read.
    conversion_rule{family::read_only, "vision_tower.vision_model.**", "model.vision_tower.**"},
    conversion_rule{family::read_only, "model.vision_tower.vision_model.**", "model.vision_tower.**"},
    conversion_rule{family::read_only, "model.vision_tower.vision_tower.vision_model.**", "model.vision_tower.**"},
    conversion_rule{family::read_only, "model.vision_tower.vision_tower.**", "model.vision_tower.**"},
    conversion_rule{family::read_only, "vision_tower.**", "model.visual.**"},
    conversion_rule{family::read_only, "language_model.**", "model.language_model.**"},
    conversion_rule{family::read_only, "language_model.model.**", "model.**"},
    conversion_rule{family::read_only, "model.language_model.lm_head.**", "lm_head.**"},
};

/// Ends of names that belong to a quantized weight of the module before them.
inline constexpr std::array<std::string_view, 28> companion_ends{".SCB",
                                                                 ".weight_format",
                                                                 ".weight_scale",
                                                                 ".weight_scale_inv",
                                                                 ".weight_scale_2",
                                                                 ".weight_packed",
                                                                 ".weight_shape",
                                                                 ".weight_zero_point",
                                                                 ".weight_g_idx",
                                                                 ".weight_global_scale",
                                                                 ".input_scale",
                                                                 ".input_global_scale",
                                                                 ".output_scale",
                                                                 ".k_scale",
                                                                 ".v_scale",
                                                                 ".qweight",
                                                                 ".qzeros",
                                                                 ".scales",
                                                                 ".biases",
                                                                 ".g_idx",
                                                                 ".scale",
                                                                 ".weight.absmax",
                                                                 ".weight.quant_map",
                                                                 ".weight.nested_absmax",
                                                                 ".weight.nested_quant_map",
                                                                 ".weight.quant_state.bitsandbytes__nf4",
                                                                 ".weight.quant_state.bitsandbytes__fp4",
                                                                 ".weight.nested_offset"};

/// Ends of names that some checkpoints hold and no tree has: tables that every framework computes itself.
inline constexpr std::array<std::string_view, 10> ignorable_ends{
    "rotary_emb.inv_freq",     "rotary_emb.original_inv_freq", "rotary_pos_emb.inv_freq",
    "attention.bias",          "attention.masked_bias",        "attn.bias",
    "attn.masked_bias",        "embeddings.position_ids",      "embeddings.token_type_ids",
    "rotary_emb.cos_sin_cache"};

}  // namespace berth
