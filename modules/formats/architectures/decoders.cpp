// SPDX-License-Identifier: Apache-2.0
// Decoders in Llama's shape. Each entry lists what differs from the shared decoder (registry.cpp).
module;

#include <array>
#include <span>
#include <string_view>

module berth.formats;

import :architecture_entry;

namespace berth::architectures {
namespace {

inline constexpr std::string_view layer = "$DecoderLayer";

inline constexpr std::array<part, 1> head_norm_parts{{{"attention", "use attention_head_norms"}}};

inline constexpr std::array<part, 2> gemma_parts{{
    {"embedding", "$TextScaledWordEmbedding:Embedding(vocab, hidden) ~embed_scale[]"},
    {"activation", "@hidden_act:gelu_pytorch_tanh"},
}};
inline constexpr std::string_view gemma2_layer = R"(
  self_attn $Attention
    use attention
  use ffn
  input_layernorm {norm}
  post_attention_layernorm {norm}
  pre_feedforward_layernorm {norm}
  post_feedforward_layernorm {norm}
)";
inline constexpr std::array<part, 3> gemma2_parts{{
    {"embedding", "$TextScaledWordEmbedding:Embedding(vocab, hidden) ~embed_scale[]"},
    {"layer", gemma2_layer},
    {"activation", "@hidden_activation:gelu_pytorch_tanh"},
}};
inline constexpr std::array<part, 8> gemma3_parts{{
    {"embedding", "$TextScaledWordEmbedding:Embedding(vocab, hidden) ~embed_scale[]"},
    {"layer", gemma2_layer},
    {"activation", "@hidden_activation:gelu_pytorch_tanh"},
    {"attention", "use attention_head_norms"},
    {"model", R"(
      $TextModel
        embed_tokens {embedding}
        layers ModuleList
          [i < layers] block $DecoderLayer
            use layer
        norm {norm}
        use rope
    )"},
    {"rope", R"(
      rotary_emb $RotaryEmbedding {full_tables} {sliding_tables}
    )"},
    {"full_tables",
     "~full_attention_inv_freq[(head_dim+1)/2]:float32?any_full "
     "~full_attention_original_inv_freq[(head_dim+1)/2]:float32?any_full"},
    {"sliding_tables",
     "~sliding_attention_inv_freq[(head_dim+1)/2]:float32?any_sliding "
     "~sliding_attention_original_inv_freq[(head_dim+1)/2]:float32?any_sliding"},
}};

inline constexpr std::array<part, 2> phi_parts{{
    {"model", R"(
      $Model
        embed_tokens {embedding}
        layers ModuleList
          [i < layers] block $DecoderLayer
            use layer
        use rope
        embed_dropout Dropout
        final_layernorm LayerNorm(hidden)
    )"},
    {"layer", R"(
      self_attn $Attention
        q_proj Linear(hidden, heads*head_dim)
        k_proj Linear(hidden, kv_heads*head_dim)
        v_proj Linear(hidden, kv_heads*head_dim)
        dense Linear(heads*head_dim, hidden)
        q_layernorm LayerNorm(hidden/heads) if qk_norm
        k_layernorm LayerNorm(hidden/heads) if qk_norm
      mlp $MLP
        activation_fn @hidden_act:gelu_new
        fc1 Linear(hidden, ffn)
        fc2 Linear(ffn, hidden)
      input_layernorm LayerNorm(hidden)
      resid_dropout Dropout
    )"},
}};

inline constexpr std::array<part, 1> phi3_parts{{
    {"layer", R"(
      self_attn $Attention
        o_proj Linear(heads*head_dim, hidden, 0)
        qkv_proj Linear(hidden, (heads+2*kv_heads)*head_dim, 0)
      mlp $MLP
        gate_up_proj Linear(hidden, 2*ffn, 0)
        down_proj Linear(ffn, hidden, 0)
        activation_fn @hidden_act:silu
      input_layernorm {norm}
      post_attention_layernorm {norm}
      resid_attn_dropout Dropout
      resid_mlp_dropout Dropout
    )"},
}};

inline constexpr std::array<part, 2> starcoder2_parts{{
    {"norm", "LayerNorm(hidden)"},
    {"ffn", R"(
      mlp $MLP
        c_fc Linear(hidden, ffn, mlp_bias)
        c_proj Linear(ffn, hidden, mlp_bias)
        act @hidden_act:gelu_pytorch_tanh
    )"},
}};

inline constexpr std::array<part, 1> olmo_parts{{{"norm", "$LayerNorm"}}};

inline constexpr std::array<part, 2> olmo2_parts{{
    {"layer", R"(
      self_attn $Attention
        use attention
      use ffn
      post_attention_layernorm {norm}
      post_feedforward_layernorm {norm}
    )"},
    {"attention", R"(
      use qkvo
      q_norm $RMSNorm:Scale(heads*head_dim)
      k_norm $RMSNorm:Scale(kv_heads*head_dim)
    )"},
}};

inline constexpr std::array<part, 3> stablelm_parts{{
    {"norm", "LayerNorm(hidden)"},
    {"layer", R"(
      self_attn $Attention
        use attention
      use ffn
      input_layernorm {norm}
      post_attention_layernorm {norm} if !parallel
      dropout Dropout
    )"},
    {"attention", R"(
      use qkvo
      q_layernorm $LayerNormPerHead if qk_norm
        norms ModuleList
          [head < heads] LayerNorm(head_dim, 0)
      k_layernorm $LayerNormPerHead if qk_norm
        norms ModuleList
          [head < kv_heads] LayerNorm(head_dim, 0)
    )"},
}};

inline constexpr std::array<part, 3> cohere_parts{{
    {"norm", "$LayerNorm:Scale(hidden)"},
    {"layer", R"(
      self_attn $Attention
        use attention
      use ffn
      input_layernorm {norm}
    )"},
    {"attention", R"(
      use qkvo
      q_norm $LayerNorm:Scale(heads, head_dim) if qk_norm
      k_norm $LayerNorm:Scale(kv_heads, head_dim) if qk_norm
    )"},
}};

inline constexpr std::array<family, 16> families{{
    {"llama", exactness::exact, "Llama", layer, "", "use decoder_values", {}, decoder_heads},
    {"mistral",
     exactness::exact,
     "Mistral",
     layer,
     "",
     R"(
      use decoder_values
      kv_heads = num_key_value_heads : 8 : heads
      ffn = intermediate_size : 14336
      max_context = max_position_embeddings : 131072
      attention_bias := 0
      mlp_bias := 0
      window = sliding_window : 4096 : 0
    )",
     {},
     decoder_heads},
    {"qwen2 mimo*",
     exactness::exact,
     "Qwen2",
     layer,
     "",
     R"(
      use decoder_values
      use sliding_values
      vocab = vocab_size : 151936
      kv_heads = num_key_value_heads : 32 : heads
      ffn = intermediate_size : 22016
      max_context = max_position_embeddings : 32768
      qkv_bias := 1
      o_bias := 0
      mlp_bias := 0
    )",
     {},
     decoder_heads},
    {"qwen3", exactness::exact, "Qwen3", layer, "", R"(
      use decoder_values
      use sliding_values
      vocab = vocab_size : 151936
      kv_heads = num_key_value_heads : 32 : heads
      head_dim = head_dim : 128 : hidden / heads
      ffn = intermediate_size : 22016
      max_context = max_position_embeddings : 32768
      mlp_bias := 0
    )",
     head_norm_parts, decoder_heads},
    {"gemma", exactness::exact, "Gemma", layer, "", R"(
      use decoder_values
      vocab = vocab_size : 256000
      hidden = hidden_size : 3072
      layers = num_hidden_layers : 28
      heads = num_attention_heads : 16
      kv_heads = num_key_value_heads : 16
      head_dim = head_dim : 256
      ffn = intermediate_size : 24576
      max_context = max_position_embeddings : 8192
      tied = tie_word_embeddings : 1
      mlp_bias := 0
    )",
     gemma_parts, decoder_heads},
    {"gemma2", exactness::exact, "Gemma2", layer, "", R"(
      use decoder_values
      vocab = vocab_size : 256000
      hidden = hidden_size : 2304
      layers = num_hidden_layers : 26
      heads = num_attention_heads : 8
      kv_heads = num_key_value_heads : 4
      head_dim = head_dim : 256
      ffn = intermediate_size : 9216
      max_context = max_position_embeddings : 8192
      tied = tie_word_embeddings : 1
      mlp_bias := 0
      width_of_window = sliding_window : 4096 : 0
      slides := if(has(layer_types), is(layer_types[i], sliding_attention), (i + 1) % 2)
      window := if(slides, width_of_window, 0)
    )",
     gemma2_parts, decoder_heads},
    {"gemma3_text", exactness::exact, "Gemma3", layer, "", R"(
      use decoder_values
      vocab = vocab_size : 262208
      hidden = hidden_size : 2304
      layers = num_hidden_layers : 26
      heads = num_attention_heads : 8
      kv_heads = num_key_value_heads : 4
      head_dim = head_dim : 256
      ffn = intermediate_size : 9216
      max_context = max_position_embeddings : 131072
      tied = tie_word_embeddings : 1
      mlp_bias := 0
      width_of_window = sliding_window : 4096 : 0
      pattern = sliding_window_pattern : 6
      slides := if(has(layer_types), is(layer_types[i], sliding_attention), (i + 1) % pattern != 0)
      window := if(slides, width_of_window, 0)
      any_full := if(has(layer_types), any(layer_types, full_attention), layers >= pattern)
      any_sliding := if(has(layer_types), any(layer_types, sliding_attention), layers > 0 && pattern > 1)
    )",
     gemma3_parts, decoder_heads},
    {"phi", exactness::exact, "Phi", layer, "", R"(
      use decoder_values
      vocab = vocab_size : 51200
      hidden = hidden_size : 2048
      layers = num_hidden_layers : 24
      ffn = intermediate_size : 8192
      partial = rope.partial_rotary_factor|partial_rotary_factor : 0.5
      use partial_rotary
      qk_norm = qk_layernorm : 0
      head_bias := 1
    )",
     phi_parts, decoder_heads},
    {"phi3", exactness::exact, "Phi3", layer, "", R"(
      use decoder_values
      vocab = vocab_size : 32064
      hidden = hidden_size : 3072
      ffn = intermediate_size : 8192
      max_context = max_position_embeddings : 4096
      use partial_rotary
      window = sliding_window : 0
    )",
     phi3_parts, decoder_heads},
    {"starcoder2", exactness::exact, "Starcoder2", layer, "", R"(
      use decoder_values
      vocab = vocab_size : 49152
      hidden = hidden_size : 3072
      layers = num_hidden_layers : 30
      heads = num_attention_heads : 24
      kv_heads = num_key_value_heads : 2
      ffn = intermediate_size : 12288
      max_context = max_position_embeddings : 4096
      tied = tie_word_embeddings : 1
      attention_bias = use_bias : 1
      mlp_bias = use_bias : 1
      window = sliding_window : 0
    )",
     starcoder2_parts, decoder_heads},
    {"granite", exactness::exact, "Granite", layer, "", "use decoder_values", {}, decoder_heads},
    {"olmo", exactness::exact, "Olmo", layer, "", R"(
      use decoder_values
      vocab = vocab_size : 50304
      mlp_bias := 0
    )",
     olmo_parts, decoder_heads},
    {"olmo2", exactness::exact, "Olmo2", layer, "", R"(
      use decoder_values
      vocab = vocab_size : 50304
      mlp_bias := 0
    )",
     olmo2_parts, decoder_heads},
    {"stablelm", exactness::exact, "StableLm", layer, "", R"(
      use decoder_values
      vocab = vocab_size : 50304
      hidden = hidden_size : 2560
      kv_heads = num_key_value_heads : 32 : heads
      head_dim := hidden / heads
      ffn = intermediate_size : 6912
      max_context = max_position_embeddings : 4096
      qkv_bias = use_qkv_bias : 0
      o_bias := 0
      mlp_bias := 0
      partial = rope.partial_rotary_factor|partial_rotary_factor : 0.25
      use partial_rotary
      qk_norm = qk_layernorm : 0
      parallel = use_parallel_residual : 0
    )",
     stablelm_parts, decoder_heads},
    {"cohere", exactness::exact, "Cohere", layer, "", R"(
      use decoder_values
      vocab = vocab_size : 256000
      hidden = hidden_size : 8192
      layers = num_hidden_layers : 40
      heads = num_attention_heads : 64
      ffn = intermediate_size : 22528
      max_context = max_position_embeddings : 8192
      tied = tie_word_embeddings : 1
      qk_norm = use_qk_norm : 0
      mlp_bias := 0
    )",
     cohere_parts, decoder_heads},
    {"ministral3",
     exactness::exact,
     "Ministral3",
     layer,
     "",
     R"(
      use decoder_values
      vocab = vocab_size : 131072
      layers = num_hidden_layers : 34
      kv_heads = num_key_value_heads : 8 : heads
      head_dim = head_dim : 128 : hidden / heads
      ffn = intermediate_size : 14336
      max_context = max_position_embeddings : 262144
      attention_bias := 0
      mlp_bias := 0
      window = sliding_window : 0
    )",
     {},
     decoder_heads},
}};

}  // namespace

std::span<const family> decoder_families() { return families; }

}  // namespace berth::architectures
