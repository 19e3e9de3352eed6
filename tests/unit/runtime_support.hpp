// SPDX-License-Identifier: Apache-2.0
// Small checkpoints with random weights, plans for them, and what every tensor of the tree must be: found element by
// element from the tensor's point of view. Include last: it ends in imports.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "exec_programs.hpp"

import berth.formats;
import berth.runtime;

namespace runtime_test {

namespace fs = std::filesystem;
using bytes_of_tensor = std::vector<std::byte>;

struct folder {
  fs::path path;
  folder() {
    std::string pattern = (fs::temp_directory_path() / "berth-test-XXXXXX").string();
    path = mkdtemp(pattern.data());
  }
  folder(folder&& other) noexcept : path(std::exchange(other.path, {})) {}
  folder& operator=(folder&&) = delete;
  ~folder() {
    std::error_code e;
    if (!path.empty()) fs::remove_all(path, e);
  }
};

struct stored {
  std::string name;
  berth::dtype type = berth::dtype::bf16;
  std::vector<std::uint64_t> shape;
  bytes_of_tensor data;
};

/// Random finite values of middling size.
inline bytes_of_tensor draw(plan_test::dice& d, berth::dtype type, std::uint64_t count) {
  const std::size_t width = berth::bits_of(type) / 8;
  bytes_of_tensor out(static_cast<std::size_t>(count) * width);
  for (auto& b : out) b = static_cast<std::byte>(d.pick(0, 255));
  for (std::size_t i = 0; i < out.size(); i += width) {
    auto& high = out[i + width - 1];
    if (type == berth::dtype::f16) high &= std::byte{0xbf};  // below 2
    if (type == berth::dtype::bf16 || type == berth::dtype::f32) high = (high & std::byte{0x83}) | std::byte{0x3c};
  }
  return out;
}

inline void write_safetensors(const fs::path& path, std::span<const stored> tensors) {
  std::string header = "{";
  std::size_t at = 0;
  for (const auto& t : tensors) {
    std::string shape;
    for (const auto n : t.shape) shape += (shape.empty() ? "" : ",") + std::to_string(n);
    header += (header.size() > 1 ? ",\"" : "\"") + t.name + R"(":{"dtype":")" +
              std::string(berth::info_of(t.type).safetensors) + R"(","shape":[)" + shape + R"(],"data_offsets":[)" +
              std::to_string(at) + "," + std::to_string(at + t.data.size()) + "]}";
    at += t.data.size();
  }
  header += "}";
  while (header.size() % 8 != 0) header += ' ';
  std::ofstream out(path, std::ios::binary);
  const std::uint64_t size = header.size();
  out.write(reinterpret_cast<const char*>(&size), sizeof size);
  out << header;
  for (const auto& t : tensors)
    out.write(reinterpret_cast<const char*>(t.data.data()), static_cast<std::streamsize>(t.data.size()));
}

enum class family { llama, qwen2, mixtral, gpt2 };
inline constexpr std::array families{family::llama, family::qwen2, family::mixtral, family::gpt2};
inline constexpr std::array family_names{"llama", "qwen2", "mixtral", "gpt2"};

constexpr std::uint64_t hidden = 16, wide = 24, words = 20, layers = 2, experts = 3;

inline std::string config_of(family f, bool tied, std::string_view torch_type) {
  const auto n = [](std::uint64_t v) { return std::to_string(v); };
  const std::string end = std::string(R"(,"tie_word_embeddings":)") + (tied ? "true" : "false") +
                          R"(,"torch_dtype":")" + std::string(torch_type) + R"(","vocab_size":)" + n(words) + "}";
  if (f == family::gpt2)
    return R"({"model_type":"gpt2","architectures":["GPT2LMHeadModel"],"n_embd":)" + n(hidden) +
           R"(,"n_head":2,"n_layer":)" + n(layers) + R"(,"n_positions":32)" + end;
  const std::string type = family_names[static_cast<std::size_t>(f)];
  const std::string name = f == family::llama ? "Llama" : f == family::qwen2 ? "Qwen2" : "Mixtral";
  return R"({"model_type":")" + type + R"(","architectures":[")" + name + R"(ForCausalLM"],"hidden_size":)" +
         n(hidden) + R"(,"num_attention_heads":2,"num_key_value_heads":1,"intermediate_size":)" + n(wide) +
         R"(,"max_position_embeddings":32,"num_local_experts":)" + n(experts) + R"(,"num_experts_per_tok":2)" +
         R"(,"num_hidden_layers":)" + n(layers) + end;
}

using shape_list = std::vector<std::pair<std::string, std::vector<std::uint64_t>>>;

inline shape_list gpt2_shapes(bool tied) {
  shape_list s{{"wte.weight", {words, hidden}},
               {"wpe.weight", {32, hidden}},
               {"ln_f.weight", {hidden}},
               {"ln_f.bias", {hidden}}};
  for (std::uint64_t l = 0; l < layers; ++l) {
    const auto h = "h." + std::to_string(l) + ".";
    for (const auto* ln : {"ln_1", "ln_2"})
      for (const auto* part : {".weight", ".bias"}) s.push_back({h + ln + part, {hidden}});
    const auto conv = [&](const std::string& name, std::uint64_t in, std::uint64_t out) {
      s.push_back({h + name + ".weight", {in, out}});
      s.push_back({h + name + ".bias", {out}});
    };
    conv("attn.c_attn", hidden, 3 * hidden);
    conv("attn.c_proj", hidden, hidden);
    conv("mlp.c_fc", hidden, 4 * hidden);
    conv("mlp.c_proj", 4 * hidden, hidden);
  }
  for (auto& [name, shape] : s) name = "transformer." + name;
  if (!tied) s.push_back({"lm_head.weight", {words, hidden}});
  return s;
}

/// Names and shapes in the files, as the family's own tools write them.
inline shape_list shapes_of(family f, bool tied) {
  if (f == family::gpt2) return gpt2_shapes(tied);
  shape_list s{{"model.embed_tokens.weight", {words, hidden}}, {"model.norm.weight", {hidden}}};
  for (std::uint64_t l = 0; l < layers; ++l) {
    const auto m = "model.layers." + std::to_string(l) + ".";
    s.push_back({m + "input_layernorm.weight", {hidden}});
    s.push_back({m + "post_attention_layernorm.weight", {hidden}});
    for (const auto* p : {"q", "k", "v", "o"}) {
      const auto rows = p[0] == 'k' || p[0] == 'v' ? hidden / 2 : hidden;
      s.push_back({m + "self_attn." + p + "_proj.weight", {rows, hidden}});
      if (f == family::qwen2 && p[0] != 'o') s.push_back({m + "self_attn." + p + "_proj.bias", {rows}});
    }
    if (f == family::mixtral) {
      s.push_back({m + "block_sparse_moe.gate.weight", {experts, hidden}});
      for (std::uint64_t e = 0; e < experts; ++e) {
        const auto x = m + "block_sparse_moe.experts." + std::to_string(e) + ".";
        s.push_back({x + "w1.weight", {wide, hidden}});
        s.push_back({x + "w2.weight", {hidden, wide}});
        s.push_back({x + "w3.weight", {wide, hidden}});
      }
    } else {
      for (const auto* p : {"gate", "up"}) s.push_back({m + "mlp." + p + "_proj.weight", {wide, hidden}});
      s.push_back({m + "mlp.down_proj.weight", {hidden, wide}});
    }
  }
  if (!tied) s.push_back({"lm_head.weight", {words, hidden}});
  return s;
}

/// A checkpoint in a folder of its own, and its tensors by name.
struct checkpoint {
  folder at;
  std::map<std::string, stored> tensors;
};

inline void write_checkpoint(const fs::path& at, const std::string& config, std::span<const stored> all,
                             std::size_t shards) {
  std::ofstream(at / "config.json") << config;
  if (shards <= 1) return write_safetensors(at / "model.safetensors", all);
  std::string map;
  for (std::size_t s = 0; s < shards; ++s) {
    const auto file = "model-0000" + std::to_string(s + 1) + "-of-0000" + std::to_string(shards) + ".safetensors";
    const auto begin = all.size() * s / shards, end = all.size() * (s + 1) / shards;
    write_safetensors(at / file, all.subspan(begin, end - begin));
    for (auto i = begin; i < end; ++i) map += (map.empty() ? "\"" : ",\"") + all[i].name + R"(":")" + file + "\"";
  }
  std::ofstream(at / "model.safetensors.index.json") << R"({"metadata":{},"weight_map":{)" << map << "}}";
}

inline checkpoint make_checkpoint(family f, bool tied, berth::dtype type, std::size_t shards, std::uint64_t seed) {
  plan_test::dice d(seed);
  std::vector<stored> all;
  for (auto& [name, shape] : shapes_of(f, tied)) {
    std::uint64_t n = 1;
    for (const auto x : shape) n *= x;
    all.push_back({name, type, shape, draw(d, type, n)});
  }
  checkpoint out;
  write_checkpoint(out.at.path, config_of(f, tied, berth::info_of(type).torch), all, shards);
  for (auto& t : all) out.tensors.emplace(t.name, t);
  return out;
}

// What a tensor of the tree must be.

inline double value_of(berth::dtype type, const std::byte* at) {
  if (type == berth::dtype::f32) {
    float v = 0;
    std::memcpy(&v, at, sizeof v);
    return static_cast<double>(v);
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof bits);
  const int fraction_bits = type == berth::dtype::f16 ? 10 : 7, bias = type == berth::dtype::f16 ? 15 : 127;
  const int exponent = (bits & 0x7fff) >> fraction_bits, fraction = bits & ((1 << fraction_bits) - 1);
  const int scale = (exponent == 0 ? 1 : exponent) - bias - fraction_bits;
  const auto magnitude = std::ldexp(exponent == 0 ? fraction : fraction + (1 << fraction_bits), scale);
  return bits >> 15 != 0 ? -magnitude : magnitude;
}

/// The nearest value of `type`, the one with an even last bit of two that are as near. Searches all of them.
inline void put_nearest(berth::dtype type, double value, std::byte* at) {
  if (type == berth::dtype::f32) {
    const auto v = static_cast<float>(value);
    std::memcpy(at, &v, sizeof v);
    return;
  }
  const std::uint16_t infinity = type == berth::dtype::f16 ? 0x7c00 : 0x7f80;
  std::uint16_t low = 0, high = infinity - 1;  // magnitudes grow with their bits
  const auto magnitude = [&](std::uint16_t bits) { return value_of(type, reinterpret_cast<const std::byte*>(&bits)); };
  const auto wanted = std::abs(value);
  while (high - low > 1) {
    const auto middle = static_cast<std::uint16_t>((low + high) / 2);
    (magnitude(middle) <= wanted ? low : high) = middle;
  }
  const auto below = wanted - magnitude(low), above = magnitude(high) - wanted;
  std::uint16_t best = below < above || (below == above && low % 2 == 0) ? low : high;
  if (std::signbit(value)) best |= 0x8000;
  std::memcpy(at, &best, sizeof best);
}

/// Where one element of a tensor of the tree is stored.
struct element_place {
  const stored* in = nullptr;
  std::uint64_t index = 0;
};

inline element_place find_element(const checkpoint& c, const berth::tensor& t, std::uint64_t element) {
  const auto by_name = [&](const std::string& name) { return &c.tensors.at(name); };
  auto name = t.name;
  if (const auto moe = name.find(".mlp.");
      moe != std::string::npos && c.tensors.contains("model.layers.0.block_sparse_moe.gate.weight")) {
    const auto base = name.substr(0, moe) + ".block_sparse_moe.";
    if (name.ends_with(".gate.weight")) return {by_name(base + "gate.weight"), element};
    const auto rows = t.shape[1], columns = t.shape[2];
    const auto expert = element / (rows * columns), row = element / columns % rows, column = element % columns;
    const auto x = base + "experts." + std::to_string(expert) + ".";
    if (name.ends_with(".down_proj")) return {by_name(x + "w2.weight"), row * columns + column};
    return row < wide ? element_place{by_name(x + "w1.weight"), row * columns + column}
                      : element_place{by_name(x + "w3.weight"), (row - wide) * columns + column};
  }
  if (name == "lm_head.weight" && !c.tensors.contains(name))
    name = c.tensors.contains("model.embed_tokens.weight") ? "model.embed_tokens.weight" : "transformer.wte.weight";
  return {by_name(name), element};
}

inline double element_value(const checkpoint& c, const berth::tensor& t, std::uint64_t element) {
  const auto p = find_element(c, t, element);
  return value_of(p.in->type, p.in->data.data() + p.index * (berth::bits_of(p.in->type) / 8));
}

/// The bytes of a whole tensor in a form.
inline bytes_of_tensor expected(const checkpoint& c, const berth::tensor& t, const berth::tensor_form& form) {
  if (!form.int8) {
    const std::size_t width = berth::bits_of(form.type) / 8;
    bytes_of_tensor out(static_cast<std::size_t>(t.elements) * width);
    for (std::uint64_t i = 0; i < t.elements; ++i) {
      const auto p = find_element(c, t, i);
      if (p.in->type == form.type)
        std::memcpy(out.data() + i * width, p.in->data.data() + p.index * width, width);
      else
        put_nearest(form.type, element_value(c, t, i), out.data() + i * width);
    }
    return out;
  }
  const auto rows = form.by_column ? t.shape[1] : t.shape[0], columns = t.elements / rows;
  bytes_of_tensor out(static_cast<std::size_t>(4 * rows + t.elements));
  for (std::uint64_t r = 0; r < rows; ++r) {
    const auto at = [&](std::uint64_t k) {
      return static_cast<float>(element_value(c, t, form.by_column ? k * rows + r : r * columns + k));
    };
    float scale = 0;
    for (std::uint64_t k = 0; k < columns; ++k) scale = std::max(scale, std::abs(at(k)));
    std::memcpy(out.data() + 4 * r, &scale, 4);
    const float factor = scale == 0 ? 0.0f : 127.0f / scale;
    for (std::uint64_t k = 0; k < columns; ++k) {
      const float product = at(k) * factor;
      out[4 * rows + r * columns + k] = static_cast<std::byte>(static_cast<int>(std::nearbyint(product)));
    }
  }
  return out;
}

/// The bytes of a tensor as an atom has it: all of it, or its slice.
inline bytes_of_tensor expected(const checkpoint& c, const berth::tensor& t, const berth::tensor_form& form,
                                const berth::atom& a) {
  auto whole = expected(c, t, form);
  if (a.parts <= 1) return whole;
  const auto part = whole.size() / a.parts;
  const auto begin = whole.begin() + static_cast<std::ptrdiff_t>(part * a.part);
  return {begin, begin + static_cast<std::ptrdiff_t>(part)};
}

// Plans.

struct wish {
  berth::precision how{};
  berth::granularity parts = berth::granularity::blocks;
};

/// A plan of a loaded model with the seats in turn; the error's text otherwise.
inline berth::result<berth::plan> plan_for(const berth::loaded_model& m, const wish& w,
                                           std::vector<exec_test::seat_names> seats) {
  const auto sizes = berth::apply_precision(m.tree(), m.sizes, w.how);
  if (!sizes) return sizes.propagate();
  berth::derive_options derive;
  derive.parts = w.parts;
  auto chain = berth::derive_model(m.tree(), *sizes, derive);
  berth::workload load{.context = 32, .batch = 1, .prompt = 8, .generate = 8};
  const auto& a = m.architecture;
  const auto costed = berth::cost_model(chain, m.tree(), *sizes, {a.hidden, a.vocabulary, a.layers}, load);
  if (!costed) return costed.propagate();
  auto options = exec_test::options();
  options.workload = load;
  return berth::place_fn{exec_test::Told{std::move(seats)}}(chain.view(), exec_test::machine(2), options);
}

/// A model, its plan and its images. `what` says what went wrong if there is no plan.
struct prepared {
  berth::loaded_model model;
  berth::plan plan;
  berth::weight_images images;
};
inline berth::result<prepared> prepare(const fs::path& at, const wish& w, std::vector<exec_test::seat_names> seats) {
  auto m = berth::load_model(at.string());
  if (!m) return m.propagate();
  auto p = plan_for(*m, w, std::move(seats));
  if (!p) return p.propagate();
  auto sources = berth::sources_of(*m);
  if (!sources) return sources.propagate();
  auto images = berth::make_images(*p, m->tree(), m->sizes, w.how, *std::move(sources));
  if (!images) return images.propagate();
  return prepared{std::move(*m), std::move(*p), std::move(*images)};
}

inline std::string say(const berth::error& e) {
  return std::string(berth::name_of(e.code)) + " " + std::string(e.subject.view()) + ": " +
         std::string(e.detail.view());
}

/// The bytes that an image must be, tensor by tensor in its own order; empty if a tensor is not in the tree.
inline bytes_of_tensor expected_image(const checkpoint& c, const prepared& p, std::uint32_t atom) {
  bytes_of_tensor out;
  for (const auto& t : p.images.of(atom)) {
    const auto* in_tree = p.model.tree().find_tensor(t.name);
    if (in_tree == nullptr) return {};
    const auto part = t.stored ? expected(c, *in_tree, t.form, p.plan.atoms[atom])
                               : bytes_of_tensor(static_cast<std::size_t>(t.size));
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

}  // namespace runtime_test
