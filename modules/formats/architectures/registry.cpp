// SPDX-License-Identifier: Apache-2.0
// All families, and the parts that several of them share.
module;

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

module berth.formats;

import :architecture_entry;

namespace berth::architectures {
namespace {

auto all_families() {
  return std::array{decoder_families(),         gpt_families(),
                    mixture_families(),         encoder_families(),
                    encoder_decoder_families(), vision_language_families(),
                    qwen3_vision_families(),    recurrent_families(),
                    counted_families()};
}

/// The decoder that Llama made common; families override parts of it. Meaning of the names: docs/architectures.md.
inline constexpr std::array<part, 17> shared_parts{{
    {"decoder_values", R"(
      vocab = vocab_size : 32000
      hidden = hidden_size : 4096
      layers = num_hidden_layers : 32
      heads = num_attention_heads : 32
      kv_heads = num_key_value_heads : heads
      head_dim = head_dim : hidden / heads
      ffn = intermediate_size : 11008
      max_context = max_position_embeddings : 2048
      tied = tie_word_embeddings : 0
      attention_bias = attention_bias : 0
      mlp_bias = mlp_bias : 0
      qkv_bias := attention_bias
      o_bias := attention_bias
      use head_values
      partial = rope.partial_rotary_factor|partial_rotary_factor : 1
      plain_rope := is(rope.rope_type|rope.type:default, default)
      rotary_dim := if(plain_rope, head_dim, int(head_dim * partial))
    )"},
    {"head_values", R"(
      head_bias := 0
      labels = num_labels : 2
      classes := if(has(id2label), len(id2label), labels)
    )"},
    {"partial_rotary", R"(
      rotary_dim := int(head_dim * partial)
    )"},
    {"sliding_values", R"(
      use_window = use_sliding_window : 0
      width_of_window = sliding_window : 4096 : 0
      window_from = max_window_layers : 28
      slides := if(has(layer_types), is(layer_types[i], sliding_attention), use_window && i >= window_from)
      window := if(slides && use_window, width_of_window, 0)
    )"},
    {"model", R"(
      $Model
        embed_tokens {embedding}
        layers ModuleList
          [i < layers] block $DecoderLayer
            use layer
        norm {norm}
        use rope
    )"},
    {"embedding", "Embedding(vocab, hidden)"},
    {"norm", "$RMSNorm:Scale(hidden)"},
    {"activation", "@hidden_act:silu"},
    {"layer", R"(
      self_attn $Attention
        use attention
      use ffn
      input_layernorm {norm}
      post_attention_layernorm {norm}
    )"},
    {"attention", R"(
      use qkvo
    )"},
    {"qkvo", R"(
      q_proj Linear(hidden, heads*head_dim, qkv_bias)
      k_proj Linear(hidden, kv_heads*head_dim, qkv_bias)
      v_proj Linear(hidden, kv_heads*head_dim, qkv_bias)
      o_proj Linear(heads*head_dim, hidden, o_bias)
    )"},
    {"attention_head_norms", R"(
      use qkvo
      q_norm $RMSNorm:Scale(head_dim)
      k_norm $RMSNorm:Scale(head_dim)
    )"},
    {"ffn", R"(
      mlp $MLP
        use gated_mlp width=ffn
    )"},
    {"gated_mlp", R"(
      gate_proj Linear(hidden, width, mlp_bias)
      up_proj Linear(hidden, width, mlp_bias)
      down_proj Linear(width, hidden, mlp_bias)
      act_fn {activation}
    )"},
    {"experts", R"(
      experts $Experts gate_up_proj[experts,2*expert_width,hidden] down_proj[experts,hidden,expert_width]
        act_fn {activation}
    )"},
    // What a vision-language model takes from its language model `text`.
    {"text_facts", R"(
      hidden := text.hidden
      vocab := text.vocab
      layers := text.layers
      heads := text.heads
      kv_heads := text.kv_heads
      head_dim := text.head_dim
      max_context := text.max_context
      own_tied = tie_word_embeddings : 0
      text_tied = text_config.tie_word_embeddings : 0
    )"},
    {"rope", R"(
      rotary_emb $RotaryEmbedding ~inv_freq[(rotary_dim+1)/2]:float32 ~original_inv_freq[(rotary_dim+1)/2]:float32
    )"},
}};

/// A type without the mark of a weaker claim.
std::string_view plain(std::string_view type) {
  if (type.back() == '*') type.remove_suffix(1);
  return type;
}

}  // namespace

const family* find_family(std::string_view model_type) {
  for (const auto& list : all_families())
    for (const auto& f : list)
      for (const auto type : split(f.types, ' '))
        if (plain(type) == model_type) return &f;
  return nullptr;
}

exactness claim_for(const family& f, std::string_view model_type) {
  for (const auto type : split(f.types, ' '))
    if (plain(type) == model_type) return type == model_type ? f.how : exactness::by_count;
  return f.how;
}

std::string_view canonical_type(const family& f) { return split(f.types, ' ').front(); }

std::optional<std::string_view> find_part(const family& f, std::string_view name) {
  for (const auto& p : f.parts)
    if (p.name == name) return p.text;
  for (const auto& p : shared_parts)
    if (p.name == name) return p.text;
  return std::nullopt;
}

}  // namespace berth::architectures

namespace berth {

std::vector<supported_architecture> support_table() {
  std::vector<supported_architecture> table;
  for (const auto& list : architectures::all_families())
    for (const auto& f : list)
      for (const auto written : architectures::split(f.types, ' ')) {
        const auto type = architectures::plain(written);
        table.push_back({type, architectures::claim_for(f, type), architectures::canonical_type(f)});
      }
  std::sort(table.begin(), table.end(), [](const auto& a, const auto& b) { return a.model_type < b.model_type; });
  return table;
}

}  // namespace berth
