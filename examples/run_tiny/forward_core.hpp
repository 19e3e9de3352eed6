// SPDX-License-Identifier: Apache-2.0
// The arithmetic of the forward pass, written once for one thread of a CPU and for a block of threads of a GPU: a team
// shares the outputs of every step out, each output is summed by one thread in a fixed order. Steps that read what
// others have written begin with `team.sync()`.
#pragma once

#include <math.h>
#include <string.h>

#include "forward.hpp"

namespace tiny::core {

/// A team of one.
struct alone {
  TINY_BOTH std::int64_t rank() const { return 0; }
  TINY_BOTH std::int64_t size() const { return 1; }
  TINY_BOTH void sync() const {}
};

TINY_BOTH inline float float_of_bits(std::uint32_t bits) {
  float v;
  memcpy(&v, &bits, sizeof v);
  return v;
}

TINY_BOTH inline float from_half(std::uint16_t h) {
  const std::uint32_t sign = std::uint32_t{h & 0x8000u} << 16, exponent = (h >> 10) & 31u, fraction = h & 0x3ffu;
  if (exponent == 31) return float_of_bits(sign | 0x7f800000u | (fraction << 13));
  if (exponent > 0) return float_of_bits(sign | ((exponent + 112) << 23) | (fraction << 13));
  const auto subnormal = static_cast<float>(fraction) * 5.9604644775390625e-8f;  // 2^-24
  return sign != 0 ? -subnormal : subnormal;
}

TINY_BOTH inline std::int64_t size_of(element e) { return e == element::f32 ? 4 : e == element::i8 ? 1 : 2; }

template <class T>
TINY_BOTH T load(const std::byte* at) {
  T v;
  memcpy(&v, at, sizeof v);
  return v;
}

/// One stored element; of int8 the code, without its scale.
template <element E>
TINY_BOTH float value(const std::byte* data, std::int64_t i) {
  if constexpr (E == element::f32)
    return load<float>(data + 4 * i);
  else if constexpr (E == element::f16)
    return from_half(load<std::uint16_t>(data + 2 * i));
  else if constexpr (E == element::bf16)
    return float_of_bits(std::uint32_t{load<std::uint16_t>(data + 2 * i)} << 16);
  else
    return static_cast<float>(load<std::int8_t>(data + i));
}

template <element E>
TINY_BOTH float product(const matrix& m, std::int64_t row, const float* x) {
  const auto* data = m.data + row * m.row_step * size_of(E);
  float sum = 0;
  for (std::int64_t c = 0; c < m.columns; ++c) sum += value<E>(data, c * m.column_step) * x[c];
  return E == element::i8 ? sum * (m.scales[row] / 127) : sum;
}
TINY_BOTH inline float product(const matrix& m, std::int64_t row, const float* x) {
  switch (m.type) {
    case element::f32:
      return product<element::f32>(m, row, x);
    case element::f16:
      return product<element::f16>(m, row, x);
    case element::bf16:
      return product<element::bf16>(m, row, x);
    case element::i8:
      return product<element::i8>(m, row, x);
  }
  return 0;
}
TINY_BOTH inline float at(const matrix& m, std::int64_t row, std::int64_t column) {
  const auto i = row * m.row_step + column * m.column_step;
  switch (m.type) {
    case element::f32:
      return value<element::f32>(m.data, i);
    case element::f16:
      return value<element::f16>(m.data, i);
    case element::bf16:
      return value<element::bf16>(m.data, i);
    case element::i8:
      return value<element::i8>(m.data, i) * (m.scales[row] / 127);
  }
  return 0;
}

TINY_BOTH inline matrix part_of(const matrix& m, std::int64_t first, std::int64_t count) {
  auto part = m;
  part.data += first * m.row_step * size_of(m.type);
  if (m.scales != nullptr) part.scales += first;
  part.rows = count;
  return part;
}

TINY_BOTH inline float output(const linear& l, std::int64_t row, const float* x) {
  const auto y = product(l.weight, row, x);
  return l.bias.rows > 0 ? y + at(l.bias, row, 0) : y;
}
template <class Team>
TINY_BOTH void apply(Team team, const linear& l, const float* x, float* y) {
  for (auto r = team.rank(); r < l.weight.rows; r += team.size()) y[r] = output(l, r, x);
}

/// `y` may be `x`.
template <class Team>
TINY_BOTH void normalise(Team team, const shape& s, const norm& n, const float* x, float* y) {
  const auto width = static_cast<float>(s.hidden);
  float mean = 0, squares = 0;
  team.sync();
  if (s.gpt2)
    for (std::int64_t i = 0; i < s.hidden; ++i) mean += x[i];
  mean /= width;
  for (std::int64_t i = 0; i < s.hidden; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const auto factor = 1 / sqrtf(squares / width + s.epsilon);
  team.sync();
  for (auto i = team.rank(); i < s.hidden; i += team.size()) {
    const auto v = (x[i] - mean) * factor * at(n.weight, i, 0);
    y[i] = n.bias.rows > 0 ? v + at(n.bias, i, 0) : v;
  }
}

/// Turns every pair (i, i + width / 2) of every head by its angle.
template <class Team>
TINY_BOTH void rotate(Team team, const shape& s, float* all, std::int64_t heads, std::int64_t position) {
  const auto half = s.head_width / 2;
  for (auto p = team.rank(); p < heads * half; p += team.size()) {
    const auto i = p % half;
    auto* head = all + p / half * s.head_width;
    const auto share = static_cast<float>(2 * i) / static_cast<float>(s.head_width);
    const auto angle = static_cast<float>(position) / powf(s.theta, share);
    const auto a = head[i], b = head[i + half];
    head[i] = a * cosf(angle) - b * sinf(angle);
    head[i + half] = b * cosf(angle) + a * sinf(angle);
  }
}

/// Attention of one query head to the first `seen` tokens, in one pass over the cache: sums are scaled down whenever a
/// larger score appears.
TINY_BOTH inline void attend(const shape& s, const float* query, const float* cache, std::int64_t kv_head,
                             std::int64_t seen, float* out) {
  const auto scale = 1 / sqrtf(static_cast<float>(s.head_width));
  float largest = -INFINITY, weights = 0;
  for (std::int64_t i = 0; i < s.head_width; ++i) out[i] = 0;
  for (std::int64_t t = 0; t < seen; ++t) {
    const auto* key = cache + t * s.cache_step() + kv_head * s.head_width;
    const auto* values = key + s.kv_heads * s.head_width;
    float score = 0;
    for (std::int64_t i = 0; i < s.head_width; ++i) score += query[i] * key[i];
    score *= scale;
    const auto top = score > largest ? score : largest;
    const auto shrink = expf(largest - top), weight = expf(score - top);
    largest = top;
    weights = weights * shrink + weight;
    for (std::int64_t i = 0; i < s.head_width; ++i) out[i] = out[i] * shrink + weight * values[i];
  }
  for (std::int64_t i = 0; i < s.head_width; ++i) out[i] /= weights;
}

/// Adds attention to the residual `x` of the token at `position`, whose keys and values it appends to the cache.
template <class Team>
TINY_BOTH void attention(Team team, const shape& s, const block_weights& w, std::int64_t position, float* x,
                         float* cache, float* scratch) {
  auto* normed = scratch;
  auto* query = normed + s.hidden;
  auto* mixed = query + s.heads * s.head_width;
  auto* keys = cache + position * s.cache_step();
  normalise(team, s, w.before_attention, x, normed);
  team.sync();
  apply(team, w.q, normed, query);
  apply(team, w.k, normed, keys);
  apply(team, w.v, normed, keys + s.kv_heads * s.head_width);
  team.sync();
  if (!s.gpt2) {
    rotate(team, s, query, s.heads, position);
    rotate(team, s, keys, s.kv_heads, position);
    team.sync();
  }
  for (auto h = team.rank(); h < s.heads; h += team.size())
    attend(s, query + h * s.head_width, cache, h * s.kv_heads / s.heads, position + 1, mixed + h * s.head_width);
  team.sync();
  for (auto i = team.rank(); i < s.hidden; i += team.size()) x[i] += output(w.o, i, mixed);
}

TINY_BOTH inline float silu(float v) { return v / (1 + expf(-v)); }
TINY_BOTH inline float gelu_new(float v) {
  return 0.5f * v * (1 + tanhf(0.7978845608028654f * (v + 0.044715f * v * v * v)));
}

template <class Team>
TINY_BOTH void dense(Team team, const shape& s, const block_weights& w, float* x, float* scratch) {
  auto* normed = scratch;
  auto* inner = normed + s.hidden;
  normalise(team, s, w.before_feed_forward, x, normed);
  team.sync();
  for (auto j = team.rank(); j < s.width; j += team.size()) {
    const auto up = output(w.up, j, normed);
    inner[j] = s.gpt2 ? gelu_new(up) : silu(output(w.gate, j, normed)) * up;
  }
  team.sync();
  for (auto i = team.rank(); i < s.hidden; i += team.size()) x[i] += output(w.down, i, inner);
}

/// Makes shares of scores: each expert's of the likeliest one's, those of the chosen ones negative. Returns their sum.
TINY_BOTH inline float choose(const shape& s, float* scores) {
  float largest = scores[0], chosen = 0;
  for (std::int64_t e = 1; e < s.experts; ++e) largest = scores[e] > largest ? scores[e] : largest;
  for (std::int64_t e = 0; e < s.experts; ++e) scores[e] = expf(scores[e] - largest);
  for (std::int64_t k = 0; k < s.active; ++k) {
    std::int64_t best = 0;
    for (std::int64_t e = 1; e < s.experts; ++e) best = scores[e] > scores[best] ? e : best;
    chosen += scores[best];
    scores[best] = -scores[best];
  }
  return chosen;
}

/// The likeliest experts, each weighed by its share among them.
template <class Team>
TINY_BOTH void mixture(Team team, const shape& s, const block_weights& w, float* x, float* scratch) {
  auto* normed = scratch;
  auto* scores = normed + s.hidden;  // and what they sum up to
  auto* inner = scores + s.experts + 1;
  normalise(team, s, w.before_feed_forward, x, normed);
  team.sync();
  for (auto e = team.rank(); e < s.experts; e += team.size()) scores[e] = product(w.router, e, normed);
  team.sync();
  if (team.rank() == 0) scores[s.experts] = choose(s, scores);
  team.sync();
  for (std::int64_t e = 0; e < s.experts; ++e) {
    if (!signbit(scores[e])) continue;
    const auto in = part_of(w.expert_in, e * 2 * s.width, 2 * s.width);
    const auto out = part_of(w.expert_out, e * s.hidden, s.hidden);
    for (auto j = team.rank(); j < s.width; j += team.size())
      inner[j] = silu(product(in, j, normed)) * product(in, s.width + j, normed);
    team.sync();
    for (auto i = team.rank(); i < s.hidden; i += team.size())
      x[i] += -scores[e] / scores[s.experts] * product(out, i, inner);
    team.sync();
  }
}

template <class Team>
TINY_BOTH void embed(Team team, const shape& s, const matrix& table, const sequence& q, std::int64_t count,
                     float* out) {
  for (auto i = team.rank(); i < count * s.hidden; i += team.size())
    out[i] = at(table, q.tokens[q.position + i / s.hidden], i % s.hidden);
}

template <class Team>
TINY_BOTH void add_positions(Team team, const shape& s, const matrix& table, const sequence& q, std::int64_t count,
                             const float* in, float* out) {
  for (auto i = team.rank(); i < count * s.hidden; i += team.size())
    out[i] = in[i] + at(table, q.position + i / s.hidden, i % s.hidden);
}

template <class Team>
TINY_BOTH void pass_on(Team team, const shape& s, std::int64_t count, const float* in, float* out) {
  if (in == out) return;
  for (auto i = team.rank(); i < count * s.hidden; i += team.size()) out[i] = in[i];
}

template <class Team>
TINY_BOTH void block(Team team, const shape& s, const block_weights& w, const sequence& q, std::int64_t count,
                     const float* in, float* out, float* cache, float* scratch) {
  pass_on(team, s, count, in, out);
  for (std::int64_t t = 0; t < count; ++t) {
    auto* x = out + t * s.hidden;
    attention(team, s, w, q.position + t, x, cache, scratch);
    if (s.experts > 0)
      mixture(team, s, w, x, scratch);
    else
      dense(team, s, w, x, scratch);
  }
}

template <class Team>
TINY_BOTH void final_norm(Team team, const shape& s, const norm& n, std::int64_t count, const float* in, float* out) {
  for (std::int64_t t = 0; t < count; ++t) normalise(team, s, n, in + t * s.hidden, out + t * s.hidden);
}

template <class Team>
TINY_BOTH void head(Team team, const shape& s, const linear& w, sequence& q, std::int64_t count, const float* in,
                    float* scratch) {
  auto* logits = scratch + s.hidden;
  // The input may lie where the scratch begins, never before it.
  if (team.rank() == 0)
    for (std::int64_t i = 0; i < s.hidden; ++i) scratch[i] = in[(count - 1) * s.hidden + i];
  team.sync();
  apply(team, w, scratch, logits);
  team.sync();
  if (q.logits != nullptr)
    for (auto i = team.rank(); i < s.vocabulary; i += team.size()) q.logits[q.passes * s.vocabulary + i] = logits[i];
  team.sync();
  if (team.rank() != 0) return;
  std::int64_t best = 0;
  for (std::int64_t i = 1; i < s.vocabulary; ++i) best = logits[i] > logits[best] ? i : best;
  q.position += count;
  q.tokens[q.position] = static_cast<std::int32_t>(best);
  ++q.passes;
}

}  // namespace tiny::core
