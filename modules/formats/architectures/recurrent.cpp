// SPDX-License-Identifier: Apache-2.0
// Models with a constant state in some or all layers: Mamba, Nemotron-H, Zamba, Qwen3.5's gated delta nets.
module;

#include <array>
#include <span>
#include <string_view>

module berth.formats;

import :architecture_entry;

namespace berth::architectures {
namespace {

inline constexpr std::array<part, 1> mamba_parts{{
    {"model", R"(
      $Model
        embeddings Embedding(vocab, hidden)
        layers ModuleList
          [i < layers] block $Block
            norm {norm}
            mixer $Mixer A_log[inner,state_size] D[inner]
              conv1d Conv1d(1, inner, kernel, conv_bias)
              act @hidden_act:silu
              in_proj Linear(hidden, 2*inner, bias)
              x_proj Linear(inner, rank+2*state_size, 0)
              dt_proj Linear(rank, inner)
              out_proj Linear(inner, hidden, bias)
        norm_f {norm}
    )"},
}};
inline constexpr std::array<head, 1> mamba_heads{{
    {"$ForCausalLM", "backbone <self>\nlm_head Linear(hidden, vocab, 0)", "lm_head.weight = backbone.embeddings.weight",
     "lm_head"},
}};

inline constexpr std::array<part, 6> nemotron_h_parts{{
    {"model", R"(
      $Model
        embeddings Embedding(vocab, hidden)
        layers ModuleList
          [i < layers] block $Block
            norm {norm}
            use mamba if recurrent
            use experts if sparse
            mixer $Attention if attends
              use qkvo
            mixer $MLP if plain
              use squared_mlp width=dense_width
        norm_f {norm}
    )"},
    {"mamba", R"(
      mixer $Mamba2Mixer dt_bias[ssm_heads] A_log[ssm_heads] D[ssm_heads]
        act @mamba_hidden_act:silu
        conv1d Conv1d(1, conv_dim, kernel, conv_bias)
        in_proj Linear(hidden, inner+conv_dim+ssm_heads, bias)
        norm Zamba2RMSNormGated:Scale(inner)
        out_proj Linear(inner, hidden, bias)
    )"},
    {"experts", R"(
      mixer $MoE
        experts $Experts up_proj[experts,expert_width,expert_input] down_proj[experts,expert_input,expert_width]
          act_fn @mlp_hidden_act:relu2
        gate $TopkRouter weight[experts,hidden] +e_score_correction_bias[experts]
        shared_experts $MLP
          use squared_mlp width=shared_width
        use latent_projections
    )"},
    {"latent_projections", R"(
      fc1_latent_proj Linear(hidden, latent, mlp_bias) if latent
      fc1_latent_proj Identity if !latent
      fc2_latent_proj Linear(latent, hidden, mlp_bias) if latent
      fc2_latent_proj Identity if !latent
    )"},
    {"squared_mlp", R"(
      up_proj Linear(hidden, width, mlp_bias)
      down_proj Linear(width, hidden, mlp_bias)
      act_fn @mlp_hidden_act:relu2
    )"},
    {"nemotron_kinds", R"(
      listed := has(layers_block_type|layer_types)
      patterned := !listed && has(hybrid_override_pattern)
      layers := if(listed, len(layers_block_type|layer_types), if(patterned, len(hybrid_override_pattern), 4))
      typed_linear := is(layers_block_type[i]|layer_types[i], linear_attention) || is(layers_block_type[i]|layer_types[i], mamba)
      typed_full := is(layers_block_type[i]|layer_types[i], full_attention) || is(layers_block_type[i]|layer_types[i], attention)
      recurrent := if(listed, typed_linear, if(patterned, is(hybrid_override_pattern[i], M), i == 0))
      sparse := if(listed, is(layers_block_type[i]|layer_types[i], moe), if(patterned, is(hybrid_override_pattern[i], E), i == 1))
      attends := if(listed, typed_full, if(patterned, is(hybrid_override_pattern[i], *), i == 2))
      plain := !recurrent && !sparse && !attends
    )"},
}};
inline constexpr std::array<head, 1> untied_heads{{
    {"$ForCausalLM", "model <self>\nlm_head Linear(hidden, vocab, 0)", "", "lm_head"},
}};

inline constexpr std::array<part, 4> zamba_parts{{
    {"model", R"(
      $Model
        embed_tokens Embedding(vocab, hidden)
        layers ModuleList
          [i < layers] block $HybridLayer?hybrid:$MambaDecoderLayer
            shared_transf tied $AttentionDecoderLayer if hybrid
              use shared
            linear Linear(hidden, hidden, 0) if hybrid
            mamba_decoder $MambaDecoderLayer if hybrid
              use mamba
            use mamba if !hybrid
        final_layernorm {norm}
    )"},
    {"shared", R"(
      self_attn $Attention
        q_proj Linear(attention_hidden, heads*head_dim, 0)
        k_proj Linear(attention_hidden, kv_heads*head_dim, 0)
        v_proj Linear(attention_hidden, kv_heads*head_dim, 0)
        o_proj Linear(heads*head_dim, hidden, 0)
      feed_forward $MLP
        gate_proj Linear(hidden, ffn, 0)
        up_proj Linear(hidden, ffn, 0)
        down_proj Linear(ffn, hidden, 0)
        act_fn @hidden_act:gelu
      input_layernorm $RMSNorm:Scale(attention_hidden)
      pre_ff_layernorm {norm}
    )"},
    {"mamba", R"(
      mamba $MambaMixer {mamba_tensors}
        conv1d Conv1d(1, inner, kernel, conv_bias)
        act @hidden_mamba_act:silu
        in_proj Linear(hidden, 2*inner, bias)
        out_proj Linear(inner, hidden, bias)
      input_layernorm {norm}
    )"},
    {"mamba_tensors",
     "x_proj_weight[ssm_heads,rank+2*state_size,ssm_dim] dt_proj_weight[ssm_heads,ssm_dim,rank] "
     "dt_proj_bias[ssm_heads,ssm_dim] A_log[ssm_heads,ssm_dim,state_size]:float32 D[ssm_heads,ssm_dim]"},
}};

inline constexpr std::array<part, 1> lfm2_parts{{
    {"model", R"(
      $Model
        embed_tokens {embedding}
        layers ModuleList
          [i < layers] block $DecoderLayer
            self_attn $Attention if attends
              q_proj Linear(hidden, heads*head_dim, 0)
              k_proj Linear(hidden, kv_heads*head_dim, 0)
              v_proj Linear(hidden, kv_heads*head_dim, 0)
              out_proj Linear(heads*head_dim, hidden, 0)
              q_layernorm $RMSNorm:Scale(head_dim)
              k_layernorm $RMSNorm:Scale(head_dim)
            conv $ShortConv if !attends
              conv Conv1d(1, hidden, kernel, conv_bias)
              in_proj Linear(hidden, 3*hidden, conv_bias)
              out_proj Linear(hidden, hidden, conv_bias)
            feed_forward $MLP
              w1 Linear(hidden, ffn, 0)
              w3 Linear(hidden, ffn, 0)
              w2 Linear(ffn, hidden, 0)
            operator_norm {norm}
            ffn_norm {norm}
        use rope
        embedding_norm {norm}
    )"},
}};

inline constexpr std::array<family, 4> families{{
    {"mamba", exactness::exact, "Mamba", "$Block $Mixer", "", R"(
      vocab = vocab_size : 50280
      hidden = hidden_size : 768
      layers = num_hidden_layers : 32
      state_size = state_size : 16
      expand = expand : 2
      inner := int(expand * hidden)
      kernel = conv_kernel : 4
      bias = use_bias : 0
      conv_bias = use_conv_bias : 1
      rank = time_step_rank : (hidden + 15) / 16
      tied = tie_word_embeddings : 1
      state := inner * kernel
      state_f32 := inner * state_size
    )",
     mamba_parts, mamba_heads},
    {"nemotron_h", exactness::exact, "NemotronH", "$Block", "", R"(
      use decoder_values
      use nemotron_kinds
      vocab = vocab_size : 131072
      kv_heads = num_key_value_heads : 8 : heads
      head_dim = head_dim : 128
      qkv_bias := 0
      o_bias := 0
      max_context = max_position_embeddings : 4096
      dense_width = intermediate_size : 21504
      ffn := if(plain, dense_width, 0)
      bias = use_bias : 0
      ssm_heads = mamba_num_heads : 128
      ssm_dim = mamba_head_dim : 64
      state_size = ssm_state_size : 128
      groups = mamba_n_groups|n_groups : 8
      kernel = mamba_d_conv|conv_kernel : 4
      conv_bias = mamba_conv_bias|use_conv_bias : 1
      inner := ssm_heads * ssm_dim
      conv_dim := inner + 2 * groups * state_size
      experts = num_local_experts|n_routed_experts : 8
      active_experts = num_experts_per_tok : 2
      expert_width = moe_intermediate_size : 7688
      shared_width = moe_shared_expert_intermediate_size : 7688
      latent = moe_latent_size : 0
      expert_input := if(latent, latent, hidden)
      window = sliding_window : 0
      state := if(recurrent, conv_dim * kernel, 0)
      state_f32 := if(recurrent, ssm_heads * ssm_dim * state_size, 0)
    )",
     nemotron_h_parts, untied_heads},
    {"zamba", exactness::exact, "Zamba", "$HybridLayer $MambaDecoderLayer", "", R"(
      use head_values
      vocab = vocab_size : 32000
      hidden = hidden_size : 3712
      listed := has(layers_block_type|layer_types)
      stated_layers = num_hidden_layers : 76
      layers := if(listed, len(layers_block_type|layer_types), stated_layers)
      heads = num_attention_heads : 16
      kv_heads = num_key_value_heads : 16
      stated_attention = attention_hidden_size : 0
      attention_hidden := if(stated_attention, stated_attention, 2 * hidden)
      stated_dim = attention_head_dim|head_dim : 0
      head_dim := if(stated_dim, stated_dim, 2 * hidden / heads)
      dense_width = intermediate_size : 14848
      max_context = max_position_embeddings : 4096
      period = attn_layer_period : 6
      offset = attn_layer_offset : 4
      hybrid := if(listed, is(layers_block_type[i]|layer_types[i], hybrid), i == 2 || (i > 2 && (i - 3) % period == offset))
      ffn := dense_width
      attends := hybrid
      ssm_heads = n_mamba_heads : 2
      state_size = mamba_d_state : 16
      kernel = mamba_d_conv : 4
      expand = mamba_expand : 2
      rank = mamba_dt_rank : (hidden + 15) / 16
      inner := expand * hidden
      ssm_dim := inner / ssm_heads
      conv_bias = mamba_conv_bias : 1
      bias = mamba_proj_bias : 0
      tied = tie_word_embeddings : 1
      state := inner * kernel
      state_f32 := inner * state_size
    )",
     zamba_parts, decoder_heads},
    {"lfm2", exactness::exact, "Lfm2", "$DecoderLayer", "", R"(
      use decoder_values
      vocab = vocab_size : 65536
      hidden = hidden_size : 2560
      kv_heads = num_key_value_heads : 8
      max_context = max_position_embeddings : 128000
      tied = tie_embedding|tie_word_embeddings : 1
      stated_ffn = block_ff_dim|intermediate_size : 12288
      adjusts = block_auto_adjust_ff_dim : 1
      factor = block_ffn_dim_multiplier : 1
      multiple = block_multiple_of : 256
      scaled := int(factor * int(2 * stated_ffn / 3))
      ffn := if(adjusts, (scaled + multiple - 1) / multiple * multiple, stated_ffn)
      kernel = conv_L_cache : 3
      conv_bias = conv_bias : 0
      listed := is(layer_types[i], full_attention) || is(layer_types[i], attention)
      attends := if(has(layer_types), listed, if(has(full_attn_idxs), in(i, full_attn_idxs), 1))
      state := if(attends, 0, hidden * kernel)
    )",
     lfm2_parts, decoder_heads},
}};

}  // namespace

std::span<const family> recurrent_families() { return families; }

}  // namespace berth::architectures
