// SPDX-License-Identifier: Apache-2.0
#include "random_checkpoint.hpp"

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

import berth;
import berth.formats;

namespace tiny_test {
namespace {

namespace json = berth::json;

constexpr std::string_view common = R"("hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 5,
  "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 160, "max_position_embeddings": 96,
  "hidden_act": "silu", "rms_norm_eps": 1e-05, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"})";

std::string config_of(std::string_view family) {
  if (family == "gpt2")
    return R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "dtype": "float32", "n_embd": 48,
  "n_head": 3, "n_layer": 5, "n_positions": 96, "n_inner": null, "vocab_size": 160, "tie_word_embeddings": true,
  "activation_function": "gelu_new", "layer_norm_epsilon": 1e-05})";
  std::string text = "{\"model_type\": \"" + std::string(family) + "\", \"architectures\": [\"";
  text += family == "llama" ? "Llama" : family == "qwen2" ? "Qwen2" : "Mixtral";
  text += "ForCausalLM\"], \"dtype\": \"";
  text += family == "qwen2" ? "float16" : "bfloat16";
  text += family == "llama" ? "\", \"tie_word_embeddings\": true, " : "\", \"tie_word_embeddings\": false, ";
  if (family == "mixtral") text += R"("num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": null, )";
  return text + std::string(common) + "}";
}

std::uint16_t to_half(float v) {
  const auto bits = std::bit_cast<std::uint32_t>(v);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  const auto code = static_cast<std::uint16_t>(std::lround(std::fabs(v) * 0x1p24f));  // below 2^-14: subnormal
  if (std::fabs(v) < 0x1p-14f) return static_cast<std::uint16_t>(sign | code);
  return static_cast<std::uint16_t>(sign | (((bits & 0x7fffffffu) - (112u << 23)) >> 13));
}

/// Elements around 0, of norms around 1.
std::string data_of(const berth::saved_tensor& t, std::mt19937_64& random) {
  std::uint64_t elements = 1;
  for (const auto n : t.shape) elements *= n;
  const bool norm = t.from.stored.find("norm") != std::string::npos || t.from.stored.find(".ln_") != std::string::npos;
  std::string out;
  for (std::uint64_t i = 0; i < elements; ++i) {
    // Twelve uniform numbers are as good as normal; std::normal_distribution differs between libraries.
    float v = -6;
    for (int k = 0; k < 12; ++k) v += static_cast<float>(random() >> 40) * 0x1p-24f;
    v = norm && t.shape.size() == 1 && t.from.stored.ends_with("weight") ? 1 + 0.1f * v : 0.15f * v;
    char raw[4];
    if (t.type == berth::dtype::f32) {
      std::memcpy(raw, &v, 4);
      out.append(raw, 4);
      continue;
    }
    const auto code =
        t.type == berth::dtype::f16 ? to_half(v) : static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(v) >> 16);
    std::memcpy(raw, &code, 2);
    out.append(raw, 2);
  }
  return out;
}

bool write_file(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  return static_cast<bool>(out);
}

/// One safetensors file: length of the header, header, data.
std::string safetensors_of(const std::vector<std::pair<berth::saved_tensor, std::string>>& tensors) {
  json::object header;
  std::uint64_t offset = 0;
  std::string data;
  for (const auto& [t, content] : tensors) {
    json::array shape;
    for (const auto n : t.shape) shape.emplace_back(n);
    const std::uint64_t end = offset + content.size();
    json::object entry{{"dtype", std::string(berth::info_of(t.type).safetensors)},
                       {"shape", std::move(shape)},
                       {"data_offsets", json::array{offset, end}}};
    header.push_back({t.from.stored, std::move(entry)});
    offset = end;
    data += content;
  }
  auto text = json::write(std::move(header));
  while (text.size() % 8 != 0) text += ' ';
  const std::uint64_t size = text.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &size, 8);
  return out + text + data;
}

}  // namespace

bool write_random_checkpoint(const std::string& folder, std::string_view family, std::uint64_t seed,
                             std::string& error) {
  const auto config = config_of(family);
  const auto parsed = json::parse(config, "config.json");
  if (!parsed) return error = std::string(parsed.error().detail.view()), false;
  const auto architecture = berth::build_architecture(*parsed);
  if (!architecture) return error = std::string(architecture.error().detail.view()), false;
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  std::mt19937_64 random(seed);
  std::vector<std::pair<berth::saved_tensor, std::string>> files[2];
  json::object map;
  std::size_t number = 0;
  std::uint64_t total = 0;
  for (auto& t : berth::saved_tensors(architecture->tree)) {
    const auto file = number++ % 2;
    map.push_back(
        {t.from.stored, std::string(file == 0 ? "model-00001-of-00002" : "model-00002-of-00002") + ".safetensors"});
    auto content = data_of(t, random);
    total += content.size();
    files[file].emplace_back(std::move(t), std::move(content));
  }
  json::object index{{"metadata", json::object{{"total_size", total}}}, {"weight_map", std::move(map)}};
  error = "cannot write to " + folder;
  return write_file(folder + "/config.json", config) &&
         write_file(folder + "/model.safetensors.index.json", json::write(std::move(index))) &&
         write_file(folder + "/model-00001-of-00002.safetensors", safetensors_of(files[0])) &&
         write_file(folder + "/model-00002-of-00002.safetensors", safetensors_of(files[1]));
}

}  // namespace tiny_test
