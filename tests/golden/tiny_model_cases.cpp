// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "folder.hpp"
#include "report.hpp"
#include "sha256.hpp"

// What imports modules comes last.
#include "double_forward.hpp"
#include "kinds.hpp"
#include "plans.hpp"
#include "rehearsal.hpp"

import berth;
import berth.formats;
import berth.runtime;
import tiny;

namespace golden {
namespace {

using tiny_test::outcome;
using tiny_test::plan_kind;

constexpr std::string_view kind = "tiny_model";

struct prompt {
  std::vector<std::int32_t> tokens, greedy;
  std::vector<double> logits;
};

double number(const json::value& v, std::string_view key) {
  const auto* m = v.find(key);
  return m != nullptr ? m->to_double().value_or(NAN) : NAN;
}
template <class T>
std::vector<T> numbers(const json::value& v, std::string_view key) {
  std::vector<T> out;
  if (const auto* m = v.find(key); m != nullptr && m->if_array())
    for (const auto& n : *m->if_array()) out.push_back(static_cast<T>(n.to_double().value_or(NAN)));
  return out;
}

/// Largest excess over `atol + rtol |expected|` (at most 0 if all are within), and the largest difference.
struct difference {
  double excess = -INFINITY, largest = 0;
  void add(double expected, double got, double atol, double rtol) {
    const auto d = std::fabs(expected - got);
    excess = std::isnan(d) ? INFINITY : std::max(excess, d - atol - rtol * std::fabs(expected));
    largest = std::max(largest, d);
  }
};

std::string shown(const std::vector<std::int32_t>& tokens) {
  std::string out;
  for (const auto t : tokens) out += std::to_string(t) + " ";
  return out;
}
std::string words(const berth::error& e) { return std::string(e.subject.view()) + ": " + std::string(e.detail.view()); }

/// One checkpoint, while it is checked.
class tiny_case {
 public:
  tiny_case(const tiny::opened& m, const std::string& name, const json::value& expected, report& out)
      : model_(m), name_(name), atol_(number(expected, "atol")), rtol_(number(expected, "rtol")), out_(out) {
    if (const auto* list = expected.find("prompts"); list != nullptr && list->if_array())
      for (const auto& p : *list->if_array())
        prompts_.push_back({numbers<std::int32_t>(p, "input_ids"), numbers<std::int32_t>(p, "greedy"),
                            numbers<double>(p, "last_logits")});
  }

  std::size_t runs = 0;
  double float_error = 0, int8_error = 0, int8_distance = 0, weight_error = 0;

  bool run(const json::value& expected) {
    check(!prompts_.empty(), "prompts", "some", "none");
    for (const auto& p : prompts_) floats(p);
    const auto reference = tiny_test::double_forward::read(model_, false);
    const auto quantised = tiny_test::double_forward::read(model_, true);
    if (check(reference && quantised, "weights", "readable", "an error"))
      for (const auto& p : prompts_) int8(p, *reference, *quantised);
    stored_bytes(expected);
    return good_;
  }

 private:
  bool check(bool right, std::string_view member, std::string_view expected, std::string_view got) {
    if (!right) {
      out_.failed(kind, name_, member, expected, got);
      good_ = false;
    }
    return right;
  }

  std::optional<outcome> carried_out(plan_kind k, const prompt& p, const berth::precision& how, int threads,
                                     bool materialised) {
    const auto member =
        std::string(tiny_test::name_of(k)) + (how.int8 ? " int8" : "") + (threads > 0 ? " threads" : "");
    const auto fresh = p.greedy.size();
    const berth::workload w{p.tokens.size() + fresh, 1, p.tokens.size(), fresh, berth::objective::latency};
    auto plan = tiny_test::plan_of(k, model_, how, w);
    if (!check(static_cast<bool>(plan), member, "a plan", plan ? "" : words(plan.error()))) return std::nullopt;
    auto got =
        tiny_test::rehearse(model_, *std::move(plan), how, p.tokens, {threads, materialised, place_.path + "/offload"});
    if (!check(static_cast<bool>(got), member, "a run", got ? "" : words(got.error()))) return std::nullopt;
    ++runs;
    return *std::move(got);
  }

  /// Every kind of plan, on the caller's thread and on threads, loaded either way.
  void floats(const prompt& p) {
    std::optional<outcome> first;
    for (const auto k : tiny_test::all_kinds)
      for (const int threads : {0, 2}) {
        const auto got = carried_out(k, p, {}, threads, threads == 0);
        if (!got) continue;
        const std::string member(tiny_test::name_of(k));
        check(got->tokens == p.greedy, member + ": greedy", shown(p.greedy), shown(got->tokens));
        difference d;
        for (std::size_t i = 0; i < p.logits.size(); ++i) d.add(p.logits[i], got->logits[i], atol_, rtol_);
        check(d.excess <= 0, member + ": last_logits", "within atol and rtol", std::to_string(d.largest) + " away");
        float_error = std::max(float_error, d.largest);
        if (first) check(got->logits == first->logits, member + ": logits", "those of every plan", "others");
        if (!first) first = got;
      }
  }

  /// Weights in int8 have no stored logits: a pass in double precision over the same codes, which gives the stored ones
  /// for the weights as they are.
  void int8(const prompt& p, const tiny_test::double_forward& reference, const tiny_test::double_forward& quantised) {
    difference known;
    const auto plain = reference.logits(p.tokens);
    for (std::size_t i = 0; i < plain.size(); ++i) known.add(p.logits[i], plain[i], atol_, rtol_);
    check(known.excess <= 0, "the pass in double precision", "within atol and rtol", std::to_string(known.largest));
    weight_error = std::max(weight_error, quantised.worst_weight_error());
    // Rounding of the scales in f32 comes on top.
    check(weight_error <= berth::int8_relative_bound * (1 + 1e-6), "int8 weights",
          std::to_string(berth::int8_relative_bound), std::to_string(weight_error));
    berth::precision how;
    how.int8 = true;
    for (const auto k : {plan_kind::one_gpu, plan_kind::cpu_streams, plan_kind::mixed, plan_kind::automatic}) {
      const auto got = carried_out(k, p, how, k == plan_kind::mixed ? 2 : 0, k != plan_kind::automatic);
      if (!got) continue;
      auto tokens = p.tokens;
      difference d;
      const auto size = plain.size();
      for (std::size_t pass = 0; pass < got->tokens.size(); pass += 5) {
        tokens.assign(p.tokens.begin(), p.tokens.end());
        tokens.insert(tokens.end(), got->tokens.begin(), got->tokens.begin() + static_cast<std::ptrdiff_t>(pass));
        const auto wanted = quantised.logits(tokens);
        for (std::size_t i = 0; i < size; ++i) d.add(wanted[i], got->logits[pass * size + i], atol_, rtol_);
      }
      check(d.excess <= 0, std::string(tiny_test::name_of(k)) + " int8: logits", "those of the same codes",
            std::to_string(d.largest) + " away");
      int8_error = std::max(int8_error, d.largest);
      distance_to_floats(p, *got);
    }
  }

  /// What int8 makes of the logits: measured, as a share of their spread. No law bounds it; these models stay below.
  void distance_to_floats(const prompt& p, const outcome& got) {
    const auto [least, most] = std::minmax_element(p.logits.begin(), p.logits.end());
    difference d;
    for (std::size_t i = 0; i < p.logits.size(); ++i) d.add(p.logits[i], got.logits[i], 0, 0);
    const auto share = d.largest / (*most - *least);
    check(share <= most_int8_distance, "int8: distance to the float logits", std::to_string(most_int8_distance),
          std::to_string(share));
    int8_distance = std::max(int8_distance, share);
  }

  /// Every stored tensor lies in the images as it is in the file, by its hash.
  void stored_bytes(const json::value& expected) {
    const auto* list = expected.find("tensors");
    if (!check(list != nullptr && list->if_object(), "tensors", "an object", "none")) return;
    const berth::workload w{8, 1, 4, 4, berth::objective::latency};
    auto plan = tiny_test::plan_of(plan_kind::one_gpu, model_, {}, w);
    if (!check(static_cast<bool>(plan), "tensors", "a plan", "an error")) return;
    const auto sources = berth::sources_of(model_.model);
    if (!check(static_cast<bool>(sources), "tensors", "sources", sources ? "" : words(sources.error()))) return;
    const auto images = berth::make_images(*plan, model_.model.tree(), model_.model.sizes, {}, *sources);
    if (!check(static_cast<bool>(images), "tensors", "images", images ? "" : words(images.error()))) return;
    const berth::image_storage storage(*images);
    std::map<std::string, std::string> found;
    for (std::uint32_t atom = 0; atom < images->atoms(); ++atom) {
      std::map<std::string, std::string> here;  // a tied tensor is in the images of several atoms
      for (const auto& piece : images->pieces_of(atom)) {
        if (!piece.plain) continue;
        std::string content(piece.length, '\0');
        const auto ok = storage.read(atom, piece.image_offset, std::as_writable_bytes(std::span(content)));
        if (check(static_cast<bool>(ok), "tensors", "readable", ok ? "" : words(ok.error())))
          here[images->sources().tensors[piece.stored].name] += content;
      }
      found.merge(here);
    }
    for (const auto& [tensor, facts] : *list->if_object()) {
      const auto* hash = facts.find("sha256");
      const bool known = hash != nullptr && hash->if_string() && found.contains(tensor);
      if (check(known, tensor, "in an image", "not plainly in any"))
        check(sha256(found[tensor]) == *hash->if_string(), tensor, *hash->if_string(), sha256(found[tensor]));
    }
  }

  static constexpr double most_int8_distance = 0.1;

  const tiny::opened& model_;
  const std::string& name_;
  double atol_, rtol_;
  report& out_;
  std::vector<prompt> prompts_;
  tiny_test::folder place_;
  bool good_ = true;
};

}  // namespace

void tiny_model_cases::run(const std::filesystem::path& folder, const std::string& name, const json::value& expected,
                           report& out) {
  if (!out.wants(kind, name)) return;
  const auto model = tiny::open(folder.string());
  if (!model) return out.failed(kind, name, "model", "one that the example runs", words(model.error()));
  tiny_case c(*model, name, expected, out);
  if (c.run(expected)) out.passed(kind);
  runs_ += c.runs;
  float_error_ = std::max(float_error_, c.float_error);
  int8_error_ = std::max(int8_error_, c.int8_error);
  int8_distance_ = std::max(int8_distance_, c.int8_distance);
  weight_error_ = std::max(weight_error_, c.weight_error);
}

void tiny_model_cases::print() const {
  if (runs_ == 0) return;
  std::printf(
      "tiny_model: %zu plans carried out; logits off by at most %.2g; int8: by %.2g from the same codes in double "
      "precision, weights off by %.4g of their row's largest, logits by %.3g of their spread\n",
      runs_, float_error_, int8_error_, weight_error_, int8_distance_);
}

}  // namespace golden
