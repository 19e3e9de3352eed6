// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

import berth.formats;

using berth::dtype;
using berth::slice;

namespace {

/// A mixture with two experts under "model", and a head.
berth::module_tree mixture(std::string_view model_type, bool interleaved = false) {
  berth::tree_builder b("M");
  b.tree().model_type = model_type;
  b.enter("model", "Model");
  b.enter("embed_tokens", "Embedding");
  b.parameter("weight", dtype::bf16, {10, 4});
  b.leave();
  b.enter("layers", "ModuleList");
  b.enter("0", "Layer");
  b.enter("mlp", "Moe");
  b.enter("gate", "Router");
  b.parameter("weight", dtype::bf16, {2, 4});
  b.leave();
  b.enter("experts", "Experts");
  b.parameter("gate_up_proj", dtype::bf16,
              interleaved ? std::vector<std::uint64_t>{2, 4, 6} : std::vector<std::uint64_t>{2, 6, 4});
  b.parameter("down_proj", dtype::bf16, {2, 4, 3});
  b.leave();
  b.leave();
  b.leave();
  b.leave();
  b.leave();
  b.enter("lm_head", "Linear");
  b.parameter("weight", dtype::bf16, {10, 4});
  b.leave();
  auto tree = b.finish();
  BOOST_REQUIRE(tree.has_value());
  return *std::move(tree);
}

berth::name_map map_of(const berth::module_tree& tree, const std::vector<std::string>& names) {
  std::vector<berth::stored_name> stored;
  for (const auto& n : names) stored.push_back({n, std::nullopt});
  return berth::map_names(tree, stored);
}

const berth::conversion* find(const berth::name_map& m, std::string_view stored) {
  const auto it = std::ranges::find(m.conversions, stored, &berth::conversion::stored);
  return it == m.conversions.end() ? nullptr : &*it;
}

std::vector<std::string> saved_names(const berth::module_tree& tree) {
  std::vector<std::string> out;
  for (const auto& s : berth::saved_tensors(tree)) out.push_back(s.from.stored);
  return out;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(conversions)

BOOST_AUTO_TEST_CASE(experts_stored_one_by_one_fill_their_slice) {
  const auto tree = mixture("mixtral");
  const auto map = map_of(tree, saved_names(tree));
  BOOST_TEST(map.missing.empty());
  BOOST_TEST(map.unexpected.empty());
  const auto* up = find(map, "model.layers.0.block_sparse_moe.experts.1.w3.weight");
  BOOST_REQUIRE(up != nullptr);
  BOOST_TEST(up->tensor == "model.layers.0.mlp.experts.gate_up_proj");
  BOOST_TEST((up->range == std::vector<slice>{{1, 2, 1}, {3, 6, 1}, {0, 4, 1}}));
}

BOOST_AUTO_TEST_CASE(what_is_saved_is_read_back_for_every_spelling) {
  for (const auto* type : {"mixtral", "qwen3_moe", "deepseek_v3", "nemotron_h", "phimoe", "llama"}) {
    const auto tree = mixture(type);
    const auto map = map_of(tree, saved_names(tree));
    BOOST_TEST(map.missing.empty(), type);
    BOOST_TEST(map.unexpected.empty(), type);
    BOOST_TEST(map.conversions.size() == saved_names(tree).size(), type);
  }
}

BOOST_AUTO_TEST_CASE(separate_stacks_fill_an_interleaved_one_with_a_step) {
  const auto tree = mixture("gpt_oss", true);
  const auto map = map_of(tree, {"model.layers.0.mlp.experts.gate_proj", "model.layers.0.mlp.experts.up_proj"});
  const auto* up = find(map, "model.layers.0.mlp.experts.up_proj");
  BOOST_REQUIRE(up != nullptr);
  BOOST_TEST((up->range == std::vector<slice>{{0, 2, 1}, {0, 4, 1}, {1, 6, 2}}));
}

BOOST_AUTO_TEST_CASE(the_shape_tells_which_way_round_a_stack_is_stored) {
  const auto tree = mixture("qwen3_vl_moe");
  const std::vector<std::uint64_t> same{2, 6, 4}, swapped{2, 4, 6}, wrong{3, 6, 4};
  const auto one = [&](const std::vector<std::uint64_t>& shape) {
    const berth::stored_name s{"model.layers.0.mlp.experts.gate_up_proj", std::span(shape)};
    return berth::map_names(tree, {&s, 1});
  };
  BOOST_TEST(!one(same).conversions[0].transposed);
  BOOST_TEST(one(swapped).conversions[0].transposed);
  BOOST_TEST(one(wrong).mismatched.size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_base_prefix_may_be_missing_or_extra) {
  const auto tree = mixture("qwen3_moe");
  const auto without = map_of(tree, {"embed_tokens.weight", "layers.0.mlp.gate.weight"});
  BOOST_REQUIRE(find(without, "embed_tokens.weight") != nullptr);
  BOOST_TEST(find(without, "embed_tokens.weight")->tensor == "model.embed_tokens.weight");
  const auto extra = map_of(tree, {"base.model.embed_tokens.weight", "base.lm_head.weight"});
  BOOST_TEST(extra.unexpected.empty());
  // A name that fits exactly keeps its place; the other one is told.
  const auto both = map_of(tree, {"embed_tokens.weight", "model.embed_tokens.weight"});
  BOOST_TEST(both.unexpected.size() == 1u);
  BOOST_TEST(both.unexpected[0] == "embed_tokens.weight");
}

BOOST_AUTO_TEST_CASE(companions_and_ignorable_names_are_sorted_out) {
  const auto tree = mixture("qwen3_moe");
  const auto map = map_of(
      tree, {"model.layers.0.mlp.experts.0.down_proj.weight", "model.layers.0.mlp.experts.0.down_proj.weight_scale_inv",
             "model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.1.eh_proj.weight",
             "model.layers.1.mlp.gate.weight", "mtp.fc.weight", "lm_head.qweight", "lm_head.scales", "lm_head.bias",
             "surprise.weight"});
  BOOST_REQUIRE_EQUAL(map.companions.size(), 4u);
  BOOST_TEST(map.companions[0].tensor == "model.layers.0.mlp.experts.down_proj");
  BOOST_TEST(map.ignored.size() == 4u);
  BOOST_REQUIRE_EQUAL(map.unexpected.size(), 1u);
  BOOST_TEST(map.unexpected[0] == "surprise.weight");
  BOOST_TEST((std::ranges::find(map.missing, "lm_head.weight") == map.missing.end()));
  BOOST_TEST((std::ranges::find(map.missing, "model.layers.0.mlp.experts.down_proj") != map.missing.end()));
}

BOOST_AUTO_TEST_CASE(a_tied_tensor_is_saved_once_and_needs_one_copy) {
  berth::tree_builder b("M");
  b.enter("lm_head", "Linear");
  const auto s = b.parameter("weight", dtype::f32, {4, 2});
  b.leave();
  b.enter("embed", "Embedding");
  b.parameter_again("weight", s);
  b.leave();
  b.tree().tied_weights_keys = {{"lm_head.weight", "embed.weight"}};
  const auto tree = b.finish();
  BOOST_REQUIRE(tree.has_value());
  const auto saved = saved_names(*tree);
  BOOST_REQUIRE_EQUAL(saved.size(), 1u);
  BOOST_TEST(saved[0] == "embed.weight");
  BOOST_TEST(map_of(*tree, {"embed.weight"}).missing.empty());
  BOOST_TEST(map_of(*tree, {"lm_head.weight"}).missing.empty());
}

BOOST_AUTO_TEST_SUITE_END()
