// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

module berth.formats;

namespace berth {
namespace {

std::optional<dtype_choice> read_dtype(const json::value& v, std::string_view where) {
  constexpr std::array<std::string_view, 2> keys{"dtype", "torch_dtype"};
  for (const auto key : keys) {
    const auto* name = v.find(key);
    if (name == nullptr || name->if_string() == nullptr) continue;
    if (const auto type = dtype_from_torch(*name->if_string()))
      return dtype_choice{*type, std::string("config: ").append(where).append(key), std::nullopt};
  }
  return std::nullopt;
}

/// Nearest of 1, 2 and 4 bytes; the middle between two goes to the smaller.
unsigned nearest_width(bytes total, std::uint64_t parameters) {
  const double width = static_cast<double>(total) / static_cast<double>(parameters);
  return width <= 1.5 ? 1 : width <= 3.0 ? 2 : 4;
}

}  // namespace

std::optional<dtype_choice> config_dtype(const json::value& config) {
  if (auto top = read_dtype(config, "")) return top;
  constexpr std::array<std::string_view, 4> inner{"text_config", "language_config", "llm_config", "thinker_config"};
  for (const auto key : inner)
    if (const auto* c = config.find(key))
      if (auto nested = read_dtype(*c, std::string(key).append("."))) return nested;
  return std::nullopt;
}

dtype_choice checkpoint_dtype(const json::value* config, std::optional<bytes> index_total, std::uint64_t parameters) {
  auto stated = config != nullptr ? config_dtype(*config) : std::nullopt;
  if (index_total && *index_total > 0 && parameters > 0) {
    const auto width = nearest_width(*index_total, parameters);
    if (stated && bits_of(stated->type) == width * 8) return *stated;
    dtype_choice measured{width == 1   ? dtype::f8_e4m3
                          : width == 2 ? dtype::bf16
                                       : dtype::f32,
                          "index: total_size / parameters", std::nullopt};
    if (stated) measured.contradicted = stated->type;
    return measured;
  }
  return stated ? *stated : dtype_choice{dtype::f32, "default: neither config nor index says", std::nullopt};
}

}  // namespace berth
