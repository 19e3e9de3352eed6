// SPDX-License-Identifier: Apache-2.0
// What the config says about the forward pass.
module;

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "forward.hpp"

module tiny;

import berth;
import berth.formats;

namespace tiny {
namespace {

using berth::errc;
using berth::fail;
using berth::result;
using berth::json::value;

double number(const value& config, std::string_view key, double otherwise) {
  const auto* v = config.find(key);
  return v != nullptr ? v->to_double().value_or(otherwise) : otherwise;
}
std::string_view word(const value& config, std::string_view key, std::string_view otherwise) {
  const auto* v = config.find(key);
  return v != nullptr && v->if_string() ? std::string_view(*v->if_string()) : otherwise;
}
bool flag(const value& config, std::string_view key, bool otherwise) {
  const auto* v = config.find(key);
  return v != nullptr && v->if_bool() ? *v->if_bool() : otherwise;
}

berth::failure cannot(std::string_view what, std::string_view why) { return fail(errc::unsupported, what, why); }

/// Newer configs keep the base of the angles among other parameters, older ones beside two other members.
result<float> theta_of(const value& config) {
  const auto* parameters = config.find("rope_parameters");
  if (parameters == nullptr || !parameters->if_object()) parameters = config.find("rope_scaling");
  const bool given = parameters != nullptr && parameters->if_object();
  if (given && word(*parameters, "rope_type", word(*parameters, "type", "default")) != "default")
    return cannot("rope_type", "the example turns by the default angles only; take a model without scaled angles");
  const auto beside = number(config, "rope_theta", 10000);
  return static_cast<float>(given ? number(*parameters, "rope_theta", beside) : beside);
}

result<shape> shape_of(const berth::architecture& a, const value& config) {
  if (a.layers.empty()) return cannot("config.json", "describes no blocks");
  const auto& first = a.layers.front();
  for (const auto& layer : a.layers) {
    if (!(layer.cache == first.cache) || !(layer.ffn == first.ffn))
      return cannot(layer.module, "differs from the first block; the example expects equal blocks");
    if (layer.cache.window != 0) return cannot(layer.module, "has a sliding window, which the example does not keep");
    if (layer.cache.key_dim != layer.cache.value_dim || layer.cache.kv_heads == 0)
      return cannot(layer.module, "has another attention than the example's");
  }
  const auto count = [](std::uint64_t n) { return static_cast<std::int64_t>(n); };
  shape s;
  s.hidden = count(a.hidden);
  s.vocabulary = count(a.vocabulary);
  s.heads = count(first.cache.heads);
  s.kv_heads = count(first.cache.kv_heads);
  s.head_width = count(first.cache.key_dim);
  s.experts = count(first.ffn.experts);
  s.active = count(first.ffn.active);
  s.width = count(s.experts > 0 ? first.ffn.expert_width : first.ffn.width);
  s.gpt2 = a.model_type == "gpt2";
  if (s.gpt2) {
    s.epsilon = static_cast<float>(number(config, "layer_norm_epsilon", 1e-5));
    if (word(config, "activation_function", "gelu_new") != "gelu_new")
      return cannot("activation_function", "the example knows gelu_new");
    if (!flag(config, "scale_attn_weights", true) || flag(config, "scale_attn_by_inverse_layer_idx", false))
      return cannot("scale_attn_weights", "the example scales scores by the root of the head's width only");
    return s;
  }
  s.epsilon = static_cast<float>(number(config, "rms_norm_eps", a.model_type == "mixtral" ? 1e-5 : 1e-6));
  if (word(config, "hidden_act", "silu") != "silu") return cannot("hidden_act", "the example knows silu");
  auto theta = theta_of(config);
  if (!theta) return theta.propagate();
  s.theta = *theta;
  return s;
}

}  // namespace

result<opened> open(const std::string& path) {
  auto model = berth::load_model(path);
  if (!model) return model.propagate();
  if (!model->checkpoint || !model->checkpoint->has_headers() || !model->checkpoint->config)
    return fail(errc::not_found, path, "needs a checkpoint folder with safetensors files and config.json");
  const auto& a = model->architecture;
  if (a.model_type != "llama" && a.model_type != "qwen2" && a.model_type != "mixtral" && a.model_type != "gpt2")
    return cannot(a.model_type, "the example's forward pass knows llama, qwen2, mixtral and gpt2");
  auto s = shape_of(a, *model->checkpoint->config);
  if (!s) return s.propagate();
  return opened{*std::move(model), *s};
}

result<berth::model> chain_of(const opened& m, const berth::precision& how, const berth::workload& w) {
  const auto& tree = m.model.tree();
  auto sizes = berth::apply_precision(tree, m.model.sizes, how);
  if (!sizes) return sizes.propagate();
  auto chain = berth::derive_model(tree, *sizes);
  const auto& a = m.model.architecture;
  berth::cost_options costs;
  costs.cache.width = {sizeof(float), 1};
  costs.activation_bytes = sizeof(float);
  if (auto ok = berth::cost_model(chain, tree, *sizes, {a.hidden, a.vocabulary, a.layers}, w, costs); !ok)
    return ok.propagate();
  return chain;
}

}  // namespace tiny
