// SPDX-License-Identifier: Apache-2.0
// Vision-language models: a vision tower and a language model, each with a configuration of its own inside the file.
module;

#include <array>
#include <span>
#include <string_view>

module berth.formats;

import :architecture_entry;

namespace berth::architectures {
namespace {

/// What the whole takes from its language model `text`.
inline constexpr part text_facts{"text_facts", R"(
  hidden := text.hidden
  vocab := text.vocab
  layers := text.layers
  heads := text.heads
  kv_heads := text.kv_heads
  head_dim := text.head_dim
  max_context := text.max_context
  own_tied = tie_word_embeddings : 0
  text_tied = text_config.tie_word_embeddings : 0
)"};

inline constexpr std::array<head, 1> conditional_heads{{
    {"$ForConditionalGeneration", "model <self>\nlm_head Linear(hidden, vocab, 0)",
     "lm_head.weight = model.language_model.embed_tokens.weight", "lm_head"},
}};

inline constexpr std::array<part, 2> llava_parts{{
    text_facts,
    {"model", R"(
      $Model
        vision_tower <vision>
        multi_modal_projector $MultiModalProjector
          linear_1 Linear(vision.hidden*features, hidden, bias)
          act @projector_hidden_act:gelu
          linear_2 Linear(hidden, hidden, bias)
        language_model <text>
    )"},
}};

inline constexpr std::array<part, 2> visual_parts{{
    text_facts,
    {"model", R"(
      $Model
        visual <vision>
        language_model <text>
    )"},
}};

inline constexpr std::array<part, 2> qwen2_vl_text_parts{{
    {"model", R"(
      $TextModel
        embed_tokens {embedding}
        layers ModuleList
          [i < layers] block $DecoderLayer
            use layer
        norm {norm}
        use rope
    )"},
    {"ffn", R"(
      mlp Qwen2MLP
        use gated_mlp width=ffn
    )"},
}};

inline constexpr std::array<part, 2> qwen2_vl_vision_parts{{
    {"vision_values", R"(
      layers = depth : 32
      heads = num_heads|num_attention_heads : 16
      channels = in_channels : 3
      patch = patch_size : 14
      frames = temporal_patch_size : 2
      merge = spatial_merge_size : 2
      cached := 0
    )"},
    {"model", R"(
      Qwen2VisionTransformerPretrainedModel
        patch_embed PatchEmbed
          proj Conv3d(channels, hidden, frames, patch, 0)
        rotary_pos_emb Qwen2VLVisionRotaryEmbedding ~inv_freq[angles]:float32 ~original_inv_freq[angles]:float32
        blocks ModuleList
          [i < layers] block Qwen2VLVisionBlock
            norm1 LayerNorm(hidden)
            norm2 LayerNorm(hidden)
            attn VisionAttention
              qkv Linear(hidden, 3*hidden)
              proj Linear(hidden, hidden)
            mlp VisionMlp
              fc1 Linear(hidden, ffn)
              act @hidden_act:quick_gelu
              fc2 Linear(ffn, hidden)
        merger PatchMerger
          ln_q LayerNorm(hidden)
          mlp Sequential
            0 Linear(merged, merged)
            1 GELU
            2 Linear(merged, out_dim)
    )"},
}};

inline constexpr std::array<part, 2> qwen3_5_vision_parts{{
    {"vision_values", R"(
      hidden = hidden_size : 1152
      ffn = intermediate_size : 4304
      layers = depth : 27
      heads = num_heads|num_attention_heads : 16
      channels = in_channels : 3
      patch = patch_size : 16
      frames = temporal_patch_size : 2
      merge = spatial_merge_size : 2
      out_dim = out_hidden_size : 3584
      positions = num_position_embeddings : 2304
      head_dim := hidden / heads
      angles := (head_dim / 2 + 1) / 2
      merged := hidden * merge * merge
      cached := 0
    )"},
    {"model", R"(
      $VisionModel
        patch_embed $VisionPatchEmbed
          proj Conv3d(channels, hidden, frames, patch)
        pos_embed Embedding(positions, hidden)
        rotary_pos_emb $VisionRotaryEmbedding ~inv_freq[angles]:float32 ~original_inv_freq[angles]:float32
        blocks ModuleList
          [i < layers] block $VisionBlock
            norm1 LayerNorm(hidden)
            norm2 LayerNorm(hidden)
            attn $VisionAttention
              qkv Linear(hidden, 3*hidden)
              proj Linear(hidden, hidden)
            mlp $VisionMLP
              linear_fc1 Linear(hidden, ffn)
              linear_fc2 Linear(ffn, hidden)
              act_fn @hidden_act:gelu_pytorch_tanh
        merger $VisionPatchMerger
          norm LayerNorm(hidden)
          linear_fc1 Linear(merged, merged)
          act_fn GELU
          linear_fc2 Linear(merged, out_dim)
    )"},
}};

inline constexpr part gated_delta_values{"gated_delta_values", R"(
  use decoder_values
  vocab = vocab_size : 248320
  heads = num_attention_heads : 16
  head_dim = head_dim : 256
  max_context = max_position_embeddings : 32768
  mlp_bias := 0
  partial = rope.partial_rotary_factor|partial_rotary_factor : 0.25
  use partial_rotary
  key_heads = linear_num_key_heads : 16
  value_heads = linear_num_value_heads : 32
  linear_key_dim = linear_key_head_dim : 128
  linear_value_dim = linear_value_head_dim : 128
  kernel = linear_conv_kernel_dim : 4
  keys := key_heads * linear_key_dim
  linear_values := value_heads * linear_value_dim
  conv_dim := 2 * keys + linear_values
  interval = full_attention_interval : 4
  attends := if(has(layer_types), is(layer_types[i], full_attention) || is(layer_types[i], attention), (i + 1) % interval == 0)
  state := if(attends, 0, conv_dim * kernel)
  state_f32 := if(attends, 0, value_heads * linear_key_dim * linear_value_dim)
)"};
inline constexpr part gated_delta_model{"model", R"(
  $TextModel
    embed_tokens {embedding}
    layers ModuleList
      [i < layers] block $DecoderLayer
        linear_attn $GatedDeltaNet dt_bias[value_heads] A_log[value_heads] if !attends
          conv1d Conv1d(1, conv_dim, kernel, 0)
          norm $RMSNormGated:Scale(linear_value_dim)
          out_proj Linear(linear_values, hidden, 0)
          in_proj_qkv Linear(hidden, conv_dim, 0)
          in_proj_z Linear(hidden, linear_values, 0)
          in_proj_b Linear(hidden, value_heads, 0)
          in_proj_a Linear(hidden, value_heads, 0)
        self_attn $Attention if attends
          q_proj Linear(hidden, 2*heads*head_dim, qkv_bias)
          k_proj Linear(hidden, kv_heads*head_dim, qkv_bias)
          v_proj Linear(hidden, kv_heads*head_dim, qkv_bias)
          o_proj Linear(heads*head_dim, hidden, o_bias)
          q_norm $RMSNorm:Scale(head_dim)
          k_norm $RMSNorm:Scale(head_dim)
        use ffn
        input_layernorm {norm}
        post_attention_layernorm {norm}
    norm {norm}
    rotary_emb $TextRotaryEmbedding ~inv_freq[(rotary_dim+1)/2]:float32 ~original_inv_freq[(rotary_dim+1)/2]:float32
)"};
inline constexpr std::array<part, 2> qwen3_5_text_parts{{gated_delta_values, gated_delta_model}};
inline constexpr std::array<part, 3> qwen3_5_moe_text_parts{{
    gated_delta_values,
    gated_delta_model,
    {"ffn", R"(
      mlp $SparseMoeBlock
        gate $TopKRouter weight[experts,hidden]
        use experts
        shared_expert $MLP
          use gated_mlp width=shared_width
        shared_expert_gate Linear(hidden, 1, 0)
    )"},
}};

inline constexpr std::string_view qwen3_5_no_split = "$DecoderLayer $VisionBlock";

inline constexpr std::array<family, 10> families{{
    {"llava", exactness::exact, "Llava", "", "", R"(
      vision := <vision_config> : clip_vision_model
      text := <text_config> : llama
      use text_facts
      tied := own_tied || text.tied
      layered := len(vision_feature_layer)
      features := if(layered, layered, 1)
      bias = multimodal_projector_bias : 1
    )",
     llava_parts, conditional_heads},
    {"qwen2_vl", exactness::exact, "Qwen2VL", "$DecoderLayer $VisionBlock", "", R"(
      vision := <vision_config> = qwen2_vl_vision
      text := <text_config|.> = qwen2_vl_text
      use text_facts
      tied := own_tied || text_tied
    )",
     visual_parts, conditional_heads},
    {"qwen2_vl_text",
     exactness::exact,
     "Qwen2VL",
     "$DecoderLayer $VisionBlock",
     "",
     R"(
      use decoder_values
      use sliding_values
      vocab = vocab_size : 152064
      hidden = hidden_size : 8192
      layers = num_hidden_layers : 80
      heads = num_attention_heads : 64
      kv_heads = num_key_value_heads : 8 : heads
      head_dim := hidden / heads
      ffn = intermediate_size : 29568
      max_context = max_position_embeddings : 32768
      window_from = max_window_layers : 80
      qkv_bias := 1
      o_bias := 0
      mlp_bias := 0
      plain_rope := is(rope.rope_type|rope.type:default, default) || is(rope.rope_type|rope.type, mrope)
    )",
     qwen2_vl_text_parts,
     {}},
    {"qwen2_vl_vision",
     exactness::exact,
     "Qwen2VL",
     "$VisionBlock",
     "",
     R"(
      use vision_values
      hidden = embed_dim : 1280
      ratio = mlp_ratio : 4
      ffn := int(hidden * ratio)
      out_dim = hidden_size : 3584
      head_dim := hidden / heads
      angles := (head_dim / 2 + 1) / 2
      merged := hidden * merge * merge
    )",
     qwen2_vl_vision_parts,
     {}},
    {"qwen3_5_moe", exactness::exact, "Qwen3_5Moe", qwen3_5_no_split, "", R"(
      vision := <vision_config> = qwen3_5_moe_vision
      text := <text_config> = qwen3_5_moe_text
      use text_facts
      tied := own_tied
    )",
     visual_parts, conditional_heads},
    {"qwen3_5_moe_vision",
     exactness::exact,
     "Qwen3_5Moe",
     "$VisionBlock",
     "",
     "use vision_values",
     qwen3_5_vision_parts,
     {}},
    {"qwen3_5_moe_text", exactness::exact, "Qwen3_5Moe", qwen3_5_no_split, "", R"(
      use gated_delta_values
      hidden = hidden_size : 2048
      layers = num_hidden_layers : 40
      kv_heads = num_key_value_heads : 2
      sparse := 1
      experts = num_experts : 256
      active_experts = num_experts_per_tok : 8
      expert_width = moe_intermediate_size : 512
      shared_width = shared_expert_intermediate_size : 512
    )",
     qwen3_5_moe_text_parts, decoder_heads},
    {"qwen3_5", exactness::exact, "Qwen3_5", qwen3_5_no_split, "", R"(
      vision := <vision_config> = qwen3_5_vision
      text := <text_config> = qwen3_5_text
      use text_facts
      tied := own_tied
    )",
     visual_parts, conditional_heads},
    {"qwen3_5_vision", exactness::exact, "Qwen3_5", "$VisionBlock", "", "use vision_values", qwen3_5_vision_parts, {}},
    {"qwen3_5_text", exactness::exact, "Qwen3_5", qwen3_5_no_split, "", R"(
      use gated_delta_values
      kv_heads = num_key_value_heads : 4
      ffn = intermediate_size : 12288
    )",
     qwen3_5_text_parts, decoder_heads},
}};

}  // namespace

std::span<const family> vision_language_families() { return families; }

}  // namespace berth::architectures
