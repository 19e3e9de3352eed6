// SPDX-License-Identifier: Apache-2.0
// Decoders in the shape of GPT-2 and its relatives: learned or ALiBi positions, LayerNorm, plain MLPs.
module;

#include <array>
#include <span>
#include <string_view>

module berth.formats;

import :architecture_entry;

namespace berth::architectures {
namespace {

inline constexpr std::array<head, 3> gpt2_heads{{
    {"$LMHeadModel", "transformer <self>\nlm_head Linear(hidden, vocab, 0)", "lm_head.weight = transformer.wte.weight",
     "lm_head"},
    {"$ForSequenceClassification", "transformer <self>\nscore Linear(hidden, classes, 0)", "", ""},
    {"$ForTokenClassification", "transformer <self>\ndropout Dropout\nclassifier Linear(hidden, classes)", "", ""},
}};
inline constexpr std::array<head, 2> wte_heads{{
    {"$ForCausalLM", "transformer <self>\nlm_head Linear(hidden, vocab, head_bias)",
     "lm_head.weight = transformer.wte.weight", "lm_head"},
    {"$ForSequenceClassification", "transformer <self>\nscore Linear(hidden, classes, 0)", "", ""},
}};
inline constexpr std::array<head, 2> word_embedding_heads{{
    {"$ForCausalLM", "transformer <self>\nlm_head Linear(hidden, vocab, 0)",
     "lm_head.weight = transformer.word_embeddings.weight", "lm_head"},
    {"$ForSequenceClassification", "transformer <self>\nscore Linear(hidden, classes, 0)", "", ""},
}};
inline constexpr std::array<head, 1> gpt_neox_heads{{
    {"$ForCausalLM", "gpt_neox <self>\nlm_head Linear(hidden, vocab, 0)", "lm_head.weight = gpt_neox.embed_in.weight",
     "lm_head"},
}};
inline constexpr std::array<head, 2> opt_heads{{
    {"$ForCausalLM", "model <self>\nlm_head Linear(embedding_dim, vocab, 0)",
     "lm_head.weight = model.decoder.embed_tokens.weight", "lm_head"},
    {"$ForSequenceClassification", "model <self>\nscore Linear(embedding_dim, classes, 0)", "", ""},
}};

/// Values that GPT-2's descendants read under GPT-2's key names.
inline constexpr part gpt2_values{"gpt2_values", R"(
  vocab = vocab_size : 50257
  hidden = n_embd|hidden_size : 768
  layers = n_layer|num_hidden_layers : 12
  heads = n_head|num_attention_heads : 12
  positions = n_positions|max_position_embeddings : 1024
  max_context := positions
  head_dim := hidden / heads
  kv_heads := heads
  ffn = n_inner : 4 * hidden
  tied = tie_word_embeddings : 1
  cross = add_cross_attention : 0
  use head_values
)"};

inline constexpr std::array<part, 4> gpt2_parts{{
    gpt2_values,
    {"model", R"(
      $Model
        wte Embedding(vocab, hidden)
        wpe Embedding(positions, hidden)
        drop Dropout
        h ModuleList
          [i < layers] block $Block
            ln_1 LayerNorm(hidden)
            attn $Attention
              c_attn Conv1D(hidden, 3*hidden)
              use attention_tail
            ln_2 LayerNorm(hidden)
            crossattention $Attention if cross
              c_attn Conv1D(hidden, 2*hidden)
              q_attn Conv1D(hidden, hidden)
              use attention_tail
            ln_cross_attn LayerNorm(hidden) if cross
            use gpt_mlp
        ln_f LayerNorm(hidden)
    )"},
    {"attention_tail", R"(
      c_proj Conv1D(hidden, hidden)
      attn_dropout Dropout
      resid_dropout Dropout
    )"},
    {"gpt_mlp", R"(
      mlp $MLP
        c_fc Conv1D(hidden, ffn)
        c_proj Conv1D(ffn, hidden)
        act @activation_function:gelu_new
        dropout Dropout
    )"},
}};

inline constexpr std::array<part, 2> gptj_parts{{
    gpt2_values,
    {"model", R"(
      $Model
        wte Embedding(vocab, hidden)
        drop Dropout
        h ModuleList
          [i < layers] block $Block
            ln_1 LayerNorm(hidden)
            attn $Attention ~embed_positions[positions,rotary_dim]:float32
              attn_dropout Dropout
              resid_dropout Dropout
              k_proj Linear(hidden, hidden, 0)
              v_proj Linear(hidden, hidden, 0)
              q_proj Linear(hidden, hidden, 0)
              out_proj Linear(hidden, hidden, 0)
            mlp $MLP
              fc_in Linear(hidden, ffn)
              fc_out Linear(ffn, hidden)
              act @activation_function:gelu_new
              dropout Dropout
        ln_f LayerNorm(hidden)
    )"},
}};

inline constexpr std::array<part, 1> gpt_neox_parts{{
    {"model", R"(
      $Model
        embed_in Embedding(vocab, hidden)
        emb_dropout Dropout
        layers ModuleList
          [i < layers] block $Layer
            input_layernorm LayerNorm(hidden)
            post_attention_layernorm LayerNorm(hidden)
            post_attention_dropout Dropout
            post_mlp_dropout Dropout
            attention $Attention
              query_key_value Linear(hidden, 3*hidden, attention_bias)
              dense Linear(hidden, hidden, attention_bias)
            mlp $MLP
              dense_h_to_4h Linear(hidden, ffn)
              dense_4h_to_h Linear(ffn, hidden)
              act @hidden_act:gelu
        final_layer_norm LayerNorm(hidden)
        use rope
    )"},
}};

inline constexpr std::array<part, 2> gpt_bigcode_parts{{
    gpt2_values,
    {"model", R"(
      $Model ~bias[positions,positions]:bool
        wte Embedding(vocab, hidden)
        wpe Embedding(positions, hidden)
        drop Dropout
        h ModuleList
          [i < layers] block $Block
            ln_1 LayerNorm(hidden)
            attn $Attention
              c_attn Linear(hidden, hidden+2*kv_heads*head_dim)
              c_proj Linear(hidden, hidden)
              resid_dropout Dropout
            ln_2 LayerNorm(hidden)
            crossattention $Attention if cross
              c_attn Linear(hidden, 2*hidden)
              q_attn Linear(hidden, hidden)
              c_proj Linear(hidden, hidden)
              resid_dropout Dropout
            ln_cross_attn LayerNorm(hidden) if cross
            mlp $MLP
              c_fc Linear(hidden, ffn)
              c_proj Linear(ffn, hidden)
              act @activation_function:gelu_pytorch_tanh
              dropout Dropout
        ln_f LayerNorm(hidden)
    )"},
}};

inline constexpr std::array<part, 1> opt_parts{{
    {"model", R"(
      $Model
        decoder $Decoder
          embed_tokens Embedding(vocab, embedding_dim)
          embed_positions $LearnedPositionalEmbedding:Embedding(max_context+2, hidden)
          project_out Linear(hidden, embedding_dim, 0) if embedding_dim != hidden
          project_in Linear(embedding_dim, hidden, 0) if embedding_dim != hidden
          final_layer_norm LayerNorm(hidden, 1, affine) if norm_before && !no_final_norm
          layers ModuleList
            [i < layers] block $DecoderLayer
              self_attn $Attention
                k_proj Linear(hidden, hidden, bias)
                v_proj Linear(hidden, hidden, bias)
                q_proj Linear(hidden, hidden, bias)
                out_proj Linear(hidden, hidden, bias)
              activation_fn @activation_function:relu
              self_attn_layer_norm LayerNorm(hidden, 1, affine)
              fc1 Linear(hidden, ffn, bias)
              fc2 Linear(ffn, hidden, bias)
              final_layer_norm LayerNorm(hidden, 1, affine)
    )"},
}};

inline constexpr std::array<part, 1> bloom_parts{{
    {"model", R"(
      $Model
        word_embeddings Embedding(vocab, hidden)
        word_embeddings_layernorm LayerNorm(hidden)
        h ModuleList
          [i < layers] block $Block
            input_layernorm LayerNorm(hidden)
            self_attention $Attention
              query_key_value Linear(hidden, 3*hidden)
              dense Linear(hidden, hidden)
              attention_dropout Dropout
            post_attention_layernorm LayerNorm(hidden)
            mlp $MLP
              dense_h_to_4h Linear(hidden, ffn)
              gelu_impl $Gelu
              dense_4h_to_h Linear(ffn, hidden)
        ln_f LayerNorm(hidden)
    )"},
}};

inline constexpr std::array<part, 1> falcon_parts{{
    {"model", R"(
      $Model
        word_embeddings Embedding(vocab, hidden)
        h ModuleList
          [i < layers] block $DecoderLayer
            self_attention $Attention
              query_key_value $Linear:Linear(hidden, (heads+2*projected_kv)*head_dim, bias)
              dense $Linear:Linear(hidden, hidden, bias)
              attention_dropout Dropout
            mlp $MLP
              dense_h_to_4h $Linear:Linear(hidden, ffn, bias)
              act @activation:gelu
              dense_4h_to_h $Linear:Linear(ffn, hidden, bias)
            post_attention_layernorm LayerNorm(hidden) if !parallel
            ln_attn LayerNorm(hidden) if parallel && norms == 2
            ln_mlp LayerNorm(hidden) if parallel && norms == 2
            input_layernorm LayerNorm(hidden) if !parallel || norms != 2
        ln_f LayerNorm(hidden)
        use rope
    )"},
}};

inline constexpr std::array<part, 1> mpt_parts{{
    {"model", R"(
      $Model
        wte Embedding(vocab, hidden)
        blocks ModuleList
          [i < layers] block $Block
            norm_1 LayerNorm(hidden, 0)
            attn $Attention
              Wqkv Linear(hidden, 3*hidden, 0)
              out_proj Linear(hidden, hidden, 0)
            norm_2 LayerNorm(hidden, 0)
            ffn $MLP
              up_proj Linear(hidden, ffn, 0)
              act GELU
              down_proj Linear(ffn, hidden, 0)
            resid_attn_dropout Dropout
        norm_f LayerNorm(hidden, 0)
    )"},
}};

inline constexpr std::array<family, 8> families{{
    {"gpt2", exactness::exact, "GPT2", "$Block", "", "use gpt2_values", gpt2_parts, gpt2_heads},
    {"gptj", exactness::exact, "GPTJ", "$Block", "", R"(
      use gpt2_values
      vocab = vocab_size : 50400
      hidden = n_embd|hidden_size : 4096
      layers = n_layer|num_hidden_layers : 28
      heads = n_head|num_attention_heads : 16
      positions = n_positions|max_position_embeddings : 2048
      tied = tie_word_embeddings : 0
      rotary = rotary_dim : 64 : 0
      rotary_dim := if(rotary, rotary, hidden)
      head_bias := 1
    )",
     gptj_parts, wte_heads},
    {"gpt_neox", exactness::exact, "GPTNeoX", "$Layer", "", R"(
      use decoder_values
      vocab = vocab_size : 50432
      hidden = hidden_size : 6144
      layers = num_hidden_layers : 44
      heads = num_attention_heads : 64
      kv_heads := heads
      head_dim := hidden / heads
      ffn = intermediate_size : 24576
      attention_bias = attention_bias : 1
      partial = rope.partial_rotary_factor|rotary_pct : 0.25
      use partial_rotary
    )",
     gpt_neox_parts, gpt_neox_heads},
    {"gpt_bigcode", exactness::exact, "GPTBigCode", "$Block", "", R"(
      use gpt2_values
      multi_query = multi_query : 1
      kv_heads := if(multi_query, 1, heads)
    )",
     gpt_bigcode_parts, wte_heads},
    {"opt", exactness::exact, "OPT", "$DecoderLayer", "", R"(
      use decoder_values
      vocab = vocab_size : 50272
      hidden = hidden_size : 768
      layers = num_hidden_layers : 12
      heads = num_attention_heads : 12
      kv_heads := heads
      head_dim := hidden / heads
      ffn = ffn_dim : 3072
      tied = tie_word_embeddings : 1
      embedding_dim = word_embed_proj_dim : hidden
      norm_before = do_layer_norm_before : 1
      no_final_norm = _remove_final_layer_norm : 0
      bias = enable_bias : 1
      affine = layer_norm_elementwise_affine : 1
    )",
     opt_parts, opt_heads},
    {"bloom", exactness::exact, "Bloom", "$Block", "", R"(
      use decoder_values
      vocab = vocab_size : 250880
      hidden = n_embed|hidden_size : 64
      layers = n_layer|num_hidden_layers : 2
      heads = n_head|num_attention_heads : 8
      kv_heads := heads
      head_dim := hidden / heads
      ffn := 4 * hidden
      max_context = seq_length : 2048
      tied = tie_word_embeddings : 1
    )",
     bloom_parts, word_embedding_heads},
    {"falcon RefinedWeb* RefinedWebModel*", exactness::exact, "Falcon", "$DecoderLayer", "", R"(
      use decoder_values
      vocab = vocab_size : 65024
      hidden = n_embed|hidden_size : 4544
      layers = num_hidden_layers|n_layer : 32
      heads = num_attention_heads|n_head : 71
      head_dim := hidden / heads
      stated_kv = num_kv_heads|n_head_kv : heads
      multi_query = multi_query : 1 : 0
      new_decoder = new_decoder_architecture : has(n_head_kv) : 0
      projected_kv := if(new_decoder, stated_kv, if(multi_query, 1, heads))
      kv_heads := if(new_decoder || !multi_query, stated_kv, 1)
      norms = num_ln_in_parallel_attn : if(new_decoder, 2, 0)
      parallel = parallel_attn : 1 : 0
      bias = bias : 0
      ffn = ffn_hidden_size : 4 * hidden
      tied = tie_word_embeddings : 1
      rotary_dim := if(plain_rope, head_dim, int(head_dim * partial))
    )",
     falcon_parts, word_embedding_heads},
    {"mpt", exactness::exact, "Mpt", "$Block", "", R"(
      use decoder_values
      vocab = vocab_size : 50368
      hidden = d_model|hidden_size : 2048
      layers = n_layers|num_hidden_layers : 24
      heads = n_heads|num_attention_heads : 16
      kv_heads := heads
      head_dim := hidden / heads
      ffn := 4 * hidden
      max_context = max_seq_len : 2048
      tied = tie_word_embeddings : 1
    )",
     mpt_parts, wte_heads},
}};

}  // namespace

std::span<const family> gpt_families() { return families; }

}  // namespace berth::architectures
