// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

import berth.formats;

namespace fs = std::filesystem;

namespace {

struct folder {
  fs::path path;
  folder() {
    std::string pattern = (fs::temp_directory_path() / "berth-test-XXXXXX").string();
    path = mkdtemp(pattern.data());
  }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;
  ~folder() {
    std::error_code e;
    fs::remove_all(path, e);
  }
  void write(const fs::path& name, std::string_view content) const {
    std::ofstream(path / name, std::ios::binary) << content;
  }
};

/// A tiny Llama: hidden 8, two heads, ffn 16, vocabulary 10, one layer.
std::string config(std::string_view more) {
  return R"({"model_type":"llama","architectures":["LlamaForCausalLM"],"hidden_size":8,"num_attention_heads":2,
"num_key_value_heads":2,"intermediate_size":16,"vocab_size":10,"num_hidden_layers":1,"max_position_embeddings":32)" +
         std::string(more) + "}";
}

using shapes = std::vector<std::pair<std::string, std::vector<std::uint64_t>>>;

shapes llama_tensors(bool head) {
  const std::string l = "model.layers.0.";
  shapes s{{"model.embed_tokens.weight", {10, 8}},  {"model.norm.weight", {8}},
           {l + "input_layernorm.weight", {8}},     {l + "post_attention_layernorm.weight", {8}},
           {l + "self_attn.q_proj.weight", {8, 8}}, {l + "self_attn.k_proj.weight", {8, 8}},
           {l + "self_attn.v_proj.weight", {8, 8}}, {l + "self_attn.o_proj.weight", {8, 8}},
           {l + "mlp.gate_proj.weight", {16, 8}},   {l + "mlp.up_proj.weight", {16, 8}},
           {l + "mlp.down_proj.weight", {8, 16}}};
  if (head) s.emplace_back("lm_head.weight", std::vector<std::uint64_t>{10, 8});
  return s;
}

constexpr std::uint64_t body = 10 * 8 + 3 * 8 + 4 * 64 + 3 * 128;

std::string safetensors(const shapes& list, std::string_view type, std::uint64_t width) {
  std::string header = "{";
  std::uint64_t at = 0;
  for (const auto& [name, shape] : list) {
    std::uint64_t n = width;
    std::string dims;
    for (const auto d : shape) {
      n *= d;
      dims += (dims.empty() ? "" : ",") + std::to_string(d);
    }
    header += (at > 0 ? ",\"" : "\"") + name + "\":{\"dtype\":\"" + std::string(type) + "\",\"shape\":[" + dims +
              "],\"data_offsets\":[" + std::to_string(at) + "," + std::to_string(at + n) + "]}";
    at += n;
  }
  header += "}";
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(std::uint64_t{header.size()} >> (8 * i) & 0xff);
  return out.append(header).append(at, '\0');
}

berth::loaded_model load(const folder& f) {
  auto m = berth::load_model(f.path.string());
  BOOST_REQUIRE_MESSAGE(m.has_value(), (m ? std::string() : std::string(m.error().detail.view())));
  return *std::move(m);
}

std::uint64_t total(const berth::loaded_model& m) {
  std::uint64_t sum = 0;
  std::vector<berth::storage_id> seen;
  for (std::size_t i = 0; i < m.tree().parameters().size(); ++i) {
    const auto s = m.tree().parameters()[i].storage;
    if (std::ranges::find(seen, s) != seen.end()) continue;
    seen.push_back(s);
    sum += m.sizes.parameters[i];
  }
  return sum;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(model_files)

BOOST_AUTO_TEST_CASE(headers_decide_sizes_and_dtype) {
  const folder f;
  f.write("config.json", config(R"(,"torch_dtype":"bfloat16","tie_word_embeddings":false)"));
  f.write("model.safetensors", safetensors(llama_tensors(true), "F32", 4));
  const auto m = load(f);
  BOOST_TEST((m.architecture.how == berth::exactness::exact));
  BOOST_TEST(m.tree().dtype_name == "float32");
  BOOST_TEST(m.dtype_source == "headers");
  BOOST_TEST(total(m) == (body + 80) * 4);
  BOOST_TEST(m.stored_bytes.value_or(0) == (body + 80) * 4);
  BOOST_TEST(m.names.missing.empty());
  BOOST_TEST(m.warnings.size() == 1u);  // the config says otherwise
}

BOOST_AUTO_TEST_CASE(a_head_that_is_not_stored_is_the_embedding) {
  const folder f;
  f.write("config.json", config(R"(,"torch_dtype":"bfloat16","tie_word_embeddings":false)"));
  f.write("model.safetensors", safetensors(llama_tensors(false), "BF16", 2));
  const auto m = load(f);
  BOOST_TEST(m.names.missing.empty());
  BOOST_TEST(m.tree().find_tensor("lm_head.weight")->storage ==
             m.tree().find_tensor("model.embed_tokens.weight")->storage);
  BOOST_TEST(total(m) == body * 2);
  BOOST_TEST(m.tree().element_total() == body);
}

BOOST_AUTO_TEST_CASE(an_index_total_overrules_the_configs_dtype) {
  const folder f;
  f.write("config.json", config(R"(,"torch_dtype":"bfloat16","tie_word_embeddings":false)"));
  std::string map;
  for (const auto& [name, shape] : llama_tensors(true))
    map += (map.empty() ? "\"" : ",\"") + name + "\":\"x.safetensors\"";
  f.write("model.safetensors.index.json",
          "{\"metadata\":{\"total_size\":" + std::to_string((body + 80) * 4) + "},\"weight_map\":{" + map + "}}");
  const auto m = load(f);
  BOOST_TEST(m.tree().dtype_name == "float32");
  BOOST_TEST(m.config_bytes.value_or(0) == (body + 80) * 4);
  BOOST_TEST(m.index_total.value_or(0) == (body + 80) * 4);
  BOOST_TEST(!m.stored_bytes.has_value());
}

BOOST_AUTO_TEST_CASE(unknown_architectures_are_loaded_from_their_headers) {
  const folder f;
  f.write("config.json", R"({"model_type":"nobody_knows_this"})");
  auto tensors = llama_tensors(true);
  tensors.emplace_back("model.layers.1.self_attn.q_proj.weight", std::vector<std::uint64_t>{8, 8});
  f.write("model.safetensors", safetensors(tensors, "BF16", 2));
  const auto m = load(f);
  BOOST_TEST((m.architecture.how == berth::exactness::structural));
  BOOST_TEST(total(m) == (body + 80 + 64) * 2);
  BOOST_TEST(!m.config_bytes.has_value());
  fs::remove(f.path / "model.safetensors");
  const auto without = berth::load_model(f.path.string());
  BOOST_REQUIRE(!without.has_value());
  BOOST_TEST((without.error().code == berth::errc::unknown_architecture));
}

BOOST_AUTO_TEST_CASE(names_that_do_not_fit_the_config_beat_it) {
  const folder f;
  f.write("config.json", config(""));
  f.write("model.safetensors", safetensors({{"tok.w", {10, 8}}, {"blk.0.w", {8, 8}}, {"blk.1.w", {8, 8}}}, "F16", 2));
  const auto m = load(f);
  BOOST_TEST((m.architecture.how == berth::exactness::structural));
  BOOST_TEST(total(m) == (80u + 64 + 64) * 2);
}

BOOST_AUTO_TEST_CASE(companions_count_with_their_weight) {
  const folder f;
  f.write("config.json", config(R"(,"tie_word_embeddings":false,"quantization_config":{"quant_method":"fp8",
"weight_block_size":[128,128]})"));
  auto tensors = llama_tensors(true);
  tensors.emplace_back("model.layers.0.mlp.up_proj.weight_scale_inv", std::vector<std::uint64_t>{1, 1});
  f.write("model.safetensors", safetensors(tensors, "F32", 4));
  const auto m = load(f);
  BOOST_TEST(m.names.companions.size() == 1u);
  BOOST_TEST(total(m) == (body + 80) * 4 + 4);
  BOOST_REQUIRE(m.quantization.has_value());
}

BOOST_AUTO_TEST_CASE(module_trees_and_configs_are_told_apart) {
  const auto tree = berth::load_model_text(
      R"({"format":"berth.module_tree/1","model_type":"m","root":{"class":"M","children":[{"name":"a","class":"Linear",
"parameters":[{"name":"weight","shape":[2,2],"dtype":"float16"}]}]}})",
      "text");
  BOOST_REQUIRE(tree.has_value());
  BOOST_TEST(total(*tree) == 8u);
  BOOST_TEST(!tree->checkpoint.has_value());
  BOOST_TEST(berth::load_model_text(config(""), "text").has_value());
  const auto other = berth::load_model_text(R"({"format":"berth.topology/1"})", "text");
  BOOST_REQUIRE(!other.has_value());
  BOOST_TEST((other.error().code == berth::errc::unknown_format));
  BOOST_TEST(!berth::load_model_text("[]", "text").has_value());
  BOOST_TEST(!berth::load_model_text("", "text").has_value());
}

BOOST_AUTO_TEST_CASE(fingerprints_tell_models_apart_and_do_not_depend_on_files) {
  const folder one, two;
  for (const auto* f : {&one, &two}) f->write("config.json", config(R"(,"tie_word_embeddings":false)"));
  auto tensors = llama_tensors(true);
  one.write("model.safetensors", safetensors(tensors, "F16", 2));
  std::ranges::reverse(tensors);
  two.write("model.safetensors", safetensors(tensors, "F16", 2));
  BOOST_TEST(load(one).fingerprint == load(two).fingerprint);
  two.write("model.safetensors", safetensors(tensors, "F32", 4));
  BOOST_TEST(load(one).fingerprint != load(two).fingerprint);
  one.write("model.safetensors", safetensors(llama_tensors(false), "F32", 4));
  BOOST_TEST(load(one).fingerprint != load(two).fingerprint);
}

BOOST_AUTO_TEST_SUITE_END()
