// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.compat;

import berth.model;
import :balance;
import :layer_maxima;
import :nodes;
import :placement;
import :widths;

namespace berth::hf::transformers {
namespace {

/// True width of an element as torch stores it: whole bytes.
element_width stored_width(dtype t) { return (bits_of(t) + 7) / 8 * 8; }

/// The model as the planner sees it: sizes, and the classes of modules that a quantizer replaced.
struct planned_model {
  sizes counted;
  std::vector<std::string> replaced_class;  ///< per module, "" where it keeps its own; empty without a quantizer
};

/// Per kind of tensor, its width by the rules of this peer.
std::vector<element_width> widths_of(std::span<const tensor> list, const std::vector<bool>& converted,
                                     element_width quantized, const std::unordered_set<std::string_view>& targets) {
  const auto first = first_of_storage(list);
  std::vector<element_width> widths(list.size(), uncounted);
  for (std::size_t i = 0; i < list.size(); ++i) {
    const auto& t = list[i];
    if (!first[i] || targets.contains(t.name)) continue;
    const bool quantize = !converted.empty() && converted[t.owner] && t.local_name() == "weight";
    widths[i] = quantize ? quantized : stored_width(t.type);
  }
  return widths;
}

/// The second dictionary of the peer: bytes per module of its direct tensors, root excluded.
void add_leaves(const module_tree& tree, sizes& s) {
  byte_sum total;
  std::vector<bool> owns(tree.modules().size());
  const auto add = [&](const tensor& t, const byte_sum& sum) {
    if (t.owner == 0 || sum.tensors == 0) return;
    total += sum;
    if (!owns[t.owner]) ++s.leaf_modules;
    owns[t.owner] = true;
  };
  for (std::uint32_t i = 0; i < tree.parameters().size(); ++i) add(tree.parameters()[i], s.all.of_parameter(i));
  for (std::uint32_t i = 0; i < tree.buffers().size(); ++i) add(tree.buffers()[i], s.all.of_buffer(i));
  s.leaf_total = total.value();
}

result<planned_model> plan_model(const module_tree& tree, const request& r) {
  std::vector<bool> converted;
  std::vector<std::string> replaced;
  if (r.quantize != quantizer::none) {
    const auto conversion = bnb_modules_to_convert(tree, r);
    if (!conversion) return conversion.propagate();
    converted.resize(tree.modules().size());
    replaced.resize(tree.modules().size());
    for (const auto m : conversion->converted) {
      converted[m] = true;
      replaced[m] = r.quantize == quantizer::bnb8 ? "Linear8bitLt" : "Linear4bit";
    }
  }
  std::unordered_set<std::string_view> targets;
  for (const auto& [target, source] : tree.tied_weights_keys) targets.insert(target);
  const element_width quantized = r.quantize == quantizer::bnb8 ? 8 : 4;
  sizes s{module_sizes(tree, widths_of(tree.parameters(), converted, quantized, targets),
                       widths_of(tree.buffers(), {}, quantized, targets)),
          0, 0};
  add_leaves(tree, s);
  return planned_model{std::move(s), std::move(replaced)};
}

/// The largest module of a no-split class, root included; nothing if there is none.
std::optional<number> largest_block(const module_tree& tree, const planned_model& model,
                                    const std::vector<std::string>& no_split) {
  const auto whole = kept_whole(tree, no_split, model.replaced_class);
  std::optional<number> block;
  for (module_index m = 0; m < whole.size(); ++m) {
    if (!whole[m] || tree.modules()[m].is_alias()) continue;
    const auto size = model.counted.all.of_module(m).value();
    block = block ? first_max(*block, size) : size;
  }
  return block;
}

result<budgets> balance(const module_tree& tree, const planned_model& model, const request& r, budgets given) {
  std::int64_t n = 0;
  for (const auto& b : given)
    if (!b.device.is("cpu") && !b.device.is("disk") && b.bytes > 0) ++n;
  if (n == 0) return given;
  if (n == 1 && !r.memory.limits) keep_a_tenth(given);
  number block = 0;
  if (!r.no_split.empty()) {
    const auto largest = largest_block(tree, model, r.no_split);
    if (!largest)
      return fail(errc::peer_failure, "ValueError",
                  "the peer crashes: no module of the model has one of the no-split classes, of which it takes the "
                  "largest. Leave no_split empty, or use the strategy sequential or one of berth's own");
    block = *largest;
  }
  const auto leaves = std::max<std::int64_t>(model.counted.leaf_modules, 1);
  return cap_budgets(std::move(given), {n, r.how == strategy::balanced_low_0 && n > 1, model.counted.all.total(), block,
                                        truncated_quotient(model.counted.leaf_total, leaves)});
}

number buffer_bytes(const module_tree& tree, module_index m) {
  std::unordered_set<storage_id> seen;
  byte_sum sum;
  visit_below(tree, m, tensor_kind::buffers, [&](std::string_view, const tensor& t) {
    if (seen.insert(t.storage).second) sum += {static_cast<int128>(t.elements) * stored_width(t.type), 0, 1};
  });
  return sum.value();
}

void infer(const module_tree& tree, const planned_model& model, const request& r, budgets given, outcome& out) {
  const auto ties = tied_groups_of_table(tree);
  const placement_input input{tree,
                              model.counted.all,
                              kept_whole(tree, r.no_split, model.replaced_class),
                              ties,
                              std::move(given),
                              false,
                              r.offload_buffers,
                              r.no_placement_params,
                              [&](module_index m) { return buffer_bytes(tree, m); }};
  placement loop(peer::transformers, input);
  if (const auto ok = loop.run(); !ok) {
    out.error = ok.error();
    return;
  }
  loop.report(out);
  if (r.clean_result && !r.no_placement_params) out.map = accelerate::clean_device_map(std::move(*out.map));
  auto check = accelerate::check_tied_parameters_on_same_device(ties, *out.map);
  out.warnings.insert(out.warnings.end(), check.warnings.begin(), check.warnings.end());
  if (check.refusal) {
    out.error = check.refusal;
    out.map.reset();
  }
}

/// Budgets from the request, then the given steps; errors end up in `out`.
template <class Step>
outcome planned(const module_tree& tree, const request& r, Step&& step) {
  outcome out;
  if (const auto fit = check_tree(tree); !fit) {
    out.error = fit.error();
    return out;
  }
  auto model = plan_model(tree, r);
  auto given = get_max_memory(r.memory, out.warnings);
  if (!given)
    out.error = given.error();
  else if (!model)
    out.error = model.error();
  else
    step(*model, std::move(*given), out);
  return out;
}

}  // namespace

result<sizes> compute_module_sizes(const module_tree& tree, const request& r) {
  return plan_model(tree, r).transform([](const planned_model& m) { return m.counted; });
}

result<budgets> get_balanced_memory(const module_tree& tree, const request& r, std::vector<warning>& warnings) {
  auto given = get_max_memory(r.memory, warnings);
  if (!given) return given;
  const auto model = plan_model(tree, r);
  if (!model) return model.propagate();
  return balance(tree, *model, r, std::move(*given));
}

outcome infer_auto_device_map(const module_tree& tree, const request& r) {
  return planned(tree, r, [&](const planned_model& model, budgets given, outcome& out) {
    infer(tree, model, r, std::move(given), out);
  });
}

outcome device_map_for(const module_tree& tree, const request& r) {
  return planned(tree, r, [&](const planned_model& model, budgets given, outcome& out) {
    if (r.how != strategy::sequential) {
      auto balanced = balance(tree, model, r, std::move(given));
      if (!balanced) {
        out.error = balanced.error();
        return;
      }
      out.balanced = *balanced;
      given = std::move(*balanced);
    }
    if (r.quantize != quantizer::none) given = adjust_max_memory(std::move(given));
    request rest = r;
    rest.clean_result = true;
    rest.offload_buffers = false;
    rest.no_placement_params = tree.no_placement_params;
    infer(tree, model, rest, std::move(given), out);
    if (out.error || r.quantize == quantizer::none) return;
    if (const auto allowed = bnb_validate_device_map(*out.map, r.llm_int8_enable_fp32_cpu_offload); !allowed) {
      out.error = allowed.error();
      out.map.reset();
    }
  });
}

}  // namespace berth::hf::transformers
