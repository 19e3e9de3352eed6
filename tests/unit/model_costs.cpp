// SPDX-License-Identifier: Apache-2.0
// Costs of atoms against formulas written out by hand. Configs are small, so that every factor can be told apart.
#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

import berth;
import berth.formats;

namespace {

using namespace berth;
namespace fs = std::filesystem;

constexpr std::array<granularity, 3> granularities{granularity::blocks, granularity::parts, granularity::experts};

/// The top of the checkout, from where this file lies.
fs::path checkout() { return fs::path(__FILE__).parent_path().parent_path().parent_path(); }

loaded_model loaded(std::string_view config) {
  auto m = load_model_text(config, "config.json");
  BOOST_REQUIRE_MESSAGE(m, (m ? "" : std::string(m.error().detail.view())));
  return *std::move(m);
}

/// A small config in bf16; `more` starts with a comma.
std::string small(std::string_view type, std::string_view more) {
  return std::string(R"({"model_type":")")
      .append(type)
      .append(R"(","vocab_size":96,"hidden_size":32,"intermediate_size":48,"num_hidden_layers":2,)"
              R"("num_attention_heads":4,"torch_dtype":"bfloat16")")
      .append(more)
      .append("}");
}

model_shape shape_of(const loaded_model& m) {
  return {m.architecture.hidden, m.architecture.vocabulary, m.architecture.layers};
}

struct priced {
  model chain;
  costed facts;

  const atom& at(std::string_view name) const {
    const auto it = std::find_if(chain.atoms().begin(), chain.atoms().end(), [&](auto& a) { return a.name == name; });
    BOOST_REQUIRE_MESSAGE(it != chain.atoms().end(), "no atom " << name);
    return *it;
  }
  double sum(phase p, double phase_work::* what) const {
    double total = 0;
    for (const auto& a : chain.atoms()) total += a.in(p).*what;
    return total;
  }
  bytes state() const {
    bytes total = 0;
    for (const auto& a : chain.atoms()) total += a.state;
    return total;
  }
};

priced price(const loaded_model& m, const workload& w, granularity g = granularity::blocks,
             const tensor_sizes* sizes = nullptr, const cost_options& options = {}) {
  derive_options derive;
  derive.parts = g;
  priced out{derive_model(m.tree(), sizes ? *sizes : m.sizes, derive), {}};
  const auto done = cost_model(out.chain, m.tree(), sizes ? *sizes : m.sizes, shape_of(m), w, options);
  BOOST_REQUIRE_MESSAGE(done, (done ? "" : std::string(done.error().detail.view())));
  out.facts = *done;
  return out;
}

std::vector<std::string> names_of(const priced& p, std::string_view prefix) {
  std::vector<std::string> out;
  for (const auto& a : p.chain.atoms())
    if (a.name.starts_with(prefix)) out.emplace_back(a.name);
  return out;
}

bool close(double a, double b) { return std::abs(a - b) <= 1e-12 * std::max(std::abs(a), std::abs(b)); }

constexpr workload chat{.context = 8192, .batch = 1, .prompt = 512, .generate = 128, .objective = objective::latency};

const char* const qwen2_moe =
    R"(,"num_key_value_heads":2,"num_experts":6,"num_experts_per_tok":2,"moe_intermediate_size":24,
       "shared_expert_intermediate_size":40,"decoder_sparse_step":1)";
const char* const latent =
    R"(,"q_lora_rank":null,"kv_lora_rank":16,"qk_nope_head_dim":8,"qk_rope_head_dim":4,"v_head_dim":8,
       "n_routed_experts":4,"num_experts_per_tok":2,"moe_intermediate_size":24,"first_k_dense_replace":1)";

/// One small config of every shape of block.
std::vector<std::pair<std::string, std::string>> zoo() {
  const auto t5 = R"({"model_type":"t5","d_model":32,"d_kv":16,"d_ff":48,"num_layers":2,"num_heads":4,"vocab_size":96,
                     "n_positions":64,"architectures":["T5ForConditionalGeneration"],"torch_dtype":"float32"})";
  const auto whisper = R"({"model_type":"whisper","d_model":32,"encoder_layers":2,"decoder_layers":2,"vocab_size":96,
      "decoder_attention_heads":4,"encoder_ffn_dim":48,"decoder_ffn_dim":48,"max_source_positions":50,
      "torch_dtype":"float16"})";
  return {{"llama", small("llama", R"(,"num_key_value_heads":2)")},
          {"tied llama", small("llama", R"(,"tie_word_embeddings":true)")},
          {"gemma2", small("gemma2", R"(,"num_key_value_heads":2,"head_dim":16,"sliding_window":64)")},
          {"opt", small("opt", R"(,"ffn_dim":48)")},
          {"falcon", small("falcon", R"(,"new_decoder_architecture":true,"num_kv_heads":2)")},
          {"mixtral", small("mixtral", R"(,"num_local_experts":8,"num_key_value_heads":2)")},
          {"qwen2_moe", small("qwen2_moe", qwen2_moe)},
          {"deepseek_v3", small("deepseek_v3", latent)},
          {"gpt_oss", small("gpt_oss", R"(,"num_local_experts":4,"num_key_value_heads":2)")},
          {"minimax_m1", small("minimax_m1", R"(,"num_local_experts":4,"num_key_value_heads":2)")},
          {"mamba", small("mamba", R"(,"state_size":16)")},
          {"zamba", small("zamba", R"(,"layers_block_type":["mamba","hybrid","mamba","hybrid"])")},
          {"nemotron_h", small("nemotron_h", R"(,"hybrid_override_pattern":"ME*-","mamba_num_heads":4,
            "mamba_head_dim":16,"n_routed_experts":4,"moe_intermediate_size":24)")},
          {"bert", small("bert", R"(,"architectures":["BertForMaskedLM"])")},
          {"t5", t5},
          {"whisper", whisper}};
}

std::string zoo_config(std::string_view name) {
  for (auto& [n, config] : zoo())
    if (n == name) return config;
  return {};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(costs)

BOOST_AUTO_TEST_CASE(llama_3_8b_costs_what_its_formulas_say) {
  const auto m = load_model((checkout() / "examples/models/llama-3-8b/config.json").string());
  BOOST_REQUIRE(m);
  const auto p = price(*m, chat);
  BOOST_TEST(p.facts.state_known);
  BOOST_TEST(p.facts.activation_bytes == 2u);
  // h 4096, 32 heads of 128, 8 KV heads, ffn 14336, vocabulary 128256; seen = 512 + 128 / 2.
  constexpr double matrices = 4096.0 * 4096 * 2 + 2 * 4096.0 * 1024 + 3 * 4096.0 * 14336;
  constexpr bytes block = 2 * (std::uint64_t(matrices) + 2 * 4096);
  const auto& b = p.at("model.layers.7");
  BOOST_TEST(b.weights == block);
  BOOST_TEST(b.state == 2u * 8 * 128 * 2 * 8192);
  BOOST_TEST(p.state() == GiB);
  BOOST_TEST(b.in(phase::decode).flops == 2 * matrices + 4.0 * 32 * 128 * 576);
  BOOST_TEST(b.in(phase::prefill).flops == 2 * matrices * 512 + 4.0 * 32 * 128 * 512 * 512 / 2);
  BOOST_TEST(b.in(phase::decode).touched == double(block) + 576 * 4096.0);
  BOOST_TEST(b.in(phase::prefill).touched == double(block) + 512 * 4096.0);
  BOOST_TEST(b.in(phase::prefill).out == 4096.0 * 2 * 512);
  BOOST_TEST(b.in(phase::decode).out == 4096.0 * 2);
  BOOST_TEST(b.workspace == 2u * 512 * (2 * 4096 + 2 * 14336));
  BOOST_TEST((b.compute == dtype::bf16));
  const auto& embedding = p.at("model.embed_tokens");
  BOOST_TEST(embedding.in(phase::prefill).flops == 0.0);
  BOOST_TEST(embedding.in(phase::prefill).touched == 512 * 8192.0);
  BOOST_TEST(embedding.in(phase::decode).touched == 8192.0);
  BOOST_TEST(embedding.workspace == 2u * 512 * 4096);
  const auto& head = p.at("lm_head");
  BOOST_TEST(head.in(phase::prefill).flops == 2.0 * 128256 * 4096);  // the last position only
  BOOST_TEST(head.in(phase::decode).flops == 2.0 * 128256 * 4096);
  BOOST_TEST(head.in(phase::decode).touched == 2.0 * 128256 * 4096);
  BOOST_TEST(head.workspace == 128256u * 6);
  BOOST_TEST(head.in(phase::decode).out == 8192.0);
  // 2 FLOPs per parameter and token, embedding and norms left out.
  const double used = double(m->tree().element_total()) - 128256.0 * 4096 - 65 * 4096.0;
  BOOST_TEST(close(p.sum(phase::decode, &phase_work::flops), 2 * used + 32 * 4.0 * 4096 * 576));
}

BOOST_AUTO_TEST_CASE(the_batch_multiplies_state_and_products_but_not_weights) {
  const auto m = loaded(small("llama", R"(,"num_key_value_heads":2)"));
  const auto one = price(m, {.context = 64, .batch = 1, .prompt = 16, .generate = 8});
  const auto five = price(m, {.context = 64, .batch = 5, .prompt = 16, .generate = 8});
  const auto name = "model.layers.1";
  BOOST_TEST(five.at(name).state == 5 * one.at(name).state);
  BOOST_TEST(five.at(name).workspace == 5 * one.at(name).workspace);
  for (const auto p : {phase::prefill, phase::decode}) {
    BOOST_TEST(five.at(name).in(p).flops == 5 * one.at(name).in(p).flops);
    const double weights = double(one.at(name).weights);
    BOOST_TEST(five.at(name).in(p).touched - weights == 5 * (one.at(name).in(p).touched - weights));
  }
}

BOOST_AUTO_TEST_CASE(only_the_expected_experts_of_a_mixture_are_touched) {
  const auto m = loaded(small("mixtral", R"(,"num_local_experts":8,"num_key_value_heads":2)"));
  constexpr double attention = 32 * 32 * 2 + 2 * 32 * 16, router = 8 * 32, experts = 8 * 3 * 32 * 48, norms = 64;
  constexpr double state = 2 * 2 * 8 * 2;  // bytes per token
  for (const auto batch : {1u, 4u}) {
    const auto p = price(m, {.context = 64, .batch = batch, .prompt = 16, .generate = 8});
    const auto& b = p.at("model.layers.0");
    const double share = 1 - std::pow(0.75, batch);
    BOOST_TEST(
        close(b.in(phase::decode).touched, 2 * (attention + router + norms + experts * share) + 20 * state * batch));
    BOOST_TEST(b.in(phase::decode).flops == batch * (2 * (attention + router + experts / 4) + 4.0 * 32 * 20));
    const double in_prefill = 1 - std::pow(0.75, 16 * batch);
    BOOST_TEST(close(b.in(phase::prefill).touched,
                     2 * (attention + router + norms + experts * in_prefill) + 16 * state * batch));
    BOOST_TEST(b.workspace == 2u * batch * 16 * (2 * 32 + 2 * 2 * 48));  // two experts per token
  }
}

BOOST_AUTO_TEST_CASE(windows_bound_state_and_attention) {
  const auto m = loaded(small("gemma2", R"(,"num_key_value_heads":2,"head_dim":16,"sliding_window":64)"));
  const workload w{.context = 256, .batch = 1, .prompt = 128, .generate = 32};
  const auto p = price(m, w);
  const auto& local = p.at("model.layers.0");
  const auto& global = p.at("model.layers.1");
  constexpr double token = 2 * 2 * 16 * 2;
  BOOST_TEST(local.state == std::uint64_t(64 * token));
  BOOST_TEST(global.state == std::uint64_t(256 * token));
  // Pairs: 64 * 128 - 64^2 / 2 against 128^2 / 2; decode sees 64 against 144 tokens.
  constexpr double pair = 4.0 * 4 * 16;
  BOOST_TEST(global.in(phase::prefill).flops - local.in(phase::prefill).flops == pair * (8192 - 6144));
  BOOST_TEST(global.in(phase::decode).flops - local.in(phase::decode).flops == pair * (144 - 64));
  BOOST_TEST(global.in(phase::decode).touched - local.in(phase::decode).touched == token * (144 - 64));
  const auto all = price(m, w, granularity::blocks, nullptr, {.cache = {.width = {}, .exploit_window = false}});
  BOOST_TEST(all.at("model.layers.0").state == all.at("model.layers.1").state);
}

BOOST_AUTO_TEST_CASE(latent_attention_keeps_one_vector_and_decodes_on_it) {
  const auto m = loaded(small("deepseek_v3", latent));
  const workload w{.context = 64, .batch = 2, .prompt = 16, .generate = 8};
  const auto p = price(m, w);
  const auto& b = p.at("model.layers.0");  // dense
  BOOST_TEST(b.state == 2u * 64 * 20 * 2);
  constexpr double matrices = 32 * 48 + 32 * 20 + 16 * 64 + 32 * 32 + 3 * 32 * 48;
  BOOST_TEST(b.in(phase::decode).flops == 2 * (2 * matrices + 2.0 * 4 * (20 + 16) * 20));
  BOOST_TEST(b.in(phase::prefill).flops == 2 * (2 * matrices * 16 + 2.0 * 4 * (12 + 8) * 16 * 16 / 2));
  const auto materialised =
      price(m, w, granularity::blocks, nullptr, {.cache = {.width = {}, .exploit_window = true, .latent = false}});
  BOOST_TEST(materialised.at("model.layers.0").state == 2u * 64 * 4 * 20 * 2);
  BOOST_TEST(materialised.at("model.layers.0").in(phase::decode).flops == 2 * (2 * matrices + 2.0 * 4 * 20 * 20));
}

BOOST_AUTO_TEST_CASE(a_recurrent_state_does_not_grow) {
  const auto m = loaded(small("mamba", R"(,"state_size":16)"));
  constexpr bytes state = 64 * 4 * 2 + 64 * 16 * 4;  // convolution window and f32 state
  for (const std::uint64_t context : {64u, 4096u})
    BOOST_TEST(price(m, {.context = context, .batch = 3, .prompt = 16, .generate = 8}).state() == 3 * 2 * state);
  const auto p = price(m, {.context = 64, .batch = 1, .prompt = 16, .generate = 8});
  const auto& b = p.at("backbone.layers.0");
  BOOST_TEST(b.in(phase::decode).touched == double(b.weights) + 2.0 * state);  // read and written
  BOOST_TEST(b.in(phase::prefill).touched == double(b.weights) + double(state));
  constexpr double matrices = 64 * 4 + 32 * 128 + 64 * (2 + 32) + 2 * 64 + 64 * 32;
  BOOST_TEST(b.in(phase::decode).flops == 2 * matrices + 6.0 * 64 * 16);
}

BOOST_AUTO_TEST_CASE(encoders_rest_while_the_decoder_generates) {
  const auto m = loaded(zoo_config("t5"));
  const auto p = price(m, {.context = 64, .batch = 2, .prompt = 16, .generate = 8});
  for (const auto& name : names_of(p, "encoder.")) BOOST_TEST((p.at(name).in(phase::decode) == phase_work{}), name);
  const auto& e = p.at("encoder.block.1");
  BOOST_TEST(e.state == 0u);
  // 4 heads of 16, hidden 32; 64 encoder positions, all of them see all.
  constexpr double attention = 4 * 32 * 64, ffn = 2 * 32 * 48;
  BOOST_TEST(e.in(phase::prefill).flops == 2 * (2 * (attention + ffn) * 64 + 4.0 * 4 * 16 * 64 * 64));
  const auto& d = p.at("decoder.block.1");
  BOOST_TEST(d.state == 2u * (2 * 4 * 16 * 2 * (64 + 64)));
  // Keys and values of the encoder's output are not computed again in decode, and their weights are not read.
  constexpr double crossed = 2 * 32 * 64;
  BOOST_TEST(d.in(phase::decode).flops == 2 * (2 * (2 * attention - crossed + ffn) + 4.0 * 4 * 16 * (20 + 64)));
  BOOST_TEST(d.in(phase::decode).touched == double(d.weights) - 4 * crossed + 2 * 2 * 4 * 16 * 2.0 * (20 + 64));
  BOOST_TEST((p.at("shared").in(phase::prefill) == phase_work{}));
  BOOST_TEST(p.at("encoder.embed_tokens").in(phase::prefill).touched == 96 * 32 * 4.0);  // no more than the table
  BOOST_TEST(p.facts.activation_bytes == 4u);
}

BOOST_AUTO_TEST_CASE(a_vision_tower_has_its_own_width_and_rests_too) {
  const auto m = loaded(R"({"model_type":"qwen2_vl","torch_dtype":"bfloat16","vocab_size":96,"hidden_size":32,
    "intermediate_size":48,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,
    "vision_config":{"depth":2,"embed_dim":16,"num_heads":2,"hidden_size":32}})");
  const auto p = price(m, {.context = 64, .batch = 1, .prompt = 16, .generate = 8});
  const auto towers = names_of(p, "model.visual.");
  BOOST_REQUIRE(!towers.empty());
  for (const auto& name : towers) BOOST_TEST((p.at(name).in(phase::decode) == phase_work{}), name);
  BOOST_TEST(p.at("model.visual.blocks.0").in(phase::prefill).out == 16.0 * 16 * 2);
  BOOST_TEST(p.at("model.language_model.layers.0").in(phase::prefill).out == 16.0 * 32 * 2);
}

BOOST_AUTO_TEST_CASE(a_context_too_small_for_the_workload_is_refused_with_both_numbers) {
  const auto m = loaded(small("llama", ""));
  auto chain = derive_model(m.tree(), m.sizes);
  const workload w{.context = 600, .batch = 1, .prompt = 512, .generate = 128};
  const auto r = cost_model(chain, m.tree(), m.sizes, shape_of(m), w);
  BOOST_REQUIRE(!r);
  BOOST_TEST((r.error().code == errc::invalid_argument));
  const auto words = std::string(r.error().detail.view());
  for (const auto* word : {"512", "128", "640", "600", "at least"})
    BOOST_TEST(words.find(word) != std::string::npos, words);
  BOOST_TEST(!cost_model(chain, m.tree(), m.sizes, shape_of(m), {.context = 0, .batch = 0}));
}

BOOST_AUTO_TEST_CASE(without_a_context_only_weights_count_but_work_is_known) {
  const auto m = loaded(small("llama", ""));
  const auto without = price(m, {.context = 0, .batch = 1, .prompt = 16, .generate = 8});
  const auto with = price(m, {.context = 24, .batch = 1, .prompt = 16, .generate = 8});
  for (std::size_t i = 0; i < with.chain.view().atoms.size(); ++i) {
    const auto& a = without.chain.view().atoms[i];
    BOOST_TEST(a.state + a.workspace == 0u);
    BOOST_TEST((a.work == with.chain.view().atoms[i].work));
  }
}

BOOST_AUTO_TEST_CASE(sizes_beyond_63_bits_are_an_error_that_names_the_atom) {
  const auto m = loaded(small("llama", ""));
  auto chain = derive_model(m.tree(), m.sizes);
  const auto refused = [&](const workload& w, std::string_view subject) {
    const auto r = cost_model(chain, m.tree(), m.sizes, shape_of(m), w);
    BOOST_REQUIRE(!r);
    BOOST_TEST((r.error().code == errc::overflow));
    BOOST_TEST(r.error().subject.view() == subject);
  };
  refused({.context = std::uint64_t{1} << 58, .batch = 1, .prompt = 1, .generate = 1}, "model.layers.0");
  refused({.context = std::uint64_t{1} << 62, .batch = 4, .prompt = 1, .generate = 1}, "workload");
  refused({.context = 0, .batch = 1, .prompt = ~std::uint64_t{0}, .generate = 1}, "workload");
  constexpr auto most = std::uint64_t{1} << 55;  // 128 bytes of state per token fit, 384 of workspace do not
  refused({.context = most, .batch = 1, .prompt = most - 1, .generate = 1}, "model.layers.0");
}

BOOST_AUTO_TEST_CASE(a_quantized_weight_is_multiplied_in_half_precision_and_fp8_stays) {
  const auto m = loaded(small("llama", ""));
  const auto compute = [&](const precision& how) {
    const auto sizes = apply_precision(m.tree(), native_sizes(m.tree()), how);
    BOOST_REQUIRE(sizes);
    const auto p = price(m, chat, granularity::blocks, &*sizes);
    return std::pair(p.at("model.layers.0").compute, p.facts.activation_bytes);
  };
  precision in_int8, in_f32, in_fp8;
  in_int8.int8 = true;
  in_f32.load = dtype::f32;
  in_fp8.load = dtype::f8_e4m3;
  BOOST_TEST((compute({}) == std::pair(dtype::bf16, std::uint64_t{2})));
  BOOST_TEST((compute(in_int8) == std::pair(dtype::bf16, std::uint64_t{2})));
  BOOST_TEST((compute(in_f32) == std::pair(dtype::f32, std::uint64_t{4})));
  BOOST_TEST((compute(in_fp8) == std::pair(dtype::f8_e4m3, std::uint64_t{2})));
  // One f32 scale per block of 128 x 128: each of these matrices is a single block.
  auto blocks = native_sizes(m.tree());
  for (std::size_t i = 0; i < blocks.parameters.size(); ++i)
    if (m.tree().parameters()[i].shape.size() == 2) blocks.parameters[i] = m.tree().parameters()[i].elements + 4;
  BOOST_TEST((price(m, chat, granularity::blocks, &blocks).at("model.layers.0").compute == dtype::f8_e4m3));
}

BOOST_AUTO_TEST_CASE(an_unknown_architecture_still_has_products_and_weights) {
  tree_builder b("Model");
  b.tree().no_split_modules = {"Block"};
  b.enter("tok", "Embedding");
  b.parameter("weight", dtype::bf16, {10, 8});
  b.leave();
  b.enter("block", "Block");
  b.enter("w", "Linear");
  b.parameter("weight", dtype::bf16, {24, 8});
  b.parameter("bias", dtype::bf16, {24});
  b.leave();
  b.enter("packed", "Linear");
  b.parameter("weight", dtype::u8, {96, 1});  // two 4-bit weights per byte
  b.leave();
  b.leave();
  const auto tree = b.finish();
  BOOST_REQUIRE(tree);
  const auto sizes = native_sizes(*tree);
  auto chain = derive_model(*tree, sizes);
  const auto r = cost_model(chain, *tree, sizes, {}, {.context = 64, .batch = 2, .prompt = 16, .generate = 8});
  BOOST_REQUIRE(r);
  BOOST_TEST(!r->state_known);
  const auto& a = chain.atoms()[1];
  BOOST_TEST(a.name == "block");
  BOOST_TEST(a.state + a.workspace == 0u);
  BOOST_TEST(a.in(phase::decode).flops == 2.0 * 2 * (192 + 192));
  BOOST_TEST(a.in(phase::prefill).touched == double(a.weights));
  BOOST_TEST(a.in(phase::decode).out == 2 * 8 * 2.0);  // the width is the embedding's
  BOOST_TEST(chain.atoms()[0].in(phase::decode).touched == 2 * 16.0);
}

BOOST_AUTO_TEST_CASE(the_int8_bound_is_what_rounding_a_row_costs) {
  const std::uint64_t seed = 20260101;
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> value(-3, 3);
  for (int row = 0; row < 200; ++row) {
    std::vector<double> w(64);
    for (auto& x : w) x = value(random);
    double absmax = 0;
    for (const auto x : w) absmax = std::max(absmax, std::abs(x));
    for (const auto x : w) {
      const double back = std::nearbyint(x * 127 / absmax) * absmax / 127;
      BOOST_TEST(std::abs(back - x) <= int8_relative_bound * absmax * (1 + 1e-12), "seed " << seed << " row " << row);
    }
  }
  BOOST_TEST(int8_bound_statement.find("1/254") != std::string_view::npos);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(finer_atoms)

BOOST_AUTO_TEST_CASE(parts_of_a_block_stand_in_the_order_in_which_they_run) {
  const auto p = price(loaded(small("llama", "")), chat, granularity::parts);
  const std::vector<std::string> expected{"model.layers.1.input_layernorm", "model.layers.1.self_attn",
                                          "model.layers.1.post_attention_layernorm", "model.layers.1.mlp"};
  BOOST_TEST(names_of(p, "model.layers.1") == expected, boost::test_tools::per_element());
  // The residual travels beside the activation until the block ends.
  for (std::size_t i = 0; i < expected.size(); ++i)
    BOOST_TEST(p.at(expected[i]).in(phase::decode).out == (i + 1 < expected.size() ? 2 : 1) * 64.0);
  BOOST_TEST(p.at(expected[0]).state == 0u);
  BOOST_TEST(p.at(expected[1]).state == 2u * 32 * 2 * 8192);
  BOOST_TEST(p.at(expected[1]).workspace == 2u * 512 * (64 + 4 * 32));
  BOOST_TEST(p.at(expected[3]).workspace == 2u * 512 * (64 + 2 * 48));
  BOOST_TEST(p.at(expected[3]).in(phase::decode).flops == 2.0 * 3 * 32 * 48);

  const auto opt = price(loaded(small("opt", R"(,"ffn_dim":48)")), chat, granularity::parts);
  const std::vector<std::string> of_opt{"model.decoder.layers.0.self_attn_layer_norm",
                                        "model.decoder.layers.0.self_attn", "model.decoder.layers.0.final_layer_norm",
                                        "model.decoder.layers.0.fc1", "model.decoder.layers.0.fc2"};
  BOOST_TEST(names_of(opt, "model.decoder.layers.0") == of_opt, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_mixture_splits_into_router_experts_and_shared_expert) {
  const auto m = loaded(small("qwen2_moe", qwen2_moe));
  const auto p = price(m, chat, granularity::parts);
  const std::vector<std::string> expected{"model.layers.0.mlp.gate", "model.layers.0.mlp.experts",
                                          "model.layers.0.mlp.shared_expert", "model.layers.0.mlp.shared_expert_gate"};
  BOOST_TEST(names_of(p, "model.layers.0.mlp") == expected, boost::test_tools::per_element());
  const auto& bundle = p.at("model.layers.0.mlp.experts");
  BOOST_TEST(close(bundle.in(phase::decode).touched, double(bundle.weights) / 3));
  BOOST_TEST(close(bundle.in(phase::decode).flops, 2.0 * 2 * 3 * 32 * 24));
  BOOST_TEST(bundle.workspace == 2u * 512 * (64 + 2 * 2 * 24));
  const auto& shared = p.at("model.layers.0.mlp.shared_expert");
  BOOST_TEST(shared.in(phase::decode).touched == double(shared.weights));
  BOOST_TEST(shared.workspace == 2u * 512 * (64 + 2 * 40));
}

BOOST_AUTO_TEST_CASE(stacked_experts_become_slices_and_listed_ones_modules) {
  const auto m = loaded(small("mixtral", R"(,"num_local_experts":8,"num_key_value_heads":2)"));
  const workload w{.context = 64, .batch = 3, .prompt = 16, .generate = 8};
  const auto p = price(m, w, granularity::experts);
  const auto slices = names_of(p, "model.layers.1.mlp.experts");
  BOOST_TEST(slices.size() == 8u);
  for (std::uint32_t e = 0; e < 8; ++e) {
    const auto& a = p.at(slices[e]);
    BOOST_TEST(a.name == "model.layers.1.mlp.experts." + std::to_string(e));
    BOOST_TEST(a.part == e);
    BOOST_TEST(a.parts == 8u);
    BOOST_TEST(a.weights == 2u * 3 * 32 * 48);
    BOOST_TEST(close(a.in(phase::decode).touched, double(a.weights) * (1 - 0.75 * 0.75 * 0.75)));
    BOOST_TEST(a.in(phase::decode).flops == 3 * 2.0 * 3 * 32 * 48 / 4);
    BOOST_TEST(a.workspace == 2u * 3 * 16 * (64 + 2 * 48));
  }
  const auto listed =
      price(loaded(small("minimax_m1", R"(,"num_local_experts":4,"num_key_value_heads":2)")), w, granularity::experts);
  BOOST_TEST(listed.at("model.layers.0.block_sparse_moe.experts.3").parts == 1u);
  BOOST_TEST(close(listed.at("model.layers.0.block_sparse_moe.experts.3").in(phase::decode).touched,
                   2.0 * 3 * 32 * 48 * (1 - 0.5 * 0.5 * 0.5)));
}

BOOST_AUTO_TEST_CASE(a_bundle_that_does_not_divide_or_is_tied_stays_whole) {
  const auto m = loaded(small("mixtral", R"(,"num_local_experts":8,"num_key_value_heads":2)"));
  auto sizes = m.sizes;
  for (std::size_t i = 0; i < sizes.parameters.size(); ++i)
    if (m.tree().parameters()[i].name == "model.layers.0.mlp.experts.down_proj") sizes.parameters[i] += 1;
  const auto p = price(m, chat, granularity::experts, &sizes);
  BOOST_TEST(names_of(p, "model.layers.0.mlp.experts").size() == 1u);
  BOOST_TEST(names_of(p, "model.layers.1.mlp.experts").size() == 8u);

  tree_builder b("Model");
  b.tree().no_split_modules = {"Block"};
  storage_id shared = 0;
  for (const auto* name : {"0", "1"}) {
    b.enter(name, "Block");
    b.enter("experts", "Experts");
    if (name[0] == '0')
      shared = b.parameter("up_proj", dtype::bf16, {4, 8, 8});
    else
      b.parameter_again("up_proj", shared);
    b.leave();
    b.leave();
  }
  const auto tree = b.finish();
  BOOST_REQUIRE(tree);
  derive_options options;
  options.parts = granularity::experts;
  const auto chain = derive_model(*tree, native_sizes(*tree), options);
  BOOST_TEST(chain.atoms().size() == 2u);
  BOOST_TEST(chain.view().ties.size() == 2u);
  BOOST_TEST(total_weights(chain) == 512u);
}

BOOST_AUTO_TEST_CASE(finer_atoms_add_up_to_their_blocks) {
  const std::uint64_t seed = 20260102;
  std::mt19937_64 random(seed);
  for (const auto& [name, config] : zoo()) {
    const auto m = loaded(config);
    const workload w{
        .context = 400, .batch = 1 + random() % 5, .prompt = 1 + random() % 200, .generate = random() % 200};
    BOOST_TEST_CONTEXT(name << ", seed " << seed << ", batch " << w.batch << ", prompt " << w.prompt << ", generate "
                            << w.generate) {
      const auto whole = price(m, w);
      BOOST_TEST(whole.state() == *cache_bytes(m.architecture, 400) * w.batch);
      for (const auto g : {granularity::parts, granularity::experts}) {
        const auto fine = price(m, w, g);
        if (name != "bert") BOOST_TEST(fine.chain.view().atoms.size() > whole.chain.view().atoms.size());
        BOOST_TEST(total_weights(fine.chain) == total_weights(whole.chain));
        BOOST_TEST(fine.state() == whole.state());
        for (const auto p : {phase::prefill, phase::decode})
          for (const auto what : {&phase_work::flops, &phase_work::touched})
            BOOST_TEST(close(fine.sum(p, what), whole.sum(p, what)));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(coarser_atoms_than_blocks_cost_the_same) {
  auto m = loaded(small("qwen2_moe", qwen2_moe));
  const auto blocks = price(m, chat);
  m.architecture.tree.no_split_modules.push_back("Qwen2MoeForCausalLM");
  const auto one = price(m, chat);
  BOOST_REQUIRE(one.chain.atoms().size() == 1u);
  BOOST_TEST(one.state() == blocks.state());
  BOOST_TEST(close(one.sum(phase::decode, &phase_work::flops), blocks.sum(phase::decode, &phase_work::flops)));
  BOOST_TEST(one.chain.view().atoms[0].workspace >= blocks.at("model.layers.0").workspace);
}

BOOST_AUTO_TEST_CASE(keys_of_a_map_may_cut_anywhere) {
  const auto m = loaded(small("llama", ""));
  derive_options options;
  options.split_at = {"model.layers.0.self_attn.v_proj"};
  auto chain = derive_model(m.tree(), m.sizes, options);
  BOOST_REQUIRE(cost_model(chain, m.tree(), m.sizes, shape_of(m), chat));
  bytes state = 0;
  for (const auto& a : chain.atoms()) state += a.state;
  BOOST_TEST(state == *cache_bytes(m.architecture, chat.context));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(real_configs)

namespace {

std::optional<fs::path> data_folder() {
  if (const char* data = std::getenv("BERTH_DATA"); data != nullptr && *data != '\0') return fs::path(data);
  std::error_code ec;
  const auto beside = checkout() / "../shared/data";
  if (fs::is_directory(beside, ec)) return beside;
  return std::nullopt;
}

/// Config files, and folders of checkpoints.
std::vector<fs::path> model_paths(const fs::path& data) {
  std::vector<fs::path> out;
  std::error_code ec;
  for (const auto* folder : {"configs/hf", "configs/extra", "checkpoints", "tiny_models"})
    for (fs::directory_iterator it(data / folder, ec), end; !ec && it != end; it.increment(ec))
      out.push_back(it->path());
  std::sort(out.begin(), out.end());
  return out;
}

bool is_sound(const atom& a) {
  bool sound = a.part < a.parts;
  for (const auto p : {phase::prefill, phase::decode})
    for (const auto value : {a.in(p).flops, a.in(p).touched, a.in(p).out})
      sound = sound && std::isfinite(value) && value >= 0;
  return sound;
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_config_that_can_be_read_can_be_costed) {
  const auto data = data_folder();
  if (!data) {
    BOOST_TEST_MESSAGE("skipped: no data");
    return;
  }
  std::size_t read = 0, known = 0;
  for (const auto& path : model_paths(*data)) {
    const auto m = load_model(path.string());
    if (!m) continue;
    ++read;
    const workload w{.context = 4096, .batch = 3, .prompt = 700, .generate = 300};
    BOOST_TEST_CONTEXT(path.filename().string()) {
      const auto whole = price(*m, w);
      known += whole.facts.state_known ? 1 : 0;
      const auto per_sequence = cache_bytes(m->architecture, w.context);
      BOOST_REQUIRE(per_sequence);
      for (const auto g : granularities) {
        const auto p = price(*m, w, g);
        for (const auto& a : p.chain.view().atoms)
          if (!is_sound(a)) BOOST_ERROR("not a sound cost: " << a.name);
        BOOST_TEST(p.state() == *per_sequence * w.batch);
        BOOST_TEST(total_weights(p.chain) == total_weights(whole.chain));
        for (const auto ph : {phase::prefill, phase::decode})
          for (const auto what : {&phase_work::flops, &phase_work::touched})
            BOOST_TEST(close(p.sum(ph, what), whole.sum(ph, what)));
      }
    }
  }
  BOOST_TEST_MESSAGE(read << " models costed, " << known << " with known state");
  BOOST_TEST(known > 20u);
}

BOOST_AUTO_TEST_SUITE_END()
