// SPDX-License-Identifier: Apache-2.0
// Encoders of text and images: BERT, ALBERT, ViT, and CLIP's vision tower.
module;

#include <array>
#include <span>
#include <string_view>

module berth.formats;

import :architecture_entry;

namespace berth::architectures {
namespace {

/// Encoders attend, but keep no cache.
inline constexpr part encoder_values{"encoder_values", R"(
  vocab = vocab_size : 30522
  hidden = hidden_size : 768
  layers = num_hidden_layers : 12
  heads = num_attention_heads : 12
  head_dim := hidden / heads
  ffn = intermediate_size : 3072
  positions = max_position_embeddings : 512
  max_context := positions
  types = type_vocab_size : 2
  tied = tie_word_embeddings : 1
  cached := 0
  pooler := 0
  use head_values
)"};

inline constexpr part text_embeddings{"text_embeddings", R"(
  embeddings $Embeddings ~position_ids[1,positions]:int64 ~token_type_ids[1,positions]:int64
    word_embeddings Embedding(vocab, width)
    position_embeddings Embedding(positions, width)
    token_type_embeddings Embedding(types, width)
    LayerNorm LayerNorm(width)
    dropout Dropout
)"};

inline constexpr std::string_view masked_ties = R"(
  cls.predictions.decoder.weight = bert.embeddings.word_embeddings.weight
  cls.predictions.decoder.bias = cls.predictions.bias
)";

inline constexpr part bert_model{"model", R"(
  $Model
    use text_embeddings width=hidden
    encoder $Encoder
      layer ModuleList
        [i < layers] block $Layer
          attention $Attention
            self $SelfAttention
              use query_key_value
            use projection
          crossattention $Attention if cross
            self $CrossAttention
              use query_key_value
            use projection
          intermediate $Intermediate
            dense Linear(hidden, ffn)
            intermediate_act_fn @hidden_act:gelu
          output $Output
            dense Linear(ffn, hidden)
            LayerNorm LayerNorm(hidden)
            dropout Dropout
    pooler $Pooler if pooler
      dense Linear(hidden, hidden)
      activation Tanh
)"};
inline constexpr part query_key_value{"query_key_value", R"(
  query Linear(hidden, heads*head_dim)
  key Linear(hidden, heads*head_dim)
  value Linear(hidden, heads*head_dim)
  dropout Dropout
)"};
inline constexpr part projection{"projection", R"(
  output $SelfOutput
    dense Linear(hidden, hidden)
    LayerNorm LayerNorm(hidden)
    dropout Dropout
)"};
inline constexpr std::array<part, 6> bert_parts{{
    encoder_values,
    text_embeddings,
    bert_model,
    query_key_value,
    projection,
    {"predictions", R"(
      predictions $LMPredictionHead bias[vocab]
        transform $PredictionHeadTransform
          dense Linear(hidden, hidden)
          transform_act_fn @hidden_act:gelu
          LayerNorm LayerNorm(hidden)
        decoder Linear(hidden, vocab)
    )"},
}};
inline constexpr std::array<head, 8> bert_heads{{
    {"$ForMaskedLM", "bert <self>\ncls $OnlyMLMHead\n  use predictions", masked_ties, "cls.predictions.decoder"},
    {"$LMHeadModel", "bert <self>\ncls $OnlyMLMHead\n  use predictions", masked_ties, "cls.predictions.decoder"},
    {"$ForPreTraining",
     "bert <self> pooler=1\ncls $PreTrainingHeads\n  use predictions\n  seq_relationship Linear(hidden, 2)",
     masked_ties, "cls.predictions.decoder"},
    {"$Model", "use <self> pooler=1", "", ""},
    {"$ForSequenceClassification", "bert <self> pooler=1\ndropout Dropout\nclassifier Linear(hidden, classes)", "", ""},
    {"$ForTokenClassification", "bert <self>\ndropout Dropout\nclassifier Linear(hidden, classes)", "", ""},
    {"$ForQuestionAnswering", "bert <self>\nqa_outputs Linear(hidden, classes)", "", ""},
    {"$ForNextSentencePrediction", "bert <self> pooler=1\ncls $OnlyNSPHead\n  seq_relationship Linear(hidden, 2)", "",
     ""},
}};

inline constexpr part roberta_embeddings{"text_embeddings", R"(
  embeddings $Embeddings ~position_ids[1,positions]:int64 ~token_type_ids[1,positions]:int64
    word_embeddings Embedding(vocab, width)
    token_type_embeddings Embedding(types, width)
    LayerNorm LayerNorm(width)
    dropout Dropout
    position_embeddings Embedding(positions, width)
)"};
inline constexpr std::array<part, 6> roberta_parts{{
    encoder_values,
    roberta_embeddings,
    bert_model,
    query_key_value,
    projection,
    {"lm_head", R"(
      lm_head $LMHead bias[vocab]
        dense Linear(hidden, hidden)
        layer_norm LayerNorm(hidden)
        decoder Linear(hidden, vocab)
    )"},
}};
inline constexpr std::string_view roberta_ties = R"(
  lm_head.decoder.weight = roberta.embeddings.word_embeddings.weight
  lm_head.decoder.bias = lm_head.bias
)";
inline constexpr std::array<head, 4> roberta_heads{{
    {"$ForMaskedLM", "roberta <self>\nuse lm_head", roberta_ties, "lm_head.decoder"},
    {"$ForCausalLM", "roberta <self>\nuse lm_head", roberta_ties, "lm_head.decoder"},
    {"$Model", "use <self> pooler=1", "", ""},
    {"$ForSequenceClassification", R"(
      roberta <self>
      classifier $ClassificationHead
        dense Linear(hidden, hidden)
        dropout Dropout
        out_proj Linear(hidden, classes)
    )",
     "", ""},
}};

inline constexpr std::array<part, 3> albert_parts{{
    encoder_values,
    text_embeddings,
    {"model", R"(
      $Model
        use text_embeddings width=embedding_dim
        encoder $Transformer
          embedding_hidden_mapping_in Linear(embedding_dim, hidden)
          albert_layer_groups ModuleList
            [group < groups] $LayerGroup
              albert_layers ModuleList
                [i < inner_groups] block $Layer
                  full_layer_layer_norm LayerNorm(hidden)
                  attention $Attention
                    attention_dropout Dropout
                    output_dropout Dropout
                    query Linear(hidden, heads*head_dim)
                    key Linear(hidden, heads*head_dim)
                    value Linear(hidden, heads*head_dim)
                    dense Linear(hidden, hidden)
                    LayerNorm LayerNorm(hidden)
                  ffn Linear(hidden, ffn)
                  ffn_output Linear(ffn, hidden)
                  activation @hidden_act:gelu_new
                  dropout Dropout
        pooler Linear(hidden, hidden) if pooler
        pooler_activation Tanh if pooler
    )"},
}};
inline constexpr std::array<head, 3> albert_heads{{
    {"$ForMaskedLM", R"(
      albert <self>
      predictions $MLMHead bias[vocab]
        LayerNorm LayerNorm(embedding_dim)
        dense Linear(hidden, embedding_dim)
        decoder Linear(embedding_dim, vocab)
        activation @hidden_act:gelu_new
    )",
     R"(
      predictions.decoder.weight = albert.embeddings.word_embeddings.weight
      predictions.decoder.bias = predictions.bias
    )",
     "predictions.decoder"},
    {"$Model", "use <self> pooler=1", "", ""},
    {"$ForSequenceClassification", "albert <self> pooler=1\ndropout Dropout\nclassifier Linear(hidden, classes)", "",
     ""},
}};

inline constexpr std::array<part, 2> vit_parts{{
    encoder_values,
    {"model", R"(
      $Model
        embeddings $Embeddings cls_token[1,1,hidden] position_embeddings[1,patches+1,hidden]
          patch_embeddings $PatchEmbeddings
            projection Conv2d(channels, hidden, patch)
          dropout Dropout
        layers ModuleList
          [i < layers] block $Layer
            attention $Attention
              q_proj Linear(hidden, heads*head_dim, bias)
              k_proj Linear(hidden, heads*head_dim, bias)
              v_proj Linear(hidden, heads*head_dim, bias)
              o_proj Linear(heads*head_dim, hidden)
            layernorm_before LayerNorm(hidden)
            layernorm_after LayerNorm(hidden)
            mlp $MLP
              activation_fn @hidden_act:gelu
              fc1 Linear(hidden, ffn)
              fc2 Linear(ffn, hidden)
            dropout Dropout
        layernorm LayerNorm(hidden)
        pooler $Pooler if pooler
          dense Linear(hidden, pooled)
          activation @pooler_act:tanh
    )"},
}};
inline constexpr std::array<head, 2> vit_heads{{
    {"$ForImageClassification", "vit <self>\nclassifier Linear(hidden, classes)", "", ""},
    {"$Model", "use <self> pooler=1", "", ""},
}};

inline constexpr std::array<part, 2> clip_vision_parts{{
    encoder_values,
    {"model", R"(
      CLIPVisionModel
        embeddings CLIPVisionEmbeddings class_embedding[hidden] ~position_ids[1,patches+1]:int64
          patch_embedding Conv2d(channels, hidden, patch, 0)
          position_embedding Embedding(patches+1, hidden)
        pre_layrnorm LayerNorm(hidden)
        encoder CLIPEncoder
          layers ModuleList
            [i < layers] block CLIPEncoderLayer
              self_attn CLIPAttention
                k_proj Linear(hidden, hidden)
                v_proj Linear(hidden, hidden)
                q_proj Linear(hidden, hidden)
                out_proj Linear(hidden, hidden)
              layer_norm1 LayerNorm(hidden)
              mlp CLIPMLP
                activation_fn @hidden_act:quick_gelu
                fc1 Linear(hidden, ffn)
                fc2 Linear(ffn, hidden)
              layer_norm2 LayerNorm(hidden)
        post_layernorm LayerNorm(hidden)
    )"},
}};

inline constexpr std::array<family, 5> families{{
    {"bert", exactness::exact, "Bert", "$Embeddings $Layer", "", R"(
      use encoder_values
      cross = add_cross_attention : 0
    )",
     bert_parts, bert_heads},
    {"roberta", exactness::exact, "Roberta", "$Embeddings $Layer", "", R"(
      use encoder_values
      vocab = vocab_size : 50265
      cross = add_cross_attention : 0
    )",
     roberta_parts, roberta_heads},
    {"albert", exactness::exact, "Albert", "", "", R"(
      use encoder_values
      vocab = vocab_size : 30000
      embedding_dim = embedding_size : 128
      hidden = hidden_size : 4096
      heads = num_attention_heads : 64
      ffn = intermediate_size : 16384
      groups = num_hidden_groups : 1
      inner_groups = inner_group_num : 1
    )",
     albert_parts, albert_heads},
    {"vit", exactness::exact, "ViT", "$Embeddings $Layer", "", R"(
      use encoder_values
      tied := 0
      channels = num_channels : 3
      image_height = image_size[0]|image_size : 224
      image_width = image_size[1]|image_size : 224
      patch = patch_size[0]|patch_size : 16
      patch_width = patch_size[1]|patch_size : 16
      patches := (image_height / patch) * (image_width / patch_width)
      max_context := patches + 1
      bias = qkv_bias : 1
      stated_pooled = pooler_output_size : 0
      pooled := if(stated_pooled, stated_pooled, hidden)
    )",
     vit_parts, vit_heads},
    {"clip_vision_model",
     exactness::exact,
     "CLIP",
     "$EncoderLayer $TextEmbeddings $VisionEmbeddings",
     "",
     R"(
      use encoder_values
      tied := 0
      channels = num_channels : 3
      image = image_size : 224
      patch = patch_size : 32
      patches := (image / patch) * (image / patch)
      max_context := patches + 1
    )",
     clip_vision_parts,
     {}},
}};

}  // namespace

std::span<const family> encoder_families() { return families; }

}  // namespace berth::architectures
