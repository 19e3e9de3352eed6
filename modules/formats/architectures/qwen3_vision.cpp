// SPDX-License-Identifier: Apache-2.0
// Qwen3-VL and Qwen3.5: one vision tower, and language models with or without experts and gated delta nets.
module;

#include <array>
#include <span>
#include <string_view>

module berth.formats;

import :architecture_entry;

namespace berth::architectures {
namespace {

inline constexpr std::array<part, 1> visual_parts{{
    {"model", R"(
      $Model
        visual <vision>
        language_model <text>
    )"},
}};

inline constexpr std::array<part, 3> qwen3_vision_parts{{
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
        use deepstack
    )"},
    {"deepstack", ""},
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

inline constexpr std::array<part, 3> qwen3_vl_vision_parts{{
    qwen3_vision_parts[0],
    qwen3_vision_parts[1],
    {"deepstack", R"(
      deepstack_merger_list ModuleList
        [m < taps] $VisionPatchMerger
          norm LayerNorm(merged)
          linear_fc1 Linear(merged, merged)
          act_fn GELU
          linear_fc2 Linear(merged, out_dim)
    )"},
}};
inline constexpr std::array<part, 1> qwen3_vl_text_parts{{{"attention", "use attention_head_norms"}}};
inline constexpr std::array<part, 2> qwen3_vl_moe_text_parts{{
    {"attention", "use attention_head_norms"},
    {"ffn", R"(
      mlp $SparseMoeBlock if sparse
        use experts
        gate $TopKRouter weight[experts,hidden]
      mlp $MLP if !sparse
        use gated_mlp width=ffn
    )"},
}};

inline constexpr std::string_view qwen3_5_no_split = "$DecoderLayer $VisionBlock";

inline constexpr std::array<family, 12> families{{
    {"qwen3_vl", exactness::exact, "Qwen3VL", "$TextDecoderLayer $VisionBlock", "", R"(
      vision := <vision_config> = qwen3_vl_vision
      text := <text_config> = qwen3_vl_text
      use text_facts
      tied := own_tied
    )",
     visual_parts, conditional_heads},
    {"qwen3_vl_vision",
     exactness::exact,
     "Qwen3VL",
     "$TextDecoderLayer $VisionBlock",
     "",
     R"(
      use vision_values
      taps := if(has(deepstack_visual_indexes), len(deepstack_visual_indexes), 3)
    )",
     qwen3_vl_vision_parts,
     {}},
    {"qwen3_vl_text",
     exactness::exact,
     "Qwen3VLText",
     "$DecoderLayer Qwen3VLVisionBlock",
     "",
     R"(
      use decoder_values
      vocab = vocab_size : 151936
      kv_heads = num_key_value_heads : 32 : heads
      head_dim = head_dim : 128
      ffn = intermediate_size : 22016
      max_context = max_position_embeddings : 128000
      mlp_bias := 0
    )",
     qwen3_vl_text_parts,
     {}},
    {"qwen3_vl_moe", exactness::exact, "Qwen3VLMoe", "$TextDecoderLayer $VisionBlock", "", R"(
      vision := <vision_config> = qwen3_vl_moe_vision
      text := <text_config> = qwen3_vl_moe_text
      use text_facts
      tied := own_tied
    )",
     visual_parts, conditional_heads},
    {"qwen3_vl_moe_vision",
     exactness::exact,
     "Qwen3VLMoe",
     "$TextDecoderLayer $VisionBlock",
     "",
     R"(
      use vision_values
      taps := if(has(deepstack_visual_indexes), len(deepstack_visual_indexes), 3)
    )",
     qwen3_vl_vision_parts,
     {}},
    {"qwen3_vl_moe_text",
     exactness::exact,
     "Qwen3VLMoeText",
     "$DecoderLayer Qwen3VLMoeVisionBlock",
     "",
     R"(
      use decoder_values
      vocab = vocab_size : 151936
      hidden = hidden_size : 2048
      layers = num_hidden_layers : 24
      heads = num_attention_heads : 16
      kv_heads = num_key_value_heads : 16 : heads
      ffn = intermediate_size : 5632
      max_context = max_position_embeddings : 128000
      mlp_bias := 0
      step = decoder_sparse_step : 1
      experts = num_local_experts|num_experts : 60
      active_experts = num_experts_per_tok : 4
      expert_width = moe_intermediate_size : 1408
      sparse := !in(i, mlp_only_layers) && experts > 0 && (i + 1) % step == 0
    )",
     qwen3_vl_moe_text_parts,
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
     qwen3_vision_parts,
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
    {"qwen3_5_vision", exactness::exact, "Qwen3_5", "$VisionBlock", "", "use vision_values", qwen3_vision_parts, {}},
    {"qwen3_5_text", exactness::exact, "Qwen3_5", qwen3_5_no_split, "", R"(
      use gated_delta_values
      kv_heads = num_key_value_heads : 4
      ffn = intermediate_size : 12288
    )",
     qwen3_5_text_parts, decoder_heads},
}};

}  // namespace

std::span<const family> qwen3_vision_families() { return families; }

}  // namespace berth::architectures
