// SPDX-License-Identifier: Apache-2.0
// Small checkpoints with known bytes, plans of every kind for them, and what must lie in memory afterwards, worked out
// here from the stored bytes alone. Include last: it ends in imports.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

import berth;
import berth.formats;
import berth.host;
import berth.runtime;

namespace load_test {

using byte_list = std::vector<std::byte>;

/// A folder of its own, removed at the end.
class folder {
 public:
  folder() {
    auto name = (std::filesystem::temp_directory_path() / "berth-load-XXXXXX").string();
    path_ = ::mkdtemp(name.data()) == nullptr ? std::string() : name;
  }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;
  ~folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string path(const std::string& name = {}) const { return name.empty() ? path_ : path_ + "/" + name; }

 private:
  std::string path_;
};

struct stored {
  std::string name;
  berth::dtype type = berth::dtype::bf16;
  std::vector<std::uint64_t> shape;
  byte_list data;
};

/// Writes shards as safetensors describes them, and the index if there are several.
inline void write_shards(const folder& at, const std::vector<std::vector<stored>>& shards) {
  std::string map;
  for (std::size_t s = 0; s < shards.size(); ++s) {
    char name[64];
    std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", s + 1, shards.size());
    const std::string file = shards.size() == 1 ? "model.safetensors" : name;
    std::string header = "{";
    std::size_t offset = 0;
    for (const auto& t : shards[s]) {
      std::string shape;
      for (const auto d : t.shape) shape += (shape.empty() ? "" : ",") + std::to_string(d);
      header += (header.size() > 1 ? "," : "") + ("\"" + t.name + "\":{\"dtype\":\"") +
                std::string(berth::info_of(t.type).safetensors) + "\",\"shape\":[" + shape + "],\"data_offsets\":[" +
                std::to_string(offset) + "," + std::to_string(offset + t.data.size()) + "]}";
      offset += t.data.size();
      map += (map.empty() ? "" : ",") + ("\"" + t.name + "\":\"" + file + "\"");
    }
    header += "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    std::ofstream out(at.path(file), std::ios::binary);
    const std::uint64_t size = header.size();
    out.write(reinterpret_cast<const char*>(&size), sizeof size);
    out << header;
    for (const auto& t : shards[s])
      out.write(reinterpret_cast<const char*>(t.data.data()), static_cast<std::streamsize>(t.data.size()));
  }
  if (shards.size() > 1) std::ofstream(at.path("model.safetensors.index.json")) << "{\"weight_map\":{" << map << "}}";
}

/// The k-th pseudorandom number of a seed.
inline std::uint64_t mixed(std::uint64_t seed, std::uint64_t k) {
  auto z = seed * 0x9e3779b97f4a7c15u + k * 0xbf58476d1ce4e5b9u + 0x94d049bb133111ebu;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}
/// A finite number of ordinary size.
inline float drawn(std::uint64_t seed, std::uint64_t k) {
  return static_cast<float>(static_cast<std::int64_t>(mixed(seed, k) >> 40) - (1 << 23)) * 0x1p-22f;
}

inline std::uint16_t as_bf16(float v) {
  auto bits = std::bit_cast<std::uint32_t>(v);
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
inline float from_bf16(std::uint16_t v) { return std::bit_cast<float>(std::uint32_t{v} << 16); }

inline stored weights(std::string name, std::vector<std::uint64_t> shape, std::uint64_t seed,
                      berth::dtype type = berth::dtype::bf16) {
  stored out{std::move(name), type, std::move(shape), {}};
  std::uint64_t n = 1;
  for (const auto d : out.shape) n *= d;
  const auto size = berth::bits_of(type) / 8;
  out.data.resize(n * size);
  for (std::uint64_t i = 0; i < n; ++i) {
    const auto v = drawn(seed, i);
    const auto half = as_bf16(v);
    if (type == berth::dtype::bf16)
      std::memcpy(out.data.data() + i * 2, &half, 2);
    else
      std::memcpy(out.data.data() + i * 4, &v, 4);
  }
  return out;
}

struct model_size {
  std::uint64_t hidden = 64, layers = 4, vocabulary = 256, inner = 160;
  bool tied = false;
  std::size_t shards = 3;
  std::uint64_t seed = 1;
};

/// A Llama of the given size with random weights: what its files hold, by name.
struct checkpoint {
  folder at;
  std::map<std::string, stored> tensors;

  explicit checkpoint(const model_size& m = {}) {
    std::ofstream(at.path("config.json"))
        << "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":" << m.hidden
        << ",\"intermediate_size\":" << m.inner << ",\"num_hidden_layers\":" << m.layers
        << ",\"num_attention_heads\":4,\"num_key_value_heads\":2,\"vocab_size\":" << m.vocabulary
        << ",\"max_position_embeddings\":2048,\"rms_norm_eps\":1e-5,\"torch_dtype\":\"bfloat16\","
        << "\"tie_word_embeddings\":" << (m.tied ? "true" : "false") << "}";
    std::vector<stored> all;
    const auto add = [&](const std::string& name, std::vector<std::uint64_t> shape) {
      all.push_back(weights(name, std::move(shape), m.seed + 1000 * all.size()));
    };
    add("model.embed_tokens.weight", {m.vocabulary, m.hidden});
    for (std::uint64_t l = 0; l < m.layers; ++l) {
      const auto p = "model.layers." + std::to_string(l) + ".";
      add(p + "input_layernorm.weight", {m.hidden});
      add(p + "mlp.down_proj.weight", {m.hidden, m.inner});
      add(p + "mlp.gate_proj.weight", {m.inner, m.hidden});
      add(p + "mlp.up_proj.weight", {m.inner, m.hidden});
      add(p + "post_attention_layernorm.weight", {m.hidden});
      add(p + "self_attn.k_proj.weight", {m.hidden / 2, m.hidden});
      add(p + "self_attn.o_proj.weight", {m.hidden, m.hidden});
      add(p + "self_attn.q_proj.weight", {m.hidden, m.hidden});
      add(p + "self_attn.v_proj.weight", {m.hidden / 2, m.hidden});
    }
    add("model.norm.weight", {m.hidden});
    if (!m.tied) add("lm_head.weight", {m.vocabulary, m.hidden});
    write(all, m.shards);
  }
  /// Of tensors and a config of the caller's.
  checkpoint(const std::string& config, const std::vector<stored>& all) {
    std::ofstream(at.path("config.json")) << config;
    write(all, 1);
  }

 private:
  void write(const std::vector<stored>& all, std::size_t shards) {
    std::vector<std::vector<stored>> parts(shards);
    for (std::size_t i = 0; i < all.size(); ++i) parts[i * shards / all.size()].push_back(all[i]);
    write_shards(at, parts);
    for (const auto& t : all) tensors.emplace(t.name, t);
  }
};

/// The LLM.int8 rule as the page has it, one row after the other.
inline void quantize(const stored& t, bool by_column, byte_list& out) {
  const auto rows = by_column ? t.shape[1] : t.shape[0], columns = by_column ? t.shape[0] : t.shape[1];
  const auto value = [&](std::uint64_t r, std::uint64_t c) {
    const auto at = by_column ? c * rows + r : r * columns + c;
    if (t.type == berth::dtype::f32) {
      float v = 0;
      std::memcpy(&v, t.data.data() + 4 * at, 4);
      return v;
    }
    std::uint16_t v = 0;
    std::memcpy(&v, t.data.data() + 2 * at, 2);
    return from_bf16(v);
  };
  out.resize(4 * rows + rows * columns);
  for (std::uint64_t r = 0; r < rows; ++r) {
    float largest = 0;
    for (std::uint64_t c = 0; c < columns; ++c) largest = std::max(largest, std::fabs(value(r, c)));
    std::memcpy(out.data() + 4 * r, &largest, 4);
    for (std::uint64_t c = 0; c < columns && largest > 0; ++c) {
      const float scaled = value(r, c) * (127.0f / largest);
      out[4 * rows + r * columns + c] = static_cast<std::byte>(static_cast<std::int8_t>(std::nearbyint(scaled)));
    }
  }
}

/// What a tensor of an image must be, from what is stored under `name`.
inline byte_list expected(const stored& t, const berth::tensor_form& form) {
  if (form.int8) {
    byte_list out;
    quantize(t, form.by_column, out);
    return out;
  }
  if (form.type == t.type) return t.data;
  byte_list out;
  if (t.type == berth::dtype::bf16 && form.type == berth::dtype::f32)
    for (std::size_t i = 0; i < t.data.size(); i += 2) {
      for (int k = 0; k < 2; ++k) out.push_back(std::byte{0});  // bf16 is the upper half of f32
      out.push_back(t.data[i]);
      out.push_back(t.data[i + 1]);
    }
  return out;
}

struct place_wish {
  std::vector<std::pair<std::string, std::string>> map;  ///< name and device
  berth::precision how{};
  berth::workload workload{256, 1, 16, 8, berth::objective::latency};
  std::uint32_t slots = 2;
  berth::bytes gpu = 64 * berth::MiB;
};

/// GPUs "0" and "1", a CPU, a disk, all linked.
inline berth::topology machine(berth::bytes gpu) {
  auto t = *berth::preset("2x3090");
  for (auto& d : t.devices)
    if (d.kind == berth::device_kind::gpu) d.memory = d.free = gpu;
  return t;
}

/// A model, a plan for it, its programs, its images, and the storage that serves them.
struct job {
  berth::loaded_model model;
  berth::plan plan;
  berth::compiled_plan programs;
  berth::weight_images images;
};

inline berth::result<std::unique_ptr<job>> make_job(const std::string& path, const place_wish& wish) {
  auto model = berth::load_model(path);
  if (!model) return model.propagate();
  const auto sizes = berth::apply_precision(model->tree(), model->sizes, wish.how);
  if (!sizes) return sizes.propagate();
  berth::derive_options derive;
  std::vector<berth::map_entry> map;
  for (const auto& [name, device] : wish.map) {
    map.push_back({name, berth::device_id(device)});
    if (!name.empty()) derive.split_at.push_back(name);
  }
  auto chain = berth::derive_model(model->tree(), *sizes, derive);
  const auto& a = model->architecture;
  if (auto ok = berth::cost_model(chain, model->tree(), *sizes, {a.hidden, a.vocabulary, a.layers}, wish.workload); !ok)
    return ok.propagate();
  berth::place_options o;
  o.workload = wish.workload;
  o.use_disk = true;
  o.staging_slots = wish.slots;
  o.certify = false;
  auto plan = berth::place_fn(berth::Manual{map})(chain, machine(wish.gpu), o);
  if (!plan) return plan.propagate();
  auto programs = berth::compile_all(*plan);
  if (!programs) return programs.propagate();
  auto sources = berth::sources_of(*model);
  if (!sources) return sources.propagate();
  auto images = berth::make_images(*plan, model->tree(), model->sizes, wish.how, *std::move(sources));
  if (!images) return images.propagate();
  return std::unique_ptr<job>(new job{*std::move(model), *std::move(plan), *std::move(programs), *std::move(images)});
}

inline std::string words_of(const berth::error& e) {
  return std::string(berth::name_of(e.code)) + ": " + std::string(e.subject.view()) + ": " +
         std::string(e.detail.view());
}

/// The name under which a tensor of the tree is stored: its own, or that of the tensor it is tied to.
inline const stored* stored_of(const checkpoint& c, const job& j, const std::string& name) {
  if (const auto found = c.tensors.find(name); found != c.tensors.end()) return &found->second;
  for (const auto& [target, source] : j.model.tree().tied_weights_keys)
    if (target == name)
      if (const auto found = c.tensors.find(source); found != c.tensors.end()) return &found->second;
  if (name == "lm_head.weight") return &c.tensors.at("model.embed_tokens.weight");
  return nullptr;
}

/// Compares all memory that a load filled; "" if it is right, else what is wrong first.
template <class Machine>
std::string wrong_in(const checkpoint& c, const job& j, Machine& m, const berth::frame_handles& h) {
  std::size_t compared = 0;
  for (const auto& op : j.programs.load.operations) {
    if (op.kind != berth::op_kind::read) continue;
    const auto* memory = m.address(h.buffers[op.to.buffer]) + op.to.offset;
    for (const auto& t : j.images.of(op.atom)) {
      if (t.offset >= op.to.size) continue;
      const std::string name(t.name);
      byte_list want(t.size);
      if (t.stored) {
        const auto* from = stored_of(c, j, name);
        if (from == nullptr) return name + " is not in the checkpoint";
        want = expected(*from, t.form);
      }
      if (want.size() != t.size) return name + " has another size than worked out here";
      if (std::memcmp(want.data(), memory + t.offset, want.size()) != 0) return name + " has wrong bytes";
      compared += want.size();
    }
  }
  return compared == 0 ? "nothing was loaded" : "";
}

}  // namespace load_test
