// SPDX-License-Identifier: Apache-2.0
// The formulas of cost_model for one layer and one sequence, without any look at tensors. docs/costs.md lists them.
module;

#include <algorithm>
#include <cstdint>
#include <optional>

module berth.model:layer_costs;

import berth.base;
import :cache;
import :chain;
import :layer;
import :workload;

namespace berth {

/// The workload as the formulas use it.
struct demand {
  std::uint64_t batch = 1;
  std::uint64_t prompt = 0;
  std::uint64_t seen = 0;     ///< tokens of state that a decode step works with: prompt + generate / 2
  std::uint64_t encoded = 0;  ///< positions in encoder stacks
};

/// Share of routed experts that at least one of `tokens` tokens uses, each choosing `active` of `experts` at random:
/// 1 - (1 - k/E)^tokens. Squaring instead of pow: the same bits on every machine.
constexpr double touched_share(std::uint64_t active, std::uint64_t experts, std::uint64_t tokens) {
  if (experts == 0 || active >= experts) return tokens == 0 ? 0.0 : 1.0;
  double base = 1.0 - static_cast<double>(active) / static_cast<double>(experts);
  double untouched = 1.0;
  for (; tokens != 0; tokens >>= 1) {
    if ((tokens & 1) != 0) untouched *= base;
    base *= base;
  }
  return 1.0 - untouched;
}

/// Pairs of query and key positions in a causal pass over `tokens` positions: half of all, a window W cutting each row.
constexpr double causal_pairs(std::uint64_t tokens, std::uint64_t window) {
  const auto s = static_cast<double>(tokens);
  if (window == 0 || tokens <= window) return s * s / 2;
  const auto w = static_cast<double>(window);
  return w * s - w * w / 2;
}

/// QK^T and AV cost 2 FLOPs per element of a head and pair of positions.
constexpr double flops_per_pair(const layer_cache& layer) {
  return 2.0 * static_cast<double>(layer.heads) * static_cast<double>(layer.key_dim + layer.value_dim);
}

/// Attention to the sequence itself and the recurrent update, one sequence, one pass of `p`. `latent_rank`: width of
/// MLA's compressed vector without its rotary part. A recurrence costs 6 per element of its state and token: decay,
/// outer product (2), sum, and a product and a sum to read it.
constexpr double self_attention_flops(const layer_cache& layer, phase p, const demand& d, const cache_options& options,
                                      std::uint64_t latent_rank) {
  const bool prefill = p == phase::prefill;
  const double recurrence =
      6.0 * static_cast<double>(layer.state_f32_elements) * (prefill ? static_cast<double>(d.prompt) : 1.0);
  const auto window = options.exploit_window ? layer.window : 0;
  switch (layer.kind) {
    case attention_kind::none:
    case attention_kind::recurrent:
      return recurrence;
    case attention_kind::uncached: {
      const auto s = static_cast<double>(d.encoded);
      return prefill ? flops_per_pair(layer) * s * s : 0.0;
    }
    case attention_kind::latent:
      // Prefill multiplies materialised heads; decode works on the compressed cache, whose keys are latent_dim wide and
      // whose values are the same vectors without the rotary part.
      if (!prefill && options.latent)
        return 2.0 * static_cast<double>(layer.heads) * static_cast<double>(layer.latent_dim + latent_rank) *
               static_cast<double>(window == 0 ? d.seen : std::min(d.seen, window));
      [[fallthrough]];
    default:
      break;
  }
  const double pairs =
      prefill ? causal_pairs(d.prompt, window) : static_cast<double>(window == 0 ? d.seen : std::min(d.seen, window));
  return flops_per_pair(layer) * pairs + recurrence;
}

/// Attention to `cross_tokens` encoder positions, all of them visible to every token.
constexpr double cross_attention_flops(const layer_cache& layer, phase p, const demand& d) {
  const double tokens = p == phase::prefill ? static_cast<double>(d.prompt) : 1.0;
  return flops_per_pair(layer) * static_cast<double>(layer.cross_tokens) * tokens;
}

/// State of one sequence in two parts that add up to `layer_cache_bytes`: its own tokens, and the encoder's.
struct state_bytes {
  bytes own = 0;
  bytes crossed = 0;
};
constexpr std::optional<state_bytes> state_of(const layer_cache& layer, std::uint64_t tokens,
                                              const cache_options& options) {
  auto without = layer;
  without.cross_tokens = 0;
  const auto all = layer_cache_bytes(layer, tokens, options);
  const auto own = layer_cache_bytes(without, tokens, options);
  if (!all || !own) return std::nullopt;
  return state_bytes{*own, *all - *own};
}

/// State bytes that one pass of `p` reads and writes, one sequence. Prefill writes the prompt's state. A decode step
/// moves every token that it sees once (all but the newest are read, the newest is written) and a constant state twice.
constexpr std::optional<state_bytes> state_traffic(const layer_cache& layer, phase p, const demand& d,
                                                   const cache_options& options) {
  if (p == phase::prefill) return state_of(layer, d.prompt, options);
  auto moved = state_of(layer, d.seen, options);
  auto constant = layer;
  constant.cross_tokens = 0;
  const auto again = layer_cache_bytes(constant, 0, options);
  if (!moved || !again) return std::nullopt;
  const auto own = checked_add(moved->own, *again);
  if (!own) return std::nullopt;
  return state_bytes{*own, moved->crossed};
}

/// (H + kv)(dk + dv): queries, keys, values and the product's output per token. That is (2H + 2kv) d for equal head
/// widths. Encoders have as many KV heads as heads.
constexpr std::uint64_t attention_elements(const layer_cache& layer) {
  const auto kv = layer.kind == attention_kind::uncached ? layer.heads : layer.kv_heads;
  return (layer.heads + kv) * (layer.key_dim + layer.value_dim);
}

/// Width of the inner activation of a feed-forward part: the dense one, or all experts that one token uses.
constexpr std::uint64_t inner_width(const layer_ffn& ffn) {
  return ffn.experts != 0 ? ffn.active * ffn.expert_width : ffn.width;
}

/// The product of four counts, or nothing above 2^63 - 1.
constexpr std::optional<bytes> product(std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t d) {
  const auto ab = checked_mul(a, b);
  const auto cd = checked_mul(c, d);
  return ab && cd ? checked_mul(*ab, *cd) : std::nullopt;
}

}  // namespace berth
