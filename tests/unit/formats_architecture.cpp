// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

import berth.formats;

using berth::architecture;
using berth::attention_kind;
using berth::dtype;
using berth::errc;
using berth::exactness;

namespace {

berth::result<architecture> build(std::string_view config, berth::architecture_options options = {}) {
  auto parsed = berth::json::parse(config, "config.json", {.max_depth = 64, .allow_nonfinite = true});
  BOOST_REQUIRE(parsed);
  return berth::build_architecture(*parsed, options);
}

architecture built(std::string_view config) {
  auto a = build(config);
  BOOST_REQUIRE_MESSAGE(a, (a ? "" : std::string(a.error().detail.view())));
  return *std::move(a);
}

/// The members of a small config around `more`.
std::string small(std::string_view type, std::string_view more) {
  return std::string(R"({"model_type":")")
      .append(type)
      .append(R"(","vocab_size":96,"hidden_size":32,"intermediate_size":48,"num_hidden_layers":2,)"
              R"("num_attention_heads":4)")
      .append(more)
      .append("}");
}

std::vector<std::uint64_t> shape(const architecture& a, std::string_view name) {
  const auto* t = a.tree.find_tensor(name);
  return t == nullptr ? std::vector<std::uint64_t>{} : t->shape;
}
bool has(const architecture& a, std::string_view name) { return a.tree.find_tensor(name) != nullptr; }
std::string class_of(const architecture& a, std::string_view module) {
  const auto m = a.tree.find_module(module);
  return m ? a.tree.modules()[*m].class_name : std::string();
}
bool same_storage(const architecture& a, std::string_view x, std::string_view y) {
  return a.tree.find_tensor(x)->storage == a.tree.find_tensor(y)->storage;
}
using dims = std::vector<std::uint64_t>;

}  // namespace

BOOST_AUTO_TEST_SUITE(architecture_from_config)

BOOST_AUTO_TEST_CASE(a_decoder_has_the_modules_and_shapes_of_the_framework) {
  const auto a = built(small("llama", R"(,"num_key_value_heads":2,"torch_dtype":"bfloat16")"));
  BOOST_TEST(class_of(a, "") == "LlamaForCausalLM");
  BOOST_TEST(class_of(a, "model.layers.1.self_attn") == "LlamaAttention");
  BOOST_TEST((shape(a, "model.layers.0.self_attn.k_proj.weight") == dims{16, 32}));
  BOOST_TEST((shape(a, "model.rotary_emb.inv_freq") == dims{4}));
  BOOST_TEST(!has(a, "model.layers.0.self_attn.q_proj.bias"));
  BOOST_TEST((a.tree.find_tensor("lm_head.weight")->type == dtype::bf16));
  BOOST_TEST((a.tree.find_tensor("model.rotary_emb.inv_freq")->type == dtype::f32));
  BOOST_TEST(!a.tree.find_tensor("model.rotary_emb.inv_freq")->persistent);
  BOOST_TEST(a.dtype_source == "torch_dtype");
  BOOST_TEST(a.tree.no_split_modules.front() == "LlamaDecoderLayer");
}

BOOST_AUTO_TEST_CASE(options_of_a_family_change_its_tree) {
  const auto biased = built(small("llama", R"(,"attention_bias":true,"mlp_bias":true,"head_dim":16)"));
  BOOST_TEST(has(biased, "model.layers.0.self_attn.o_proj.bias"));
  BOOST_TEST(has(biased, "model.layers.0.mlp.down_proj.bias"));
  BOOST_TEST((shape(biased, "model.layers.0.self_attn.o_proj.weight") == dims{32, 64}));

  const auto serial = built(small("stablelm", R"(,"num_key_value_heads":2,"qk_layernorm":true)"));
  BOOST_TEST(has(serial, "model.layers.0.self_attn.k_layernorm.norms.1.weight"));
  BOOST_TEST(has(serial, "model.layers.0.post_attention_layernorm.weight"));
  const auto parallel = built(small("stablelm", R"(,"num_key_value_heads":2,"use_parallel_residual":true)"));
  BOOST_TEST(!has(parallel, "model.layers.0.post_attention_layernorm.weight"));
}

BOOST_AUTO_TEST_CASE(some_layers_of_a_mixture_are_dense) {
  const auto a = built(small("qwen3_moe", R"(,"num_experts":4,"moe_intermediate_size":24,"num_experts_per_tok":2,
    "decoder_sparse_step":1,"mlp_only_layers":[1],"num_key_value_heads":2,"head_dim":8)"));
  BOOST_TEST((shape(a, "model.layers.0.mlp.experts.gate_up_proj") == dims{4, 48, 32}));
  BOOST_TEST(class_of(a, "model.layers.1.mlp") == "Qwen3MoeMLP");
  BOOST_TEST(a.layers[0].ffn.experts == 4u);
  BOOST_TEST(a.layers[0].ffn.active == 2u);
  BOOST_TEST(a.layers[1].ffn.width == 48u);
}

BOOST_AUTO_TEST_CASE(latent_attention_without_a_query_rank_has_one_query_projection) {
  constexpr std::string_view mla =
      R"(,"q_lora_rank":null,"kv_lora_rank":16,"qk_nope_head_dim":8,"qk_rope_head_dim":4,"v_head_dim":8,
        "n_routed_experts":4,"moe_intermediate_size":24,"first_k_dense_replace":1)";
  const auto a = built(small("deepseek_v3", mla));
  BOOST_TEST((shape(a, "model.layers.0.self_attn.q_proj.weight") == dims{48, 32}));
  BOOST_TEST(!has(a, "model.layers.0.self_attn.q_a_proj.weight"));
  BOOST_TEST(a.tree.find_tensor("model.layers.1.mlp.gate.e_score_correction_bias")->persistent);
  BOOST_TEST((a.layers[0].cache.kind == attention_kind::latent));
  BOOST_TEST(*berth::kv_bytes_per_token(a) == 2u * 20u * 2u);
  BOOST_TEST(*berth::kv_bytes_per_token(a, {.width = {}, .exploit_window = true, .latent = false}) ==
             2u * 4u * (12u + 8u) * 2u);
}

BOOST_AUTO_TEST_CASE(tied_heads_share_the_embedding) {
  const auto tied = built(small("llama", R"(,"tie_word_embeddings":true)"));
  BOOST_TEST(same_storage(tied, "lm_head.weight", "model.embed_tokens.weight"));
  BOOST_TEST(tied.tree.tied_weights_keys.size() == 1u);
  const auto untied = built(small("llama", ""));
  BOOST_TEST(!same_storage(untied, "lm_head.weight", "model.embed_tokens.weight"));
  // Families differ in what a config that is silent means.
  BOOST_TEST(built(small("gemma", "")).tree.tie_word_embeddings);
}

BOOST_AUTO_TEST_CASE(architectures_chooses_the_head) {
  const auto bare = built(small("bert", R"(,"architectures":["BertModel"])"));
  BOOST_TEST(class_of(bare, "") == "BertModel");
  BOOST_TEST(has(bare, "pooler.dense.weight"));
  BOOST_TEST(!bare.tree.output_embedding.has_value());
  const auto masked = built(small("bert", R"(,"architectures":["BertForMaskedLM"])"));
  BOOST_TEST(!has(masked, "bert.pooler.dense.weight"));
  BOOST_TEST(same_storage(masked, "cls.predictions.decoder.bias", "cls.predictions.bias"));
  const auto classifier = built(
      small("llama", R"(,"architectures":["LlamaForSequenceClassification"],"id2label":{"0":"a","1":"b","2":"c"})"));
  BOOST_TEST((shape(classifier, "score.weight") == dims{3, 32}));
  const auto odd = built(small("llama", R"(,"architectures":["MyModel"])"));
  BOOST_TEST(class_of(odd, "") == "LlamaForCausalLM");
  BOOST_TEST(odd.notes.size() == 1u);
}

BOOST_AUTO_TEST_CASE(old_spellings_mean_the_same) {
  const auto old_names = built(R"({"model_type":"RefinedWeb","n_layer":2,"n_head":4,"n_head_kv":2,"hidden_size":32,
    "vocab_size":96,"alibi":false,"bias":false,"parallel_attn":true})");
  const auto new_names = built(R"({"model_type":"falcon","num_hidden_layers":2,"num_attention_heads":4,"num_kv_heads":2,
    "new_decoder_architecture":true,"hidden_size":32,"vocab_size":96,"alibi":false,"bias":false,"parallel_attn":true})");
  BOOST_TEST(old_names.model_type == "falcon");
  BOOST_TEST((old_names.how == exactness::by_count));
  BOOST_TEST(old_names.tree.element_total() == new_names.tree.element_total());

  const auto scaled =
      built(small("phi", R"(,"partial_rotary_factor":0.5,"rope_scaling":{"type":"linear","factor":2})"));
  BOOST_TEST((shape(scaled, "model.rotary_emb.inv_freq") == dims{2}));
}

BOOST_AUTO_TEST_CASE(a_nested_language_model_is_built_by_its_own_type) {
  const auto a = built(R"({"model_type":"llava","text_config":{"model_type":"mistral","vocab_size":96,"hidden_size":32,
    "intermediate_size":48,"num_hidden_layers":1,"num_attention_heads":4,"num_key_value_heads":2,"dtype":"float16"},
    "vision_config":{"hidden_size":16,"intermediate_size":20,"num_hidden_layers":1,"num_attention_heads":2,
    "image_size":28,"patch_size":14}})");
  BOOST_TEST(class_of(a, "model.language_model") == "MistralModel");
  BOOST_TEST((shape(a, "model.multi_modal_projector.linear_1.weight") == dims{32, 16}));
  BOOST_TEST(a.dtype_source == "text_config.dtype");
  BOOST_TEST(a.hidden == 32u);
  BOOST_REQUIRE_EQUAL(a.layers.size(), 2u);
  BOOST_TEST((a.layers[0].cache.kind == attention_kind::uncached));
  BOOST_TEST((a.layers[1].cache.kind == attention_kind::grouped));
  const auto hidden =
      std::find_if(a.quantities.begin(), a.quantities.end(), [](const auto& q) { return q.name == "hidden"; });
  BOOST_TEST(hidden->source == "text_config.hidden_size");
}

BOOST_AUTO_TEST_CASE(windows_and_states_bound_the_cache) {
  const auto a =
      built(small("gemma2", R"(,"num_key_value_heads":2,"head_dim":8,"sliding_window":16,"dtype":"bfloat16")"));
  BOOST_TEST(a.layers[0].cache.window == 16u);
  BOOST_TEST(a.layers[1].cache.window == 0u);
  const std::uint64_t per_token = 2 * (8 + 8) * 2;
  BOOST_TEST(*berth::cache_bytes(a, 64) == per_token * 16 + per_token * 64);
  BOOST_TEST(*berth::cache_bytes(a, 64, {.width = {}, .exploit_window = false, .latent = true}) == 2 * per_token * 64);
  // q8_0: 34 bytes for 32 elements.
  BOOST_TEST(*berth::kv_bytes_per_token(a, {.width = {34, 32}, .exploit_window = true, .latent = true}) == 2u * 34u);

  const auto state = built(R"({"model_type":"mamba","vocab_size":96,"hidden_size":32,"num_hidden_layers":1,"expand":2,
    "state_size":4,"conv_kernel":4,"time_step_rank":"auto"})");
  BOOST_TEST((state.layers[0].cache.kind == attention_kind::recurrent));
  BOOST_TEST(*berth::kv_bytes_per_token(state) == 0u);
  BOOST_TEST(*berth::cache_bytes(state, 1000) == 64u * 4u * 2u + 64u * 4u * 4u);
  BOOST_TEST((shape(state, "backbone.layers.0.mixer.dt_proj.weight") == dims{64, 2}));
}

BOOST_AUTO_TEST_CASE(the_load_dtype_can_be_given) {
  const auto a = build(small("llama", R"(,"dtype":"bfloat16")"), {.what = "config.json", .load = dtype::f16});
  BOOST_REQUIRE(a);
  BOOST_TEST(a->tree.dtype_name == "float16");
  BOOST_TEST(a->dtype_source == "caller");
  BOOST_TEST(built(small("llama", "")).dtype_source == "default");
}

BOOST_AUTO_TEST_CASE(what_no_entry_describes_is_refused_by_name) {
  const auto unknown = build(small("brandnew", ""));
  BOOST_REQUIRE(!unknown);
  BOOST_TEST((unknown.error().code == errc::unknown_architecture));
  BOOST_TEST(unknown.error().subject.view() == "brandnew");
  for (const std::string_view foreign :
       {R"({"dim":2048,"inter_dim":10944,"n_layers":27})", R"({"producer":{},"quantization":{}})",
        R"({"name":"gpt2","model_type":"gpt2","hidden_dim":768,"ffn_embed_dim":3072})", R"([1,2])"}) {
    const auto refused = build(foreign);
    BOOST_REQUIRE(!refused);
    BOOST_TEST((refused.error().code == errc::unknown_format));
  }
  const auto wrapped = build(R"({"model_type":"llama","text_config":{"hidden_size":32}})");
  BOOST_REQUIRE(!wrapped);
  BOOST_TEST((wrapped.error().code == errc::unknown_architecture));
}

BOOST_AUTO_TEST_CASE(impossible_numbers_are_errors_not_crashes) {
  for (const std::string_view bad :
       {R"(,"head_dim":"eight","num_key_value_heads":[2])", R"(,"head_dim":-8)", R"(,"head_dim":0.5)",
        R"(,"head_dim":1e300)", R"(,"hidden_act":"nonsense")", R"(,"torch_dtype":"float99")"}) {
    const auto refused = build(small("llama", bad));
    BOOST_TEST_CONTEXT(bad) { BOOST_TEST(!refused.has_value()); }
  }
  BOOST_TEST((build(R"({"model_type":"llama","num_hidden_layers":1000000000})").error().code == errc::malformed));
  BOOST_TEST((build(R"({"model_type":"llama","num_hidden_layers":100000})").error().code == errc::capacity));
  BOOST_TEST((build(R"({"model_type":"llama","num_attention_heads":0})").error().code == errc::malformed));
  BOOST_TEST((build(R"({"model_type":"llama","vocab_size":1125899906842624,"hidden_size":1048576})").error().code ==
              errc::overflow));
}

BOOST_AUTO_TEST_CASE(every_entry_builds_from_its_defaults) {
  std::set<std::string_view> seen;
  for (const auto& s : berth::support_table()) {
    BOOST_TEST_CONTEXT(s.model_type) {
      BOOST_TEST(seen.insert(s.model_type).second);
      const auto a = build(std::string(R"({"model_type":")").append(s.model_type).append("\"}"));
      BOOST_TEST(a.has_value());
      if (!a) continue;
      BOOST_TEST((a->how == s.how));
      BOOST_TEST(a->model_type == s.builds);
      BOOST_TEST(!a->layers.empty());
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
