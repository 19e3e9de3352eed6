// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.compat;

import berth.model;
import :layer_maxima;
import :nodes;
import :placement;
import :widths;

namespace berth::hf {

std::optional<strategy> strategy_named(std::string_view word) {
  if (word == "auto") return strategy::automatic;
  if (word == "balanced") return strategy::balanced;
  if (word == "balanced_low_0") return strategy::balanced_low_0;
  if (word == "sequential") return strategy::sequential;
  return std::nullopt;
}

namespace accelerate {
namespace {

/// `compute_module_total_buffer_size`: special dtypes are matched against names relative to the module.
number buffer_bytes(const module_tree& tree, const width_rule& rule, module_index m) {
  std::unordered_set<storage_id> seen;
  byte_sum sum;
  visit_below(tree, m, tensor_kind::buffers, [&](std::string_view name, const tensor& t) {
    if (!seen.insert(t.storage).second) return;
    const auto w = rule.width(name, t.type);
    if (w) sum += {static_cast<int128>(t.elements) * *w, *w % 8 != 0 ? 1u : 0u, 1u};
  });
  return sum.value();
}

/// Runs the loop on budgets that are final.
void infer(const module_tree& tree, const request& r, budgets given, outcome& out) {
  const auto rule = width_rule::make(r.dtype, r.special);
  const auto sizes = compute_module_sizes(tree, r.dtype, r.special);
  if (!sizes) {
    out.error = sizes.error();
    return;
  }
  auto ties = find_tied_parameters(tree);
  if (!ties) {
    out.error = ties.error();
    return;
  }
  if (tree.tie_word_embeddings && tree.output_embedding && ties->empty())
    out.warnings.push_back({warning_kind::weights_not_tied,
                            "The model's config ties its word embeddings, but no two parameters of the tree are tied; "
                            "they are counted twice."});
  const placement_input input{tree,
                              *sizes,
                              kept_whole(tree, r.no_split),
                              std::move(*ties),
                              std::move(given),
                              r.fallback_allocation,
                              r.offload_buffers,
                              std::nullopt,
                              [&](module_index m) { return buffer_bytes(tree, *rule, m); }};
  placement loop(peer::accelerate, input);
  if (const auto ok = loop.run(); !ok) {
    out.error = ok.error();
    return;
  }
  loop.report(out);
  if (r.clean_result) out.map = clean_device_map(std::move(*out.map));
}

}  // namespace

outcome infer_auto_device_map(const module_tree& tree, const request& r) {
  request raw = r;
  raw.how = strategy::sequential;
  return device_map_for(tree, raw);
}

outcome device_map_for(const module_tree& tree, const request& r) {
  outcome out;
  if (const auto fit = check_tree(tree); !fit) {
    out.error = fit.error();
    return out;
  }
  auto given = r.how == strategy::sequential ? get_max_memory(r.memory, out.warnings)
                                             : get_balanced_memory(tree, r, out.warnings);
  if (!given) {
    out.error = given.error();
    return out;
  }
  if (r.how != strategy::sequential) out.balanced = *given;
  infer(tree, r, std::move(*given), out);
  return out;
}

}  // namespace accelerate
}  // namespace berth::hf
