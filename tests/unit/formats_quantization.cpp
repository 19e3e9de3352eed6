// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

import berth.formats;

using berth::dtype;
using berth::expression_match;
using berth::weight_encoding;
using berth::weight_format;

namespace {

berth::quantization quantization_of(std::string_view config) {
  const auto document = berth::json::parse(config, "config");
  BOOST_REQUIRE(document.has_value());
  const auto q = berth::read_quantization(&*document, nullptr, "config");
  BOOST_REQUIRE(q.has_value() && q->has_value());
  return **q;
}

/// embed [8, 64] tied or not, one block with a Linear [128, 64], head [8, 64]; all f16.
berth::module_tree tree() {
  berth::tree_builder b("M");
  b.tree().output_embedding = "lm_head";
  b.enter("embed", "Embedding");
  b.parameter("weight", dtype::f16, {8, 64});
  b.leave();
  b.enter("layers", "ModuleList");
  b.enter("0", "Block");
  b.enter("fc", "Linear");
  b.parameter("weight", dtype::f16, {128, 64});
  b.leave();
  b.enter("norm", "Norm");
  b.parameter("weight", dtype::f16, {64});
  b.leave();
  b.leave();
  b.leave();
  b.enter("lm_head", "Linear");
  b.parameter("weight", dtype::f16, {8, 64});
  b.leave();
  auto t = b.finish();
  BOOST_REQUIRE(t.has_value());
  return *std::move(t);
}

constexpr std::uint64_t rest = 8 * 64 * 2 + 64 * 2;  // embedding and norm

std::uint64_t total(std::string_view config) {
  const auto sizes = berth::quantized_sizes(tree(), quantization_of(config));
  BOOST_REQUIRE(sizes.has_value());
  return sizes->total;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(quantizations)

BOOST_AUTO_TEST_CASE(the_head_stays_unless_a_list_says_otherwise) {
  BOOST_TEST(total(R"({"quantization_config":{"quant_method":"bitsandbytes","load_in_8bit":true}})") ==
             rest + 128 * 64 + 4 * 128 + 1 + 8 * 64 * 2);
  BOOST_TEST(total(R"({"quantization_config":{"load_in_8bit":true,"llm_int8_skip_modules":["layers.0"]}})") ==
             rest + 128 * 64 * 2 + 8 * 64 + 4 * 8 + 1);
}

BOOST_AUTO_TEST_CASE(sizes_of_one_linear_follow_the_methods_layout) {
  const std::uint64_t out = 256, in = 512, n = out * in;
  const auto size = [&](weight_format f) { return berth::encoded_bytes(f, out, in, 2, false).value_or(0); };
  BOOST_TEST(size({.encoding = weight_encoding::bnb_int8}) == n + 4 * out + 1);
  BOOST_TEST(size({.encoding = weight_encoding::bnb_4bit}) == n / 2 + n / 64 * 4);
  BOOST_TEST(size({.encoding = weight_encoding::bnb_4bit, .double_quantized = true}) ==
             n / 2 + n / 64 + n / 64 / 256 * 4);
  BOOST_TEST(size({.encoding = weight_encoding::gptq, .bits = 4, .group = 128}) ==
             n / 2 + n / 128 * 2 + n / 128 / 2 + 4 * in + 2 * out);
  BOOST_TEST(size({.encoding = weight_encoding::awq, .bits = 4, .group = 128}) == n / 2 + n / 128 * 2 + n / 128 / 2);
  BOOST_TEST(size({.encoding = weight_encoding::fp8, .block_out = 128, .block_in = 128}) == n + 4 * 2 * 4);
  BOOST_TEST(size({.encoding = weight_encoding::fp8, .activation_scales = 1}) == n + 8);
  BOOST_TEST(size({.encoding = weight_encoding::mxfp4}) == n * 17 / 32);
  BOOST_TEST(size({.encoding = weight_encoding::nvfp4, .group = 16}) == n / 2 + n / 16 + 4);
  BOOST_TEST(size({.encoding = weight_encoding::int_grouped, .bits = 4, .group = 32, .packed = true}) ==
             n / 2 + n / 32 * 2 + 16);
  BOOST_TEST(size({.encoding = weight_encoding::mlx, .bits = 3, .group = 64}) == n * 3 / 8 + n / 64 * 4);
  BOOST_TEST(!berth::encoded_bytes({.encoding = weight_encoding::unknown}, out, in, 2, false).has_value());
}

BOOST_AUTO_TEST_CASE(blocks_are_found_wherever_configs_keep_them) {
  BOOST_TEST(quantization_of(R"({"text_config":{"quantization_config":{"quant_method":"mxfp4"}}})").source ==
             "text_config.quantization_config");
  const auto mlx = quantization_of(R"({"quantization":{"bits":4,"group_size":64,"a.b":{"bits":8,"group_size":32}}})");
  BOOST_TEST(mlx.method == "mlx");
  BOOST_REQUIRE_EQUAL(mlx.overrides.size(), 1u);
  BOOST_TEST(mlx.overrides[0].second.bits == 8u);
  const auto plain = berth::json::parse(R"({"quantization_config":null})", "config");
  BOOST_TEST(!berth::read_quantization(&*plain, nullptr, "config")->has_value());
  const auto wrong = berth::json::parse(R"({"quantization_config":7})", "config");
  BOOST_TEST(!berth::read_quantization(&*wrong, nullptr, "config").has_value());
  const auto document = berth::json::parse(
      R"({"quantization":{"quant_algo":"NVFP4","kv_cache_quant_algo":"FP8","exclude_modules":["lm_head","*norm*"]}})",
      "");
  const auto q = berth::read_quantization(nullptr, &*document, "hf_quant_config.json");
  BOOST_REQUIRE(q.has_value() && q->has_value());
  BOOST_TEST(((*q)->format.encoding == weight_encoding::nvfp4));
  BOOST_TEST((*q)->kv_cache_bits.value_or(0) == 8u);
}

BOOST_AUTO_TEST_CASE(mixed_precision_converts_what_it_lists) {
  const auto sizes =
      berth::quantized_sizes(tree(), quantization_of(R"({"quantization_config":{"quant_method":"modelopt",
      "quant_algo":"MIXED_PRECISION","quantized_layers":{"layers.0.fc":{"quant_algo":"FP8"}}}})"));
  BOOST_REQUIRE(sizes.has_value());
  BOOST_REQUIRE_EQUAL(sizes->converted.size(), 1u);
  BOOST_TEST(sizes->converted[0] == "layers.0.fc.weight");
  BOOST_TEST(sizes->total == rest + 128 * 64 + 8 + 8 * 64 * 2);
}

BOOST_AUTO_TEST_CASE(an_unknown_method_is_refused_not_guessed) {
  const auto q = quantization_of(R"({"quantization_config":{"quant_method":"brand_new"}})");
  BOOST_TEST(q.warnings.size() == 1u);
  const auto sizes = berth::quantized_sizes(tree(), q);
  BOOST_REQUIRE(!sizes.has_value());
  BOOST_TEST((sizes.error().code == berth::errc::unsupported));
}

BOOST_AUTO_TEST_CASE(wildcards_match_whole_names) {
  BOOST_TEST(berth::matches_wildcard("model.layers.*.self_attn*", "model.layers.11.self_attn.q_proj"));
  BOOST_TEST(!berth::matches_wildcard("model.layers.1", "model.layers.11"));
  BOOST_TEST(berth::matches_wildcard("*", ""));
  BOOST_TEST(!berth::matches_wildcard(std::string(200, '*') + "x", std::string(5000, 'a')));
}

BOOST_AUTO_TEST_CASE(expressions_match_at_the_start) {
  const auto yes = expression_match::yes, no = expression_match::no;
  BOOST_TEST((berth::matches_expression(R"(.*mlp\.gate$)", "model.layers.3.mlp.gate") == yes));
  BOOST_TEST((berth::matches_expression(R"(.*mlp\.gate$)", "model.layers.3.mlp.gate_proj") == no));
  BOOST_TEST((berth::matches_expression(R"(model\.layers\.(0|1|2)\..*)", "model.layers.2.x") == yes));
  BOOST_TEST((berth::matches_expression(R"(model\.layers\.(0|1|2)\..*)", "model.layers.3.x") == no));
  BOOST_TEST((berth::matches_expression(R"(^layers\.[0-9]+\.(?:q|k)_proj$)", "layers.12.k_proj") == yes));
  BOOST_TEST((berth::matches_expression("a|b|c", "cx") == yes));
  BOOST_TEST((berth::matches_expression("(a|b)*c?d", "abbad") == yes));
  BOOST_TEST((berth::matches_expression("x+y", "y") == no));
  BOOST_TEST((berth::matches_expression("lm_head", "model.lm_head") == no));
  for (const auto* pattern : {"(?!a)b", R"((a)\1)", "a{2}", "(a", "a)", "[a", "*a", R"(\)"})
    BOOST_TEST((berth::matches_expression(pattern, "a") == expression_match::not_supported), pattern);
  // No backtracking: this takes exponential time in engines that do.
  BOOST_TEST((berth::matches_expression("(a*)*(a*)*(a*)*b", std::string(2000, 'a')) == no));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(dtype_rule)

BOOST_AUTO_TEST_CASE(config_then_index_then_float32) {
  const auto config = berth::json::parse(R"({"torch_dtype":"bfloat16"})", "config");
  const auto nested = berth::json::parse(R"({"text_config":{"dtype":"float16"}})", "config");
  BOOST_TEST((berth::checkpoint_dtype(&*config, std::nullopt, 100).type == dtype::bf16));
  BOOST_TEST((berth::checkpoint_dtype(&*nested, 200, 100).type == dtype::f16));
  const auto overruled = berth::checkpoint_dtype(&*config, 401, 100);
  BOOST_TEST((overruled.type == dtype::f32));
  BOOST_TEST((overruled.contradicted == dtype::bf16));
  BOOST_TEST((berth::checkpoint_dtype(&*config, 0, 100).type == dtype::bf16));
  BOOST_TEST((berth::checkpoint_dtype(nullptr, 203, 100).type == dtype::bf16));
  BOOST_TEST((berth::checkpoint_dtype(nullptr, std::nullopt, 100).type == dtype::f32));
}

BOOST_AUTO_TEST_SUITE_END()
