// SPDX-License-Identifier: Apache-2.0
// The promise: whatever the plan, the tokens and logits are those of the model on one device, bit for bit.
#include <array>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "folder.hpp"
#include "forward.hpp"
#include "random_checkpoint.hpp"

// What imports modules comes last.
#include "double_forward.hpp"
#include "plans.hpp"
#include "rehearsal.hpp"

import berth;
import tiny;

namespace {

using namespace tiny_test;

constexpr std::uint64_t seed = 20261121;
const std::vector<std::int32_t> prompt{1, 17, 42, 99, 5, 5, 120};
constexpr std::uint64_t fresh = 12;

std::string words(const berth::error& e) { return std::string(e.subject.view()) + ": " + std::string(e.detail.view()); }

berth::workload workload_of(std::size_t tokens) {
  return {tokens + fresh, 1, tokens, fresh, berth::objective::latency};
}

/// The outcome of a plan, or a failed check.
std::optional<outcome> carried_out(const tiny::opened& m, plan_kind kind, const berth::precision& how,
                                   const manner& way) {
  auto plan = plan_of(kind, m, how, workload_of(prompt.size()));
  BOOST_CHECK_MESSAGE(plan, name_of(kind) << ": " << (plan ? "" : words(plan.error())));
  if (!plan) return std::nullopt;
  auto out = rehearse(m, *std::move(plan), how, prompt, way);
  BOOST_CHECK_MESSAGE(out, name_of(kind) << " with " << way.threads << " threads: " << (out ? "" : words(out.error())));
  if (!out) return std::nullopt;
  BOOST_CHECK_EQUAL(out->tokens.size(), fresh);
  return *std::move(out);
}

tiny::opened opened(const std::string& path, std::string_view family) {
  std::string error;
  BOOST_REQUIRE_MESSAGE(write_random_checkpoint(path, family, seed, error), error);
  auto m = tiny::open(path);
  BOOST_REQUIRE_MESSAGE(m, (m ? std::string() : words(m.error())));
  return *std::move(m);
}

void check_family(std::string_view family, const berth::precision& how) {
  BOOST_TEST_MESSAGE(family << (how.int8 ? " int8" : "") << ", seed " << seed);
  const folder place;
  const auto m = opened(place.path, family);
  const auto expected = carried_out(m, plan_kind::one_gpu, how, {0, false});
  BOOST_REQUIRE(expected);
  for (const auto kind : all_kinds)
    for (const auto& way : {manner{0, true, place.path + "/offload"}, manner{0, false},
                            manner{2, true, place.path + "/offload"}, manner{2, false}}) {
      const auto got = carried_out(m, kind, how, way);
      if (!got) continue;
      BOOST_CHECK_MESSAGE(got->tokens == expected->tokens, family << " " << name_of(kind) << ": other tokens");
      BOOST_CHECK_MESSAGE(got->logits == expected->logits, family << " " << name_of(kind) << ": other logits");
    }
}

/// Largest difference between the logits of all passes and those of the pass in double precision.
double distance(const tiny::opened& m, const outcome& got, bool int8) {
  const auto model = double_forward::read(m, int8);
  BOOST_REQUIRE(model);
  const auto size = static_cast<std::size_t>(m.shape.vocabulary);
  BOOST_REQUIRE_EQUAL(got.logits.size(), got.tokens.size() * size);
  auto tokens = prompt;
  double worst = 0;
  for (std::size_t pass = 0; pass < got.tokens.size(); ++pass) {
    const auto expected = model->logits(tokens);
    for (std::size_t i = 0; i < size; ++i)
      worst = std::fmax(worst, std::fabs(expected[i] - double{got.logits[pass * size + i]}));
    tokens.push_back(got.tokens[pass]);
  }
  return worst;
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_plan_of_llama_gives_the_same_bits) { check_family("llama", {}); }
BOOST_AUTO_TEST_CASE(every_plan_of_qwen2_gives_the_same_bits) { check_family("qwen2", {}); }
BOOST_AUTO_TEST_CASE(every_plan_of_mixtral_gives_the_same_bits) { check_family("mixtral", {}); }
BOOST_AUTO_TEST_CASE(every_plan_of_gpt2_gives_the_same_bits) { check_family("gpt2", {}); }
BOOST_AUTO_TEST_CASE(every_int8_plan_of_llama_gives_the_same_bits) {
  berth::precision how;
  how.int8 = true;
  check_family("llama", how);
}
BOOST_AUTO_TEST_CASE(every_int8_plan_of_gpt2_gives_the_same_bits) {
  berth::precision how;
  how.int8 = true;
  check_family("gpt2", how);
}
BOOST_AUTO_TEST_CASE(weights_converted_while_loading_give_the_same_bits_in_every_plan) {
  berth::precision how;
  how.load = berth::dtype::f32;
  check_family("mixtral", how);
}

BOOST_AUTO_TEST_CASE(the_kernels_give_the_same_bits_on_an_emulated_gpu) {
  for (const auto family : families)
    for (const bool int8 : {false, true}) {
      BOOST_TEST_MESSAGE(family << (int8 ? " int8" : "") << ", seed " << seed);
      const folder place;
      const auto m = opened(place.path, family);
      berth::precision how;
      how.int8 = int8;
      const auto expected = carried_out(m, plan_kind::one_gpu, how, {});
      BOOST_REQUIRE(expected);
      for (const auto kind : {plan_kind::one_gpu, plan_kind::in_turn, plan_kind::mixed}) {
        manner way;
        way.gpu = &tiny::cuda_forward();
        way.offload_folder = place.path + "/offload";
        const auto got = carried_out(m, kind, how, way);
        BOOST_REQUIRE(got);
        BOOST_CHECK_MESSAGE(got->tokens == expected->tokens, family << " " << name_of(kind) << ": other tokens");
        BOOST_CHECK_MESSAGE(got->logits == expected->logits, family << " " << name_of(kind) << ": other logits");
      }
    }
}

BOOST_AUTO_TEST_CASE(logits_are_those_of_an_independent_pass_in_double_precision) {
  for (const auto family : families)
    for (const bool int8 : {false, true}) {
      const folder place;
      const auto m = opened(place.path, family);
      berth::precision how;
      how.int8 = int8;
      const auto got = carried_out(m, plan_kind::one_gpu, how, {0, true});
      BOOST_REQUIRE(got);
      const auto away = distance(m, *got, int8);
      BOOST_TEST_MESSAGE(family << (int8 ? " int8" : "") << ", seed " << seed << ": largest difference " << away);
      BOOST_CHECK_LT(away, 2e-4);
      BOOST_CHECK_GT(away, 0);
    }
}

BOOST_AUTO_TEST_CASE(what_the_forward_pass_cannot_do_is_refused_before_anything_runs) {
  const folder place;
  const auto m = opened(place.path, "llama");
  const auto chain = tiny::chain_of(m, {}, workload_of(prompt.size()));
  BOOST_REQUIRE(chain);
  // Costed for activations and caches of 2 bytes: the memory is too small.
  auto sizes = berth::native_sizes(m.model.tree());
  auto half = berth::derive_model(m.model.tree(), sizes);
  const auto& a = m.model.architecture;
  BOOST_REQUIRE(
      berth::cost_model(half, m.model.tree(), sizes, {a.hidden, a.vocabulary, a.layers}, workload_of(prompt.size())));
  const auto machine = berth::preset("2x3090");
  berth::place_options options;
  options.workload = workload_of(prompt.size());
  auto plan = berth::Place<berth::Sequential>(half, *machine, options);
  BOOST_REQUIRE(plan);
  const auto refused = tiny::prepare(m, *std::move(plan), {});
  BOOST_REQUIRE(!refused);
  BOOST_CHECK(refused.error().code == berth::errc::capacity);

  auto good = plan_of(plan_kind::one_gpu, m, {}, workload_of(prompt.size()));
  BOOST_REQUIRE(good);
  auto run = tiny::prepare(m, *std::move(good), {});
  BOOST_REQUIRE(run);
  const std::vector<std::int32_t> shorter{1, 2}, unknown(prompt.size(), 160);
  BOOST_CHECK(!(*run)->begin(shorter));
  BOOST_CHECK(!(*run)->begin(unknown));
  BOOST_CHECK((*run)->begin(prompt));
}
