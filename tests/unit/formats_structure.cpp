// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

import berth.formats;

namespace {

std::vector<berth::stored_tensor> tensors(const std::vector<std::string>& names) {
  std::vector<berth::stored_tensor> out;
  for (const auto& n : names) {
    berth::stored_tensor t;
    t.name = n;
    t.type = berth::dtype::bf16;
    t.shape = n.find("norm") != std::string::npos ? std::vector<std::uint64_t>{4} : std::vector<std::uint64_t>{4, 4};
    t.length = n.find("norm") != std::string::npos ? 8 : 32;
    out.push_back(std::move(t));
  }
  return out;
}

std::vector<std::string> blocks(const berth::module_tree& tree) {
  std::vector<std::string> out;
  for (const auto& m : tree.modules())
    if (m.class_name == berth::structural_block) out.push_back(m.name);
  return out;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(structure)

BOOST_AUTO_TEST_CASE(repeated_siblings_become_blocks_in_natural_order) {
  std::vector<std::string> names{"lm_head.weight", "norm.weight", "embed.weight"};
  for (int i = 0; i < 12; ++i)
    for (const auto* part : {"attn.weight", "norm.weight", "mlp.experts.0.weight", "mlp.experts.1.weight"})
      names.push_back("layers." + std::to_string(i) + "." + part);
  const auto tree = berth::tree_from_names(tensors(names), "test");
  BOOST_REQUIRE(tree.has_value());
  const auto found = blocks(*tree);
  BOOST_REQUIRE_EQUAL(found.size(), 12u);
  BOOST_TEST(found[10] == "layers.10");
  BOOST_TEST(tree->no_split_modules == std::vector<std::string>{"Block"});
  BOOST_TEST(tree->parameters().front().name == "embed.weight");
  BOOST_TEST(tree->parameters().back().name == "lm_head.weight");
  BOOST_TEST(tree->byte_total() == 2u * 32 + 8 + 12 * (3 * 32 + 8));
}

BOOST_AUTO_TEST_CASE(every_stack_of_a_model_has_its_blocks) {
  std::vector<std::string> names;
  for (int i = 0; i < 3; ++i) {
    names.push_back("decoder.block." + std::to_string(i) + ".cross.weight");
    names.push_back("decoder.block." + std::to_string(i) + ".self.weight");
    names.push_back("encoder.block." + std::to_string(i) + ".self.weight");
  }
  // Stages differ from one another; the blocks inside repeat.
  for (int s = 0; s < 2; ++s)
    for (int i = 0; i < 4 + s; ++i)
      names.push_back("vision.stages." + std::to_string(s) + ".blocks." + std::to_string(i) + ".conv.weight");
  const auto tree = berth::tree_from_names(tensors(names), "test");
  BOOST_REQUIRE(tree.has_value());
  const auto found = blocks(*tree);
  BOOST_TEST(found.size() == 3u + 3 + 9);
  BOOST_TEST((std::ranges::find(found, "encoder.block.0") < std::ranges::find(found, "decoder.block.0")));
  BOOST_TEST((std::ranges::find(found, "vision.stages.1.blocks.4") != found.end()));
}

BOOST_AUTO_TEST_CASE(names_that_continue_a_tensor_stay_beside_it) {
  const auto tree = berth::tree_from_names(tensors({"a.weight", "a.weight.absmax"}), "test");
  BOOST_REQUIRE(tree.has_value());
  BOOST_TEST(tree->parameters().size() == 2u);
  BOOST_TEST(tree->find_tensor("a.weight.absmax") != nullptr);
}

BOOST_AUTO_TEST_CASE(impossible_names_are_refused) {
  BOOST_TEST(!berth::tree_from_names(tensors({"a..b"}), "test").has_value());
  BOOST_TEST(!berth::tree_from_names(tensors({""}), "test").has_value());
  BOOST_TEST(!berth::tree_from_names(tensors({"a", "a"}), "test").has_value());
  BOOST_TEST(!berth::tree_from_names(tensors({std::string(100000, '.')}), "test").has_value());
  BOOST_TEST(!berth::tree_from_names({}, "test").has_value());
}

BOOST_AUTO_TEST_SUITE_END()
