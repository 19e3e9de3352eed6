// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>
#include <string>
#include <vector>

#include "compat_support.hpp"

using namespace compat_test;

namespace {

constexpr std::string_view five = "a{w=100} b{w=100} c{w=100} d{w=100} e{w=100}";

std::string five_on(std::string_view memory) { return accelerate_plan(five, memory); }

}  // namespace

BOOST_AUTO_TEST_SUITE(compat_accelerate)

BOOST_AUTO_TEST_CASE(the_first_gpu_and_the_cpu_keep_room_for_the_largest_remaining_layer) {
  BOOST_TEST(five_on("0=500") == "0: a b c d e");
  BOOST_TEST(five_on("0=499") == "0: a b c | disk: d e");
  BOOST_TEST(five_on("0=300,1=200") == "0: a b | 1: c d | disk: e");
  BOOST_TEST(five_on("0=200,1=300") == "0: a | 1: b c d | disk: e");
  BOOST_TEST(five_on("0=250,1=250,cpu=1000") == "0: a | 1: b c | cpu: d e");
  BOOST_TEST(five_on("0=100,1=100,2=100,3=100,4=100") == "1: a | 2: b | 3: c | 4: d | disk: e");
  BOOST_TEST(five_on("0=200,1=100,2=100,3=100") == "0: a | 1: b | 2: c | 3: d | disk: e");
  BOOST_TEST(five_on("0=300,cpu=300") == "0: a b | cpu: c d e");
  BOOST_TEST(five_on("0=300,cpu=200") == "0: a b | cpu: c | disk: d e");
  BOOST_TEST(five_on("cpu=500") == "cpu: a b c d e");
  BOOST_TEST(five_on("cpu=300") == "cpu: a b | disk: c d e");
  BOOST_TEST(five_on("0=199,1=400") == "1: a b c d | disk: e");
  BOOST_TEST(five_on("") == "disk: a b c d e");
  BOOST_TEST(five_on("mps=250,cpu=200") == "cpu: b c | disk: d e | mps: a");
}

BOOST_AUTO_TEST_CASE(the_reserve_shrinks_only_when_all_layers_of_its_size_were_taken) {
  constexpr std::string_view model = "a{w=100} b{w=300} c{w=50} d{w=50}";
  BOOST_TEST(accelerate_plan(model, "0=450,1=300") == "0: a b | 1: c d");
  BOOST_TEST(accelerate_plan(model, "0=500,1=10") == "0: a b c d");
  constexpr std::string_view pair = "a{w=20} b{w=20}";
  BOOST_TEST(accelerate_plan(pair, "0=20,1=20,cpu=100") == "1: a | cpu: b");
  BOOST_TEST(accelerate_plan(pair, "0=39,1=20,cpu=100") == "1: a | cpu: b");
  BOOST_TEST(accelerate_plan(pair, "0=40,1=20,cpu=100") == "0: a b");
}

BOOST_AUTO_TEST_CASE(modules_without_tensors_take_a_place_too) {
  constexpr std::string_view model = "d0{} a{w=20} d1{} b{w=20}";
  BOOST_TEST(accelerate_plan(model, "0=0,1=1000") == "1: a b d0 d1");
  BOOST_TEST(accelerate_plan(model, "0=45,1=0,2=1000") == "0: a b d0 d1");
  BOOST_TEST(accelerate_plan(model, "0=20,1=0,2=1000") == "0: d0 | 2: a b d1");
  BOOST_TEST(accelerate_plan(model, "0=0,cpu=0") == "disk: a b d0 d1");
  BOOST_TEST(accelerate_plan(model, "cpu=20") == "cpu: d0 | disk: a b d1");
  BOOST_TEST(accelerate_plan(model, "cpu=40") == "cpu: a b d0 d1");
}

BOOST_AUTO_TEST_CASE(modules_that_do_not_fit_are_split_into_parameters_and_children) {
  constexpr std::string_view model = "p:P{bias=20 l1{w=40} l2{w=40}} q{bias=20 l1{w=40} l2{w=40}}";
  BOOST_TEST(accelerate_plan(model, "0=140,1=100") == "0: p | 1: q.bias q.l1 q.l2");
  for (const auto* memory : {"0=120,1=200", "0=100,1=200"})
    BOOST_TEST(accelerate_plan(model, memory) == "0: p.bias p.l1 | 1: p.l2 q");
  for (const auto* memory : {"0=160,1=200", "0=180,1=200", "0=199,1=200"})
    BOOST_TEST(accelerate_plan(model, memory) == "0: p q.bias | 1: q.l1 q.l2");
  BOOST_TEST(accelerate_plan(model, "0=130,1=60,2=1000") == "0: p.bias p.l1 | 1: p.l2 q.bias | 2: q.l1 q.l2");
  constexpr std::string_view whole = "p:P{bias=20 l1{w=40} l2{w=40}} q:P{bias=20 l1{w=40} l2{w=40}}";
  BOOST_TEST(accelerate_plan(whole, "0=90,1=90,cpu=1000", {"P"}) == "cpu: p q");
  BOOST_TEST(accelerate_plan(whole, "0=90,1=99,2=120,cpu=1000", {"P"}) == "2: p | cpu: q");
  BOOST_TEST(accelerate_plan(whole, "0=90,1=90,cpu=150", {"P"}) == "disk: p q");
}

BOOST_AUTO_TEST_CASE(the_peers_own_examples) {
  const auto model = test_model();
  for (const auto* memory : {"0=200,1=200", "0=200,1=172,2=200"})
    BOOST_TEST(accelerate_plan(model, request_of(memory)) == "0: linear1 | 1: batchnorm linear2");
  const auto three = test_models_in_sequence(3);
  auto r = request_of("0=500,1=500");
  r.clean_result = true;
  BOOST_TEST(accelerate_plan(three, r) == "0: 0 1.batchnorm 1.linear1 | 1: 1.linear2 2");
  r.no_split = {"ModelForTest"};
  BOOST_TEST(accelerate_plan(three, r) == "0: 0 | 1: 1 2");
}

BOOST_AUTO_TEST_CASE(tied_modules_are_placed_together) {
  constexpr std::string_view model = "emb{w=100} l1{w=200} l2{w=200} l3{w=200} head{w@emb.w}";
  BOOST_TEST(accelerate_plan(model, "0=700") == "0: emb head l1 l2 l3");
  BOOST_TEST(accelerate_plan(model, "0=500,1=400") == "0: emb head l1 | 1: l2 l3");
  BOOST_TEST(accelerate_plan(model, "0=300,1=600") == "0: emb head | 1: l1 l2 l3");
  BOOST_TEST(accelerate_plan(model, "0=299,1=700") == "1: emb head l1 l2 l3");
}

BOOST_AUTO_TEST_CASE(a_tied_owner_that_is_too_large_is_split) {
  // linear2 of layer3 follows that of layer1; the rest of layer3 stays where it is.
  constexpr std::string_view model =
      "layer1{l1{w=64} bn{w=72} l2{w=80 b=20}} layer2{l1{w=64} bn{w=72} l2{w=80 b=20}}"
      "layer3{l1{w=64} bn{w=72} l2{w@layer1.l2.w b=20}}";
  auto r = request_of("0=400,1=500");
  r.clean_result = true;
  BOOST_TEST(accelerate_plan(tree_of(model), r) == "0: layer1 layer3.l2 | 1: layer2 layer3.bn layer3.l1");
}

BOOST_AUTO_TEST_CASE(a_parameter_with_the_name_of_a_module_is_outside_it) {
  const auto map = accelerate_plan("compute{weight=96 bias=32 weight_submodule{w@compute.weight}}", "0=4,cpu=96000");
  BOOST_TEST(!map.ends_with("Error"));
}

BOOST_AUTO_TEST_CASE(root_tensors_come_before_and_after_the_children) {
  constexpr std::string_view model = "rb~100 a{w=100} b{w=100}";
  BOOST_TEST(accelerate_plan(model, "0=300") == "0: a b rb");
  BOOST_TEST(accelerate_plan(model, "0=299,1=1000") == "0: a | 1: b rb");
  BOOST_TEST(accelerate_plan(model, "0=200,1=1000") == "0: a | 1: b rb");
}

BOOST_AUTO_TEST_CASE(what_did_not_fit_is_reported_per_untouched_device) {
  auto r = request_of("0=100,1=50,cpu=1000");
  const auto out = hf::accelerate::infer_auto_device_map(tree_of("a{w=300} b{w=40}"), r);
  BOOST_TEST(text_of(*out.map) == "cpu: a b");
  BOOST_TEST(text_of(out.min_needed) == "0=340,1=300");
  BOOST_TEST(text_of(out.placed) == "0=0,1=0,cpu=340,disk=0");
}

// Defects of the peer, by their numbers in the description.

BOOST_AUTO_TEST_CASE(q1_names_that_are_substrings_of_others_crash) {
  BOOST_TEST(accelerate_plan("0{w=1} 1{w=1} 10{w=1} 3{w@10.w}", "0=100") == "IndexError");
  const auto out = hf::accelerate::infer_auto_device_map(tree_of("0{w=1} 10{w=1} 3{w@10.w}"), request_of("0=100"));
  BOOST_TEST((out.error->code == berth::errc::peer_failure));
  BOOST_TEST(out.error->detail.view().find("crash") != std::string_view::npos);
  BOOST_TEST(!out.map);
}

BOOST_AUTO_TEST_CASE(q2_an_owner_counts_once_per_tied_parameter) {
  constexpr std::string_view model = "A{w1=40 w2=40 extra=100} B{w1@A.w1 w2@A.w2 v=100} C{w=20}";
  BOOST_TEST(accelerate_plan(model, "0=1,1=379,cpu=10000") == "cpu: A B C");
  BOOST_TEST(accelerate_plan(model, "0=1,1=380,cpu=10000") == "1: A B | cpu: C");
  BOOST_TEST(accelerate_plan(model, "0=1,1=400,cpu=10000") == "1: A B C");
  BOOST_TEST(accelerate_plan(model, "1=400,cpu=10000") == "cpu: A B C");
  BOOST_TEST(accelerate_plan(model, "1=480,cpu=10000") == "1: A B | cpu: C");
}

BOOST_AUTO_TEST_CASE(q3_buffers_of_split_modules_are_not_mapped) {
  constexpr std::string_view model = "b0{n~4 l1{w=20} l2{w=20}} b1{n~4 l1{w=20} l2{w=20}}";
  BOOST_TEST(accelerate_plan(model, "0=85,1=1000") == "0: b0 b1.l1 b1.l2");
  BOOST_TEST(accelerate_plan(model, "0=65,1=1000") == "0: b0 | 1: b1.l1 b1.l2");
  BOOST_TEST(accelerate_plan(model, "0=64,1=30,cpu=1000") == "0: b0 | 1: b1.l1 | cpu: b1.l2");
  auto r = request_of("0=85,1=1000");
  const auto map = *hf::accelerate::infer_auto_device_map(tree_of(model), r).map;
  BOOST_TEST(hf::accelerate::check_device_map(tree_of(model), map).refusal.has_value());
  r.clean_result = true;
  BOOST_TEST(accelerate_plan(tree_of(model), r) == "0: \"\"");
}

BOOST_AUTO_TEST_CASE(q4_an_owner_that_was_pulled_in_still_counts_in_the_reserve) {
  constexpr std::string_view model = "a{w=100} t{w@a.w v=300} b{w=100} c{w=100}";
  BOOST_TEST(accelerate_plan(model, "0=600,1=1000") == "1: a b c t");
  BOOST_TEST(accelerate_plan(model, "0=700,1=1000") == "0: a t | 1: b c");
  BOOST_TEST(accelerate_plan(model, "0=800,1=1000") == "0: a b t | 1: c");
  BOOST_TEST(accelerate_plan(model, "0=900,1=1000") == "0: a b c t");
}

BOOST_AUTO_TEST_CASE(q5_q6_bare_owners_and_modules_registered_twice_crash) {
  BOOST_TEST(accelerate_plan("A{w=10 v=300} B{w@A.w c{v=500}}", "0=1,1=400,cpu=10000") == "IndexError");
  BOOST_TEST(accelerate_plan("a{w=1} b&a c{w=1}", "0=100") == "IndexError");
}

// Buffers.

BOOST_AUTO_TEST_CASE(buffers_left_on_the_cpu_are_warned_about_if_no_gpu_has_room) {
  constexpr std::string_view model =
      "linear1{w=64 n~80} batchnorm{w=32 n~160} linear2{w=100 n~120}";  // 144, 192, 220 bytes
  const auto plan = [&](std::string_view memory, bool offload_buffers) {
    auto r = request_of(memory);
    r.offload_buffers = offload_buffers;
    return hf::accelerate::infer_auto_device_map(tree_of(model), r);
  };
  const auto warned = plan("0=400,cpu=1GB", false);
  BOOST_TEST(text_of(*warned.map) == "0: linear1 | cpu: batchnorm linear2");
  BOOST_TEST(warns(warned.warnings, hf::warning_kind::buffers_do_not_fit));
  BOOST_TEST(warned.offloaded_buffer_bytes->text() == "280");
  const auto offloaded = plan("0=400,cpu=1GB", true);
  BOOST_TEST(text_of(*offloaded.map) == text_of(*warned.map));
  BOOST_TEST(offloaded.warnings.empty());
  // 280 + 364 bytes in use and reserved on device 0.
  BOOST_TEST(plan("0=400,1=0,cpu=1GB", false).warnings.size() == 1u);
  BOOST_TEST(plan("0=400,1=190,cpu=1GB", false).warnings.size() == 1u);
  BOOST_TEST(plan("cpu=1GB", false).warnings.empty());
}

BOOST_AUTO_TEST_CASE(special_dtypes_match_buffers_by_the_name_inside_the_placed_module) {
  // "n" is no tensor of the model, but the name of the buffer as seen from the module that is placed.
  auto r = request_of("0=10,cpu=10000");
  r.special = {{"n", "float64"}};
  const auto out = hf::accelerate::infer_auto_device_map(tree_of("a{w=100 n~8}"), r);
  BOOST_TEST(out.offloaded_buffer_bytes->text() == "64");
}

BOOST_AUTO_TEST_CASE(buffers_under_an_alias_of_an_outside_module_count_again) {
  const auto out =
      hf::accelerate::infer_auto_device_map(tree_of("x{i{n~50}} a{w=100 j&x.i}"), request_of("0=1,cpu=10000"));
  BOOST_TEST(out.offloaded_buffer_bytes->text() == "100");
}

// Fallback allocation.

BOOST_AUTO_TEST_CASE(fallback_looks_further_down_for_anything_that_fits_an_empty_device) {
  const auto plan = [](std::string_view model, std::string_view memory, bool fallback) {
    auto r = request_of(memory);
    r.fallback_allocation = fallback;
    return accelerate_plan(tree_of(model), r);
  };
  constexpr std::string_view model = "a{w=400} b{w=100} c{w=300} d{w=60}";
  BOOST_TEST(plan(model, "0=500,cpu=2000", false) == "cpu: a b c d");
  BOOST_TEST(plan(model, "0=500,cpu=2000", true) == "0: b | cpu: a c d");
  BOOST_TEST(plan(model, "0=450,cpu=2000", true) == "cpu: a b c d");
  BOOST_TEST(plan(model, "0=460,1=90,cpu=2000", true) == "0: d | cpu: a b c");
  for (const bool fallback : {false, true})
    BOOST_TEST(plan(model, "0=700,1=90,cpu=2000", fallback) == "0: a | cpu: b c d");
  constexpr std::string_view nested = "module{linear1{w=176} linear2{w=80} linear3{w=160}}";
  BOOST_TEST(plan(nested, "0=256", true) == "0: module.linear2 | disk: module.linear1 module.linear3");
  BOOST_TEST(plan("m{x{w=440} y{w=440} z{w=440}}", "0=30", true) == "disk: m.x m.y m.z");
  BOOST_TEST(plan("l1{w=400 b=40} l2{w@l1.w b=40}", "0=600", true) == "0: l1 l2");
}

BOOST_AUTO_TEST_CASE(fallback_takes_a_module_out_of_its_parents) {
  auto r = request_of("0=500,cpu=2000");
  r.fallback_allocation = true;
  BOOST_TEST(accelerate_plan(tree_of("a{w=400} p{v=150 q{x{w=120} y{w=40}}}"), r) == "0: p.q.y | cpu: a p.q.x p.v");
}

BOOST_AUTO_TEST_CASE(q8_fallback_crashes_on_a_fractional_limit) {
  auto r = request_of("");
  r.memory.limits = {{hf::device_key::accelerator(0), hf::number::real(450.0)}};
  r.fallback_allocation = true;
  const auto out = hf::accelerate::infer_auto_device_map(tree_of("a{w=400} b{w=100}"), r);
  BOOST_TEST(out.error->subject.view() == "AttributeError");
}

BOOST_AUTO_TEST_CASE(an_untied_model_that_says_it_is_tied_is_warned_about) {
  auto tree = tree_of("emb{w=10} head{w=10}");
  tree.tie_word_embeddings = true;
  tree.output_embedding = "head";
  BOOST_TEST(warns(hf::accelerate::infer_auto_device_map(tree, request_of("0=100")).warnings,
                   hf::warning_kind::weights_not_tied));
  tree.output_embedding.reset();
  BOOST_TEST(hf::accelerate::infer_auto_device_map(tree, request_of("0=100")).warnings.empty());
}

BOOST_AUTO_TEST_SUITE_END()
