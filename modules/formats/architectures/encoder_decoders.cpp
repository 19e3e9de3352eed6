// SPDX-License-Identifier: Apache-2.0
// Encoder-decoder models: T5 and Whisper.
module;

#include <array>
#include <span>
#include <string_view>

module berth.formats;

import :architecture_entry;

namespace berth::architectures {
namespace {

inline constexpr std::array<part, 6> t5_parts{{
    {"model", R"(
      $Model
        shared Embedding(vocab, hidden)
        encoder $Stack
          use stack decoder=0 depth=layers
    )"},
    {"stack", R"(
      embed_tokens Embedding(vocab, hidden)
      block ModuleList
        [i < depth] block $Block
          layer ModuleList
            0 $LayerSelfAttention
              SelfAttention $Attention
                use qkvo
                relative_attention_bias Embedding(buckets, heads) if i == 0
              use layer_end
            1 $LayerCrossAttention if decoder
              EncDecAttention $Attention
                use qkvo
              use layer_end
            2 $LayerFF if decoder
              use feed_forward
            1 $LayerFF if !decoder
              use feed_forward
      final_layer_norm $LayerNorm:Scale(hidden)
      dropout Dropout
    )"},
    {"qkvo", R"(
      q Linear(hidden, heads*head_dim, 0)
      k Linear(hidden, heads*head_dim, 0)
      v Linear(hidden, heads*head_dim, 0)
      o Linear(heads*head_dim, hidden, 0)
    )"},
    {"layer_end", R"(
      layer_norm $LayerNorm:Scale(hidden)
      dropout Dropout
    )"},
    {"feed_forward", R"(
      DenseReluDense $DenseGatedActDense if gated
        wi_0 Linear(hidden, ffn, 0)
        wi_1 Linear(hidden, ffn, 0)
        use feed_forward_end
      DenseReluDense $DenseActDense if !gated
        wi Linear(hidden, ffn, 0)
        use feed_forward_end
      use layer_end
    )"},
    {"feed_forward_end", R"(
      wo Linear(ffn, hidden, 0)
      dropout Dropout
      act @feed_forward_proj:relu
    )"},
}};
inline constexpr std::array<head, 3> t5_heads{{
    {"$ForConditionalGeneration", R"(
      use <self>
      decoder $Stack
        use stack decoder=1 depth=decoder_layers
      lm_head Linear(hidden, vocab, 0)
    )",
     R"(
      lm_head.weight = shared.weight
      encoder.embed_tokens.weight = shared.weight
      decoder.embed_tokens.weight = shared.weight
    )",
     "lm_head"},
    {"$Model", R"(
      use <self>
      decoder $Stack
        use stack decoder=1 depth=decoder_layers
    )",
     R"(
      encoder.embed_tokens.weight = shared.weight
      decoder.embed_tokens.weight = shared.weight
    )",
     ""},
    {"$EncoderModel", "use <self>", "encoder.embed_tokens.weight = shared.weight", ""},
}};

inline constexpr std::array<part, 5> whisper_parts{{
    {"model", R"(
      $Model
        encoder $Encoder
          use encoder decoding=0
        decoder $Decoder
          use decoder decoding=1
    )"},
    {"encoder", R"(
          conv1 Conv1d(mel_bins, hidden, 3)
          conv2 Conv1d(hidden, hidden, 3)
          embed_positions Embedding(source_positions, hidden)
          layers ModuleList
            [i < encoder_layers] block $EncoderLayer
              self_attn $Attention
                use kvqo
              self_attn_layer_norm LayerNorm(hidden)
              activation_fn @activation_function:gelu
              use feed_forward width=encoder_ffn
          layer_norm LayerNorm(hidden)
    )"},
    {"decoder", R"(
          embed_tokens Embedding(vocab, hidden)
          embed_positions $PositionalEmbedding:Embedding(max_context, hidden)
          layers ModuleList
            [i < layers] block $DecoderLayer
              self_attn $Attention
                use kvqo
              activation_fn @activation_function:gelu
              self_attn_layer_norm LayerNorm(hidden)
              encoder_attn $Attention
                use kvqo
              encoder_attn_layer_norm LayerNorm(hidden)
              use feed_forward width=ffn
          layer_norm LayerNorm(hidden)
    )"},
    {"kvqo", R"(
      k_proj Linear(hidden, hidden, 0)
      v_proj Linear(hidden, hidden)
      q_proj Linear(hidden, hidden)
      out_proj Linear(hidden, hidden)
    )"},
    {"feed_forward", R"(
      fc1 Linear(hidden, width)
      fc2 Linear(width, hidden)
      final_layer_norm LayerNorm(hidden)
    )"},
}};
inline constexpr std::array<head, 1> whisper_heads{{
    {"$ForConditionalGeneration", "model <self>\nproj_out Linear(hidden, vocab, 0)",
     "proj_out.weight = model.decoder.embed_tokens.weight", "proj_out"},
}};

inline constexpr std::array<family, 2> families{{
    {"t5", exactness::exact, "T5", "$Block", "wo", R"(
      vocab = vocab_size : 32128
      hidden = d_model|hidden_size : 512
      layers = num_layers|num_hidden_layers : 6
      decoder_layers = num_decoder_layers : layers
      heads = num_heads|num_attention_heads : 8
      head_dim = d_kv|head_dim : 64
      ffn = d_ff : 2048
      buckets = relative_attention_num_buckets : 32
      gated := begins(feed_forward_proj:relu, gated-)
      max_context = n_positions : 512
      tied := 1
      cached := decoder
      kv_heads := heads
      cross_tokens := if(decoder, max_context, 0)
    )",
     t5_parts, t5_heads},
    {"whisper", exactness::exact, "Whisper", "$EncoderLayer $DecoderLayer", "", R"(
      vocab = vocab_size : 51865
      hidden = d_model|hidden_size : 384
      encoder_layers = encoder_layers|num_hidden_layers : 4
      layers = decoder_layers : 4
      heads = decoder_attention_heads : 6
      kv_heads := heads
      head_dim := hidden / heads
      encoder_ffn = encoder_ffn_dim : 1536
      ffn = decoder_ffn_dim : 1536
      mel_bins = num_mel_bins : 80
      source_positions = max_source_positions : 1500
      max_context = max_target_positions : 448
      tied = tie_word_embeddings : 1
      cached := decoding
      cross_tokens := source_positions
    )",
     whisper_parts, whisper_heads},
}};

}  // namespace

std::span<const family> encoder_decoder_families() { return families; }

}  // namespace berth::architectures
