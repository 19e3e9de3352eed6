// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "double_forward.hpp"

import berth;
import berth.formats;
import tiny;

namespace tiny_test {
namespace {

double from_half(std::uint16_t h) {
  const int exponent = (h >> 10) & 31, fraction = h & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return (h & 0x8000) != 0 ? -magnitude : magnitude;
}

double element(const std::string& data, std::size_t i, berth::dtype type) {
  if (type == berth::dtype::f32) {
    float v;
    std::memcpy(&v, data.data() + 4 * i, sizeof v);
    return v;
  }
  std::uint16_t v;
  std::memcpy(&v, data.data() + 2 * i, sizeof v);
  if (type == berth::dtype::f16) return from_half(v);
  return std::bit_cast<float>(std::uint32_t{v} << 16);
}

bool ends_with_any(const std::string& name, std::span<const char* const> ends) {
  return std::any_of(ends.begin(), ends.end(), [&](const char* e) { return name.ends_with(e); });
}

void add(std::vector<double>& to, const std::vector<double>& from) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
}

double silu(double v) { return v / (1 + std::exp(-v)); }

}  // namespace

berth::result<double_forward> double_forward::read(const tiny::opened& m, bool int8) {
  static constexpr const char* linears[] = {"q_proj.weight",    "k_proj.weight",  "v_proj.weight",   "o_proj.weight",
                                            "gate_proj.weight", "up_proj.weight", "down_proj.weight"};
  static constexpr const char* conv1d[] = {"c_attn.weight", "c_proj.weight", "c_fc.weight"};
  double_forward out;
  const auto& checkpoint = *m.model.checkpoint;
  out.config_ = *checkpoint.config;
  out.gpt2_ = m.model.architecture.model_type == "gpt2";
  for (const auto& t : checkpoint.tensors) {
    std::ifstream file(checkpoint.files[t.file].path, std::ios::binary);
    std::string data(t.length, '\0');
    file.seekg(static_cast<std::streamoff>(t.offset));
    file.read(data.data(), static_cast<std::streamsize>(t.length));
    if (!file) return berth::fail(berth::errc::unreadable, t.name, "could not be read by the test");
    weight w{t.shape, vector(t.length * 8 / berth::bits_of(t.type))};
    for (std::size_t i = 0; i < w.values.size(); ++i) w.values[i] = element(data, i, t.type);
    if (int8 && ends_with_any(t.name, linears)) out.quantize(w, false);
    if (int8 && ends_with_any(t.name, conv1d)) out.quantize(w, true);
    out.weights_.emplace(t.name, std::move(w));
  }
  return out;
}

/// scale = the largest magnitude of a row, code = round(w x 127 / scale) in f32, weight = code x scale / 127.
void double_forward::quantize(weight& w, bool by_column) {
  const auto first = w.shape[0], second = w.shape[1];
  const auto rows = by_column ? second : first, columns = by_column ? first : second;
  for (std::size_t r = 0; r < rows; ++r) {
    const auto at = [&](std::size_t c) -> double& { return w.values[by_column ? c * rows + r : r * columns + c]; };
    double largest = 0;
    for (std::size_t c = 0; c < columns; ++c) largest = std::max(largest, std::fabs(at(c)));
    if (largest == 0) continue;
    const float factor = 127.0f / static_cast<float>(largest);
    for (std::size_t c = 0; c < columns; ++c) {
      const double code = std::nearbyint(static_cast<float>(at(c)) * factor), back = code * largest / 127;
      worst_ = std::max(worst_, std::fabs(back - at(c)) / largest);
      at(c) = back;
    }
  }
}

const double_forward::weight* double_forward::find(const std::string& name) const {
  const auto it = weights_.find(name);
  return it == weights_.end() ? nullptr : &it->second;
}
double double_forward::setting(const char* key, const char* gpt2_key) const {
  const auto* v = config_.find(gpt2_ ? gpt2_key : key);
  return v != nullptr ? v->to_double().value_or(0) : 0;
}

/// GPT-2 keeps [in, out].
double_forward::vector double_forward::linear(const std::string& module, const vector& x) const {
  const auto& w = *find(module + ".weight");
  const bool in_first = gpt2_ && module.starts_with("transformer.h.");
  const auto out = in_first ? w.shape[1] : w.shape[0];
  vector y(out);
  for (std::size_t o = 0; o < out; ++o)
    for (std::size_t i = 0; i < x.size(); ++i) y[o] += x[i] * w.values[in_first ? i * out + o : o * x.size() + i];
  if (const auto* bias = find(module + ".bias")) add(y, bias->values);
  return y;
}

double_forward::vector double_forward::normed(const std::string& module, const vector& x) const {
  const auto n = static_cast<double>(x.size());
  const double mean = gpt2_ ? std::accumulate(x.begin(), x.end(), 0.0) / n : 0;
  double variance = 0;
  for (const auto v : x) variance += (v - mean) * (v - mean) / n;
  vector y(x.size());
  const auto& w = find(module + ".weight")->values;
  for (std::size_t i = 0; i < x.size(); ++i)
    y[i] = (x[i] - mean) / std::sqrt(variance + setting("rms_norm_eps", "layer_norm_epsilon")) * w[i];
  if (const auto* bias = find(module + ".bias")) add(y, bias->values);
  return y;
}

void double_forward::rotate(vector& all, std::size_t heads, std::size_t position) const {
  const auto* parameters = config_.find("rope_parameters");
  const double theta = parameters->find("rope_theta")->to_double().value_or(0);
  const auto width = all.size() / heads;
  for (std::size_t h = 0; h < heads; ++h)
    for (std::size_t i = 0; i < width / 2; ++i) {
      const double angle =
          static_cast<double>(position) * std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(width));
      auto &a = all[h * width + i], &b = all[h * width + width / 2 + i];
      const double turned = a * std::cos(angle) - b * std::sin(angle);
      b = b * std::cos(angle) + a * std::sin(angle);
      a = turned;
    }
}

double_forward::rows double_forward::attention(const std::string& block, const rows& x) const {
  const auto heads = static_cast<std::size_t>(setting("num_attention_heads", "n_head"));
  const auto kv_heads = gpt2_ ? heads : static_cast<std::size_t>(setting("num_key_value_heads", "n_head"));
  rows q, k, v;
  for (std::size_t t = 0; t < x.size(); ++t) {
    if (gpt2_) {
      const auto joined = linear(block + ".attn.c_attn", normed(block + ".ln_1", x[t]));
      const auto third = static_cast<std::ptrdiff_t>(joined.size() / 3);
      q.emplace_back(joined.begin(), joined.begin() + third);
      k.emplace_back(joined.begin() + third, joined.begin() + 2 * third);
      v.emplace_back(joined.begin() + 2 * third, joined.end());
      continue;
    }
    const auto input = normed(block + ".input_layernorm", x[t]);
    q.push_back(linear(block + ".self_attn.q_proj", input));
    k.push_back(linear(block + ".self_attn.k_proj", input));
    v.push_back(linear(block + ".self_attn.v_proj", input));
    rotate(q[t], heads, t);
    rotate(k[t], kv_heads, t);
  }
  const auto width = q[0].size() / heads;
  rows out;
  for (std::size_t t = 0; t < x.size(); ++t) {
    vector mixed(heads * width);
    for (std::size_t h = 0; h < heads; ++h) {
      const auto from = h / (heads / kv_heads) * width;
      vector scores(t + 1);
      for (std::size_t s = 0; s <= t; ++s)
        for (std::size_t i = 0; i < width; ++i)
          scores[s] += q[t][h * width + i] * k[s][from + i] / std::sqrt(static_cast<double>(width));
      const auto top = *std::max_element(scores.begin(), scores.end());
      for (auto& s : scores) s = std::exp(s - top);
      const auto sum = std::accumulate(scores.begin(), scores.end(), 0.0);
      for (std::size_t s = 0; s <= t; ++s)
        for (std::size_t i = 0; i < width; ++i) mixed[h * width + i] += scores[s] / sum * v[s][from + i];
    }
    out.push_back(linear(block + (gpt2_ ? ".attn.c_proj" : ".self_attn.o_proj"), mixed));
  }
  return out;
}

double_forward::vector double_forward::mixture(const std::string& block, const vector& x) const {
  auto shares = linear(block + ".block_sparse_moe.gate", x);
  const auto top = *std::max_element(shares.begin(), shares.end());
  for (auto& s : shares) s = std::exp(s - top);
  std::vector<std::size_t> order(shares.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return shares[a] != shares[b] ? shares[a] > shares[b] : a < b; });
  order.resize(static_cast<std::size_t>(setting("num_experts_per_tok", "")));
  double sum = 0;
  for (const auto e : order) sum += shares[e];
  vector out(x.size());
  for (const auto e : order) {
    const auto expert = block + ".block_sparse_moe.experts." + std::to_string(e);
    auto inner = linear(expert + ".w1", x);
    const auto up = linear(expert + ".w3", x);
    for (std::size_t i = 0; i < inner.size(); ++i) inner[i] = silu(inner[i]) * up[i];
    const auto part = linear(expert + ".w2", inner);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] += shares[e] / sum * part[i];
  }
  return out;
}

double_forward::vector double_forward::feed_forward(const std::string& block, const vector& x) const {
  if (gpt2_) {
    auto inner = linear(block + ".mlp.c_fc", normed(block + ".ln_2", x));
    for (auto& v : inner) v = 0.5 * v * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (v + 0.044715 * v * v * v)));
    return linear(block + ".mlp.c_proj", inner);
  }
  const auto input = normed(block + ".post_attention_layernorm", x);
  if (find(block + ".block_sparse_moe.gate.weight") != nullptr) return mixture(block, input);
  auto inner = linear(block + ".mlp.gate_proj", input);
  const auto up = linear(block + ".mlp.up_proj", input);
  for (std::size_t i = 0; i < inner.size(); ++i) inner[i] = silu(inner[i]) * up[i];
  return linear(block + ".mlp.down_proj", inner);
}

std::vector<double> double_forward::logits(std::span<const std::int32_t> tokens) const {
  const std::string embedding = gpt2_ ? "transformer.wte" : "model.embed_tokens";
  const auto& table = *find(embedding + ".weight");
  const auto hidden = table.shape[1];
  rows x;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const auto* row = table.values.data() + static_cast<std::size_t>(tokens[t]) * hidden;
    x.emplace_back(row, row + hidden);
    if (!gpt2_) continue;
    const auto* position = find("transformer.wpe.weight")->values.data() + t * hidden;
    add(x[t], vector(position, position + hidden));
  }
  const auto blocks = static_cast<std::size_t>(setting("num_hidden_layers", "n_layer"));
  for (std::size_t b = 0; b < blocks; ++b) {
    const auto name = (gpt2_ ? "transformer.h." : "model.layers.") + std::to_string(b);
    const auto mixed = attention(name, x);
    for (std::size_t t = 0; t < x.size(); ++t) {
      add(x[t], mixed[t]);
      add(x[t], feed_forward(name, x[t]));
    }
  }
  const auto last = normed(gpt2_ ? "transformer.ln_f" : "model.norm", x.back());
  return linear(find("lm_head.weight") != nullptr ? "lm_head" : embedding, last);
}

}  // namespace tiny_test
