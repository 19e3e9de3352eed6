// SPDX-License-Identifier: Apache-2.0
// Models whose code is not part of transformers: trees in the names of their checkpoints, checked by parameter count.
module;

#include <array>
#include <span>
#include <string_view>

module berth.formats;

import :architecture_entry;

namespace berth::architectures {
namespace {

inline constexpr std::array<part, 1> qwen_parts{{
    {"model", R"(
      $Model
        wte Embedding(vocab, hidden)
        drop Dropout
        h ModuleList
          [i < layers] block $Block
            ln_1 {norm}
            attn $Attention
              c_attn Linear(hidden, 3*projected)
              c_proj Linear(projected, hidden, bias)
            ln_2 {norm}
            mlp $MLP
              w1 Linear(hidden, ffn, bias)
              w2 Linear(hidden, ffn, bias)
              c_proj Linear(ffn, hidden, bias)
        ln_f {norm}
    )"},
}};
inline constexpr std::array<head, 1> qwen_heads{{
    {"$LMHeadModel", "transformer <self>\nlm_head Linear(hidden, vocab, 0)", "lm_head.weight = transformer.wte.weight",
     "lm_head"},
}};

inline constexpr std::array<part, 2> nemotron_nas_parts{{
    {"block_values", R"(
      idle = block_configs[i].attention.no_op : 0
      straight = block_configs[i].attention.replace_with_linear : 0
      group = block_configs[i].attention.n_heads_in_group : 1
      attends := !idle && !straight
      kv_heads := if(attends, heads / group, 0)
      window = block_configs[i].attention.window_length : 0
      ffn_idle = block_configs[i].ffn.no_op : 0
      ffn_straight = block_configs[i].ffn.replace_with_linear : 0
      ffn_factor = block_configs[i].ffn.ffn_mult : 0
      ffn := if(ffn_idle || ffn_straight, 0, (int(2 * ffn_factor * hidden / 3) + 255) / 256 * 256)
    )"},
    {"layer", R"(
      self_attn $Attention if attends
        use qkvo
      self_attn $LinearAttention if straight
        linear_attn Linear(hidden, hidden, 0)
      mlp $GatedMLP if ffn
        use gated_mlp width=ffn
      mlp $LinearMLP if ffn_straight
        linear_mlp Linear(hidden, hidden, 0)
      input_layernorm {norm} if !idle
      post_attention_layernorm {norm} if !ffn_idle
    )"},
}};

inline constexpr std::array<part, 1> minimax_m1_parts{{
    {"layer", R"(
      self_attn $LightningAttention if !attends
        qkv_proj Linear(hidden, 3*heads*head_dim, 0)
        output_gate Linear(hidden, heads*head_dim, 0)
        out_proj Linear(heads*head_dim, hidden, 0)
        norm $RMSNorm:Scale(heads*head_dim)
      self_attn $Attention if attends
        use qkvo
      block_sparse_moe $SparseMoeBlock
        gate Linear(hidden, experts, 0)
        experts ModuleList
          [e < experts] $BlockSparseTop2MLP
            w1 Linear(hidden, expert_width, 0)
            w2 Linear(expert_width, hidden, 0)
            w3 Linear(hidden, expert_width, 0)
            act_fn {activation}
      input_layernorm {norm}
      post_attention_layernorm {norm}
    )"},
}};

/// The first LLaVA releases: the language model's own config with mm_* keys; the vision tower is another checkpoint.
inline constexpr std::array<part, 1> llava_llama_parts{{
    {"model", R"(
      $LlamaModel
        embed_tokens {embedding}
        layers ModuleList
          [i < layers] block LlamaDecoderLayer
            self_attn LlamaAttention
              use qkvo
            mlp LlamaMLP
              use gated_mlp width=ffn
            input_layernorm LlamaRMSNorm:Scale(hidden)
            post_attention_layernorm LlamaRMSNorm:Scale(hidden)
        norm LlamaRMSNorm:Scale(hidden)
        rotary_emb LlamaRotaryEmbedding ~inv_freq[(rotary_dim+1)/2]:float32
        mm_projector Linear(image_hidden, hidden) if depth == 1
        mm_projector Sequential if depth > 1
          0 Linear(image_hidden, hidden)
          1 GELU
          2 Linear(hidden, hidden)
          3 GELU if depth > 2
          4 Linear(hidden, hidden) if depth > 2
    )"},
}};
inline constexpr std::array<head, 1> llava_llama_heads{{
    {"LlavaLlamaForCausalLM", "model <self>\nlm_head Linear(hidden, vocab, 0)",
     "lm_head.weight = model.embed_tokens.weight", "lm_head"},
}};

inline constexpr std::array<family, 6> families{{
    {"qwen", exactness::by_count, "QWen", "$Block", "", R"(
      use decoder_values
      vocab = padded_vocab_size|vocab_size : 151936
      kv_heads := heads
      head_dim = kv_channels : hidden / heads
      projected := heads * head_dim
      full_ffn = intermediate_size : 22016
      ffn := full_ffn / 2
      unbiased = no_bias : 1
      bias := !unbiased
      max_context = max_position_embeddings|seq_length : 8192
    )",
     qwen_parts, qwen_heads},
    {"PanguEmbedded",
     exactness::by_count,
     "PanguEmbedded",
     "$DecoderLayer",
     "",
     R"(
      use decoder_values
      attention_bias = bias : 1
      mlp_bias := 0
    )",
     {},
     decoder_heads},
    {"internlm",
     exactness::by_count,
     "InternLM",
     "$DecoderLayer",
     "",
     R"(
      use decoder_values
      vocab = vocab_size : 103168
      kv_heads := heads
      attention_bias = bias : 1
      mlp_bias := 0
    )",
     {},
     decoder_heads},
    {"nemotron-nas", exactness::by_count, "DeciLM", "$DecoderLayer", "", R"(
      use decoder_values
      use block_values
    )",
     nemotron_nas_parts, decoder_heads},
    {"minimax_m1", exactness::by_count, "MiniMaxM1", "$DecoderLayer", "", R"(
      use decoder_values
      vocab = vocab_size : 200064
      kv_heads = num_key_value_heads : 8
      max_context = max_position_embeddings : 10240000
      attention_bias := 0
      attends = attn_type_list[i] : (i + 1) % 8 == 0
      sparse := 1
      experts = num_local_experts : 32
      active_experts = num_experts_per_tok : 2
      expert_width := ffn
      state_f32 := if(attends, 0, heads * head_dim * head_dim)
    )",
     minimax_m1_parts, decoder_heads},
    {"llava_llama", exactness::by_count, "Llava", "LlamaDecoderLayer", "", R"(
      use decoder_values
      image_hidden = mm_hidden_size : 1024
      depth := if(is(mm_projector_type, mlp3x_gelu), 3, if(is(mm_projector_type, mlp2x_gelu), 2, 1))
    )",
     llava_llama_parts, llava_llama_heads},
}};

}  // namespace

std::span<const family> counted_families() { return families; }

}  // namespace berth::architectures
