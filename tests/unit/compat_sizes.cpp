// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>
#include <map>
#include <string>
#include <vector>

#include "compat_support.hpp"

using namespace compat_test;
using berth::dtype;
using berth::hf::number;

namespace {

std::map<std::string, std::string> table(const hf::module_sizes& sizes) {
  std::map<std::string, std::string> out;
  for (const auto& e : sizes.entries()) out[std::string(e.name)] = e.bytes.text();
  return out;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(compat_sizes)

BOOST_AUTO_TEST_CASE(dtype_sizes_follow_the_digits_of_the_name) {
  const auto size = [](const char* name) {
    const auto n = hf::accelerate::dtype_byte_size(name);
    return n ? n->text() : std::string(n.error().subject.view());
  };
  BOOST_TEST(size("bool") == "0.125");
  BOOST_TEST(size("float16") == "2");
  BOOST_TEST(size("torch.bfloat16") == "2");
  BOOST_TEST(size("float64") == "8");
  BOOST_TEST(size("complex128") == "16");
  BOOST_TEST(size("float8_e5m2") == "1");
  BOOST_TEST(size("float8_e8m0fnu") == "1");
  BOOST_TEST(size("custom.INT2") == "0.25");
  BOOST_TEST(size("custom.INT4") == "0.5");
  BOOST_TEST(size("custom.FP8") == "1");
  BOOST_TEST(size("uint4") == "0");
  BOOST_TEST(size("quint4x2") == "0");
  BOOST_TEST(size("float6_e2m3fn") == "ValueError");
}

BOOST_AUTO_TEST_CASE(sizes_of_modules_and_tensors_of_the_test_model) {
  const auto sizes = table(*hf::accelerate::compute_module_sizes(test_model()));
  BOOST_TEST(sizes.at("") == "236");
  BOOST_TEST(sizes.at("linear1") == "64");
  BOOST_TEST(sizes.at("linear1.weight") == "48");
  BOOST_TEST(sizes.at("linear2") == "100");
  BOOST_TEST(sizes.at("batchnorm") == "72");
  BOOST_TEST(sizes.at("batchnorm.num_batches_tracked") == "8");
  const auto half = table(*hf::accelerate::compute_module_sizes(test_model(), "float16"));
  BOOST_TEST(half.at("") == "122");
  BOOST_TEST(half.at("batchnorm") == "40");
}

BOOST_AUTO_TEST_CASE(a_load_dtype_only_shrinks_and_leaves_integers_alone) {
  berth::tree_builder b("Root");
  b.parameter("half", dtype::f16, {10});
  b.parameter("complex", dtype::c64, {10});
  b.parameter("int", dtype::i32, {10});
  b.parameter("flags", dtype::boolean, {5});
  const auto tree = *b.finish();
  const auto wide = table(*hf::accelerate::compute_module_sizes(tree, "float32"));
  BOOST_TEST(wide.at("half") == "20");
  BOOST_TEST(wide.at("complex") == "40");
  BOOST_TEST(wide.at("int") == "40");
  BOOST_TEST(wide.at("flags") == "0.625");
  BOOST_TEST(wide.at("") == "100.625");
  const auto special = table(*hf::accelerate::compute_module_sizes(tree, "int8", {{"int", "custom.INT4"}}));
  BOOST_TEST(special.at("half") == "10");
  BOOST_TEST(special.at("int") == "5.0");
}

BOOST_AUTO_TEST_CASE(a_shared_tensor_counts_under_its_first_name_only) {
  const auto tree = tree_of("a{w=10} b{w@a.w v=5} c&a");
  const auto sizes = table(*hf::accelerate::compute_module_sizes(tree));
  BOOST_TEST(sizes.at("") == "15");
  BOOST_TEST(sizes.at("a") == "10");
  BOOST_TEST(sizes.at("b") == "5");
  BOOST_TEST(sizes.count("b.w") == 0u);
  BOOST_TEST(sizes.count("c") == 0u);
}

BOOST_AUTO_TEST_CASE(transformers_skips_targets_of_the_tie_table_and_counts_true_widths) {
  berth::tree_builder b("Root");
  b.enter("a", "M");
  b.parameter("w", dtype::boolean, {8});
  b.leave();
  b.enter("b", "M");
  b.parameter("w", dtype::f32, {2});
  b.buffer("n", dtype::i64, {}, false);
  b.leave();
  b.tree().tied_weights_keys = {{"a.w", "b.w"}};
  const auto tree = *b.finish();
  const auto sizes = *hf::transformers::compute_module_sizes(tree);
  const auto all = table(sizes.all);
  BOOST_TEST(all.at("") == "16");
  BOOST_TEST(all.count("a") == 0u);
  BOOST_TEST(sizes.leaf_modules == 1u);
  BOOST_TEST(sizes.leaf_total.text() == "16");
  auto untied = tree;
  untied.tied_weights_keys.clear();
  BOOST_TEST(hf::transformers::compute_module_sizes(untied)->all.total().text() == "24");
}

BOOST_AUTO_TEST_CASE(the_largest_layer_is_a_leaf_or_a_class_kept_whole) {
  const auto tree = tree_of("rb~70 a:Block{w=500 x{w=50} y{w=60}} b{w=60}");
  const auto split = *hf::accelerate::get_max_layer_size(tree, {});
  BOOST_TEST(split.bytes.text() == "70");
  BOOST_TEST(split.names == std::vector<std::string>{"rb"}, boost::test_tools::per_element());
  const auto whole = *hf::accelerate::get_max_layer_size(tree, {"Block"});
  BOOST_TEST(whole.bytes.text() == "610");
  const auto empty = *hf::accelerate::get_max_layer_size(tree_of("a{} b{x{} y{}}"), {});
  const std::vector<std::string> names{"a", "b.x", "b.y"};
  BOOST_TEST(empty.bytes.text() == "0");
  BOOST_TEST(empty.names == names, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(maximum_sizes_use_the_models_own_classes) {
  auto tree = tree_of("a:Block{x{w=50} y{w=60}} b{w=80}");
  tree.no_split_modules = {"Block"};
  const auto sizes = *hf::accelerate::calculate_maximum_sizes(tree);
  BOOST_TEST(sizes.total.text() == "190");
  BOOST_TEST(sizes.largest.bytes.text() == "110");
  BOOST_TEST(sizes.largest.names.front() == "a");
}

BOOST_AUTO_TEST_CASE(ties_are_found_by_identity) {
  const auto found = [](const char* text) {
    std::string s;
    const auto groups = hf::accelerate::find_tied_parameters(tree_of(text));
    for (const auto& group : *groups) {
      s += s.empty() ? "" : " | ";
      for (std::size_t i = 0; i < group.size(); ++i) s.append(i == 0 ? "" : " ").append(group[i]);
    }
    return s;
  };
  BOOST_TEST(found("1{w=4} 2{w=4} 3{w=4}") == "");
  BOOST_TEST(found("1{w=4} 2{w@1.w} 3{w=4} 4{w@1.w}") == "1.w 2.w 4.w");
  BOOST_TEST(found("1{w=4} 2{w=4} 3{w@2.w} 4{w@1.w} 5{w@2.w}") == "1.w 4.w | 2.w 3.w 5.w");
  BOOST_TEST(found("0{weight=4 bias=1} 1&0") == "0.weight 1.weight | 0.bias 1.bias");
  BOOST_TEST(found("x~4 b{y~4}") == "");
}

BOOST_AUTO_TEST_CASE(modules_registered_inside_themselves_are_an_error_not_a_loop) {
  const auto tree = tree_of("a{b{w=1 c&a}}");
  const auto ties = hf::accelerate::find_tied_parameters(tree);
  BOOST_TEST(!ties);
  BOOST_TEST((ties.error().code == berth::errc::peer_failure));
  BOOST_TEST(accelerate_plan(tree, request_of("0=1")) == "RecursionError");
  BOOST_TEST(transformers_plan(tree, request_of("0=1")) == "RecursionError");
}

BOOST_AUTO_TEST_SUITE_END()
