// SPDX-License-Identifier: Apache-2.0
// transformers' activation table (ACT2FN): the module class behind each name in a config.
// prelu and xielu are left out: they own parameters.
module;

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

module berth.formats;

import :architecture_entry;

namespace berth::architectures {
namespace {

inline constexpr std::array<std::pair<std::string_view, std::string_view>, 22> activations{{
    {"gelu", "GELUActivation"},
    {"gelu_10", "ClippedGELUActivation"},
    {"gelu_fast", "FastGELUActivation"},
    {"gelu_new", "NewGELUActivation"},
    {"gelu_python", "GELUActivation"},
    {"gelu_pytorch_tanh", "GELUTanh"},
    {"gelu_python_tanh", "GELUTanh"},
    {"gelu_accurate", "AccurateGELUActivation"},
    {"hardswish", "Hardswish"},
    {"laplace", "LaplaceActivation"},
    {"leaky_relu", "LeakyReLU"},
    {"linear", "LinearActivation"},
    {"mish", "MishActivation"},
    {"quick_gelu", "QuickGELUActivation"},
    {"relu", "ReLU"},
    {"relu2", "ReLUSquaredActivation"},
    {"relu6", "ReLU6"},
    {"sigmoid", "Sigmoid"},
    {"silu", "SiLUActivation"},
    {"sqrtsoftplus", "SqrtSoftplusActivation"},
    {"swish", "SiLU"},
    {"tanh", "Tanh"},
}};

}  // namespace

std::optional<std::string_view> activation_class(std::string_view name) {
  // T5 writes the shape of its MLP and the activation into one word, and means gelu_new by "gated-gelu".
  constexpr std::string_view gated = "gated-";
  if (name == "gated-gelu") name = "gelu_new";
  if (name.substr(0, gated.size()) == gated) name.remove_prefix(gated.size());
  const auto* found =
      std::find_if(activations.begin(), activations.end(), [&](const auto& a) { return a.first == name; });
  if (found == activations.end()) return std::nullopt;
  return found->second;
}

}  // namespace berth::architectures
