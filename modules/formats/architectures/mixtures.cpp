// SPDX-License-Identifier: Apache-2.0
// Decoders with a mixture of experts. transformers stacks the experts of a layer into one tensor per projection.
module;

#include <array>
#include <span>
#include <string_view>

module berth.formats;

import :architecture_entry;

namespace berth::architectures {
namespace {

inline constexpr std::string_view layer = "$DecoderLayer";

inline constexpr std::array<part, 1> mixtral_parts{{
    {"ffn", R"(
      mlp $SparseMoeBlock
        gate $TopKRouter weight[experts,hidden]
        use experts
    )"},
}};

inline constexpr std::array<part, 1> qwen2_moe_parts{{
    {"ffn", R"(
      mlp $SparseMoeBlock if sparse
        gate $TopKRouter weight[experts,hidden]
        use experts
        shared_expert $MLP
          use gated_mlp width=shared_width
        shared_expert_gate Linear(hidden, 1, 0)
      mlp $MLP if !sparse
        use gated_mlp width=ffn
    )"},
}};

inline constexpr std::array<part, 2> qwen3_moe_parts{{
    {"attention", "use attention_head_norms"},
    {"ffn", R"(
      mlp $SparseMoeBlock if sparse
        use experts
        gate $TopKRouter weight[experts,hidden]
      mlp $MLP if !sparse
        use gated_mlp width=ffn
    )"},
}};

inline constexpr std::string_view latent_attention = R"(
  q_proj Linear(hidden, heads*(nope_dim+rope_dim), 0) if !q_rank
  q_a_proj Linear(hidden, q_rank, attention_bias) if q_rank
  q_a_layernorm $RMSNorm:Scale(q_rank) if q_rank
  q_b_proj Linear(q_rank, heads*(nope_dim+rope_dim), 0) if q_rank
  kv_a_proj_with_mqa Linear(hidden, kv_rank+rope_dim, attention_bias)
  kv_a_layernorm $RMSNorm:Scale(kv_rank)
  kv_b_proj Linear(kv_rank, heads*(nope_dim+value_dim), 0)
  o_proj Linear(heads*value_dim, hidden, attention_bias)
)";
inline constexpr std::string_view latent_values = R"(
  kv_rank = kv_lora_rank : 512
  q_rank = q_lora_rank : 1536 : 0
  nope_dim = qk_nope_head_dim : 128
  rope_dim = qk_rope_head_dim : 64
  value_dim = v_head_dim : 128
  head_dim := rope_dim
  key_dim := nope_dim + rope_dim
  kv_heads := heads
  latent_dim := kv_rank + rope_dim
)";

inline constexpr std::array<part, 3> deepseek_v2_parts{{
    {"latent_values", latent_values},
    {"attention", latent_attention},
    {"ffn", R"(
      mlp $Moe if sparse
        use experts
        gate $TopkRouter weight[experts,hidden]
        shared_experts $MLP
          use gated_mlp width=shared_width
      mlp $MLP if !sparse
        use gated_mlp width=ffn
    )"},
}};

inline constexpr std::array<part, 3> deepseek_v3_parts{{
    {"latent_values", latent_values},
    {"attention", latent_attention},
    {"ffn", R"(
      mlp $MoE if sparse
        use experts
        gate $TopkRouter weight[experts,hidden] +e_score_correction_bias[experts]
        shared_experts $MLP
          use gated_mlp width=shared_width
      mlp $MLP if !sparse
        use gated_mlp width=ffn
    )"},
}};

inline constexpr std::array<part, 2> glm4_moe_parts{{
    {"attention", R"(
      use qkvo
      q_norm $RMSNorm:Scale(head_dim) if qk_norm
      k_norm $RMSNorm:Scale(head_dim) if qk_norm
    )"},
    {"ffn", R"(
      mlp $MoE if sparse
        use experts
        gate $TopkRouter weight[experts,hidden] +e_score_correction_bias[experts]:float32
        shared_experts $MLP
          use gated_mlp width=shared_width
      mlp $MLP if !sparse
        use gated_mlp width=ffn
    )"},
}};

inline constexpr std::array<part, 2> minimax_m2_parts{{
    {"attention", R"(
      use qkvo
      q_norm $RMSNorm:Scale(heads*head_dim)
      k_norm $RMSNorm:Scale(kv_heads*head_dim)
    )"},
    {"ffn", R"(
      mlp $SparseMoeBlock +e_score_correction_bias[experts]
        gate $TopKRouter weight[experts,hidden]
        use experts
    )"},
}};

inline constexpr std::array<part, 4> gpt_oss_parts{{
    {"layer", R"(
      self_attn $Attention sinks[heads]
        use attention
      use ffn
      input_layernorm {norm}
      post_attention_layernorm {norm}
    )"},
    {"ffn", R"(
      mlp $MLP
        router $TopKRouter weight[experts,hidden] bias[experts]
        experts $Experts {up} {down}
    )"},
    {"up", "gate_up_proj[experts,hidden,2*expert_width] gate_up_proj_bias[experts,2*expert_width]"},
    {"down", "down_proj[experts,expert_width,hidden] down_proj_bias[experts,hidden]"},
}};

inline constexpr std::array<part, 1> granitemoe_parts{{
    {"layer", R"(
      self_attn $Attention
        use attention
      input_layernorm {norm}
      post_attention_layernorm {norm}
      block_sparse_moe $MoE
        router $TopKRouter weight[experts,hidden]
        use experts
    )"},
}};

inline constexpr std::array<family, 9> families{{
    {"mixtral", exactness::exact, "Mixtral", layer, "", R"(
      use decoder_values
      kv_heads = num_key_value_heads : 8 : heads
      ffn = intermediate_size : 14336
      max_context = max_position_embeddings : 131072
      attention_bias := 0
      window = sliding_window : 0
      sparse := 1
      experts = num_experts|num_local_experts : 8
      active_experts = num_experts_per_tok : 2
      expert_width := ffn
    )",
     mixtral_parts, decoder_heads},
    {"qwen2_moe", exactness::exact, "Qwen2Moe", layer, "", R"(
      use decoder_values
      vocab = vocab_size : 151936
      hidden = hidden_size : 2048
      layers = num_hidden_layers : 24
      heads = num_attention_heads : 16
      kv_heads = num_key_value_heads : 16
      ffn = intermediate_size : 5632
      max_context = max_position_embeddings : 32768
      qkv_bias = qkv_bias : 1
      o_bias := 0
      mlp_bias := 0
      use_window = use_sliding_window : 0
      width_of_window = sliding_window : 4096 : 0
      window_until = max_window_layers : 28
      slides := if(has(layer_types), is(layer_types[i], sliding_attention), i % 2 == 0 && i < window_until)
      window := if(slides && use_window, width_of_window, 0)
      step = decoder_sparse_step : 1
      experts = num_experts : 60
      active_experts = num_experts_per_tok : 4
      expert_width = moe_intermediate_size : 1408
      shared_width = shared_expert_intermediate_size : 5632
      sparse := !in(i, mlp_only_layers) && experts > 0 && (i + 1) % step == 0
    )",
     qwen2_moe_parts, decoder_heads},
    {"qwen3_moe", exactness::exact, "Qwen3Moe", layer, "", R"(
      use decoder_values
      vocab = vocab_size : 151936
      hidden = hidden_size : 2048
      layers = num_hidden_layers : 24
      kv_heads = num_key_value_heads : 4
      ffn = intermediate_size : 6144
      max_context = max_position_embeddings : 32768
      mlp_bias := 0
      use_window = use_sliding_window : 0
      width_of_window = sliding_window : 4096 : 0
      window := if(use_window, width_of_window, 0)
      step = decoder_sparse_step : 1
      experts = num_local_experts|num_experts : 128
      active_experts = num_experts_per_tok : 8
      expert_width = moe_intermediate_size : 768
      sparse := !in(i, mlp_only_layers) && experts > 0 && (i + 1) % step == 0
    )",
     qwen3_moe_parts, decoder_heads},
    {"deepseek_v2", exactness::exact, "DeepseekV2", layer, "", R"(
      use decoder_values
      vocab = vocab_size : 102400
      use latent_values
      dense_layers = first_k_dense_replace : 0
      experts = num_experts|n_routed_experts : 64
      active_experts = num_experts_per_tok : 0
      shared_experts = n_shared_experts : 2
      expert_width = moe_intermediate_size : 1407
      shared_width := expert_width * shared_experts
      sparse := i >= dense_layers
    )",
     deepseek_v2_parts, decoder_heads},
    {"deepseek_v3 kimi_k2*", exactness::exact, "DeepseekV3", layer, "", R"(
      use decoder_values
      vocab = vocab_size : 129280
      hidden = hidden_size : 7168
      layers = num_hidden_layers : 61
      heads = num_attention_heads : 128
      ffn = intermediate_size : 18432
      max_context = max_position_embeddings : 4096
      mlp_bias := 0
      use latent_values
      dense_layers = first_k_dense_replace : 3
      experts = num_local_experts|n_routed_experts : 256
      active_experts = num_experts_per_tok : 8
      shared_experts = n_shared_experts : 1
      expert_width = moe_intermediate_size : 2048
      shared_width := expert_width * shared_experts
      sparse := i >= dense_layers
    )",
     deepseek_v3_parts, decoder_heads},
    {"gpt_oss", exactness::exact, "GptOss", layer, "post_attention_layernorm input_layernorm norm", R"(
      use decoder_values
      vocab = vocab_size : 201088
      hidden = hidden_size : 2880
      layers = num_hidden_layers : 36
      heads = num_attention_heads : 64
      kv_heads = num_key_value_heads : 8 : heads
      head_dim = head_dim : 64 : hidden / heads
      max_context = max_position_embeddings : 131072
      attention_bias = attention_bias : 1
      plain_rope := has(rope) && is(rope.rope_type|rope.type:default, default)
      width_of_window = sliding_window : 128 : 0
      slides := if(has(layer_types), is(layer_types[i], sliding_attention), i % 2 == 0)
      window := if(slides, width_of_window, 0)
      sparse := 1
      experts = num_experts|num_local_experts : 128
      active_experts = num_experts_per_tok : 4
      expert_width = intermediate_size : 2880
    )",
     gpt_oss_parts, decoder_heads},
    {"granitemoe", exactness::exact, "GraniteMoe", layer, "", R"(
      use decoder_values
      sparse := 1
      experts = num_local_experts : 8
      active_experts = num_experts_per_tok : 2
      expert_width := ffn
    )",
     granitemoe_parts, decoder_heads},
    {"glm4_moe", exactness::exact, "Glm4Moe", layer, "", R"(
      use decoder_values
      vocab = vocab_size : 151552
      layers = num_hidden_layers : 46
      heads = num_attention_heads : 96
      kv_heads = num_key_value_heads : 8
      ffn = intermediate_size : 10944
      max_context = max_position_embeddings : 131072
      o_bias := 0
      mlp_bias := 0
      qk_norm = use_qk_norm : 0
      partial = rope.partial_rotary_factor|partial_rotary_factor : 0.5
      use partial_rotary
      dense_layers = first_k_dense_replace : 1
      experts = num_local_experts|n_routed_experts : 128
      active_experts = num_experts_per_tok : 8
      shared_experts = n_shared_experts : 1
      expert_width = moe_intermediate_size : 1408
      shared_width := expert_width * shared_experts
      sparse := i >= dense_layers
    )",
     glm4_moe_parts, decoder_heads},
    {"minimax_m2", exactness::exact, "MiniMaxM2", layer, "", R"(
      use decoder_values
      vocab = vocab_size : 200064
      hidden = hidden_size : 3072
      layers = num_hidden_layers : 62
      heads = num_attention_heads : 48
      kv_heads = num_key_value_heads : 8
      head_dim = head_dim : 128
      ffn = intermediate_size : 1536
      max_context = max_position_embeddings : 196608
      use partial_rotary
      attention_bias := 0
      sparse := 1
      experts = num_experts|num_local_experts : 256
      active_experts = num_experts_per_tok : 8
      expert_width := ffn
    )",
     minimax_m2_parts, decoder_heads},
}};

}  // namespace

std::span<const family> mixture_families() { return families; }

}  // namespace berth::architectures
