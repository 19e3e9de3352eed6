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

inline constexpr std::array<part, 1> llava_parts{{
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

inline constexpr std::array<part, 1> visual_parts{{
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

inline constexpr std::array<family, 4> families{{
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
}};

}  // namespace

std::span<const family> vision_language_families() { return families; }

}  // namespace berth::architectures
