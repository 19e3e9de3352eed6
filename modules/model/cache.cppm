// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

export module berth.model:cache;

import berth.base;

export namespace berth {

/// How wide a cache element is, as bytes per block of elements: {2, 1} is f16 or bf16, {34, 32} llama.cpp's q8_0,
/// {18, 32} its q4_0, {1, 1} fp8.
struct element_width {
  std::uint64_t bytes = 2;
  std::uint64_t elements = 1;
};

enum class attention_kind : std::uint8_t {
  none,        ///< no attention of its own (an MLP-only block, a block that was cut)
  uncached,    ///< attention without a cache: encoders
  multihead,   ///< as many KV heads as query heads
  grouped,     ///< fewer KV heads than query heads
  multiquery,  ///< one KV head
  latent,      ///< MLA: one compressed vector per token instead of keys and values
  recurrent,   ///< linear attention or a state-space layer: a constant state
};

constexpr std::string_view name_of(attention_kind k) {
  constexpr std::array<std::string_view, 7> names{"none",       "uncached", "multihead", "grouped",
                                                  "multiquery", "latent",   "recurrent"};
  return names[static_cast<std::size_t>(k)];
}

/// What one layer keeps between decoding steps. Heads and widths are counts of elements; 0 means "has none".
struct layer_cache {
  attention_kind kind = attention_kind::none;
  std::uint64_t heads = 0;
  std::uint64_t kv_heads = 0;
  std::uint64_t key_dim = 0;             ///< per head
  std::uint64_t value_dim = 0;           ///< per head
  std::uint64_t window = 0;              ///< keeps at most this many tokens; 0 = all
  std::uint64_t latent_dim = 0;          ///< MLA: compressed vector, rotary part included
  std::uint64_t cross_tokens = 0;        ///< cross attention: encoder positions kept, constant while decoding
  std::uint64_t state_elements = 0;      ///< recurrent state in elements of the cache (convolution window)
  std::uint64_t state_f32_elements = 0;  ///< recurrent state that is always kept in 4 bytes

  friend constexpr bool operator==(const layer_cache&, const layer_cache&) = default;
};

/// How an engine stores the cache. Defaults are what transformers does: windows exploited, MLA compressed.
struct cache_options {
  element_width width;
  bool exploit_window = true;  ///< false: every layer keeps all tokens (llama.cpp without SWA cache)
  bool latent = true;          ///< false: MLA keys and values are materialised
};

/// `elements` at `width`, rounded up to whole bytes; nothing above 2^63 - 1.
constexpr std::optional<bytes> cache_bytes_of(std::uint64_t elements, element_width width) {
  const auto n = checked_mul(elements, width.bytes);
  if (!n || width.elements == 0) return std::nullopt;
  return (*n + width.elements - 1) / width.elements;
}

/// Cache elements that one more token adds in this layer:
/// kv_heads * (key_dim + value_dim), or latent_dim for MLA that is kept compressed; 0 for recurrent layers.
constexpr std::uint64_t cache_elements_per_token(const layer_cache& layer, const cache_options& options = {}) {
  if (layer.kind == attention_kind::latent && options.latent) return layer.latent_dim;
  return layer.kv_heads * (layer.key_dim + layer.value_dim);
}

/// Bytes of one layer for `tokens` tokens of one sequence: the part that grows (at most `window` tokens), the cross
/// attention part and the constant state. Nothing if it exceeds 2^63 - 1.
constexpr std::optional<bytes> layer_cache_bytes(const layer_cache& layer, std::uint64_t tokens,
                                                 const cache_options& options = {}) {
  const auto kept = layer.window != 0 && options.exploit_window ? std::min(tokens, layer.window) : tokens;
  const auto grown = checked_mul(cache_elements_per_token(layer, options), kept);
  const auto crossed = checked_mul(layer.kv_heads * (layer.key_dim + layer.value_dim), layer.cross_tokens);
  if (!grown || !crossed) return std::nullopt;
  const auto elements = checked_add(*grown, *crossed);
  const auto fixed = checked_mul(layer.state_f32_elements, 4);
  if (!elements || !fixed) return std::nullopt;
  const auto all = checked_add(*elements, layer.state_elements);
  if (!all) return std::nullopt;
  const auto scaled = cache_bytes_of(*all, options.width);
  return scaled ? checked_add(*scaled, *fixed) : std::nullopt;
}

}  // namespace berth
