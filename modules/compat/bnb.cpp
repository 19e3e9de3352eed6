// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.compat;

import berth.model;
import :pattern;
import :widths;

namespace berth::hf::transformers {
namespace {

/// Device types that torch parses.
constexpr std::array<std::string_view, 20> torch_types{
    "cpu",  "cuda", "ipu", "xpu",  "mkldnn", "opengl", "opencl", "ideep", "hip",  "ve",
    "fpga", "maia", "xla", "lazy", "vulkan", "mps",    "meta",   "hpu",   "mtia", "privateuseone"};

/// "type" or "type:index"; the index is a decimal number without leading zeros that fits torch's signed byte.
bool is_torch_device(std::string_view text) {
  const auto colon = text.find(':');
  const auto type = text.substr(0, colon);
  if (std::find(torch_types.begin(), torch_types.end(), type) == torch_types.end()) return false;
  if (colon == std::string_view::npos) return true;
  const auto index = text.substr(colon + 1);
  if (index.empty() || index.size() > 3 || (index.size() > 1 && index.front() == '0')) return false;
  int value = 0;
  for (const char c : index) {
    if (c < '0' || c > '9') return false;
    value = value * 10 + (c - '0');
  }
  return value <= 127;
}

device_map everything_on(device_key device) { return {{"", std::move(device)}}; }

std::string without_weight(std::string_view name) {
  constexpr std::string_view suffix = ".weight";
  return std::string(name.ends_with(suffix) ? name.substr(0, name.size() - suffix.size()) : name);
}

/// The last parameter of the walk, each object once.
const tensor* last_parameter(const module_tree& tree) {
  const auto list = tree.parameters();
  const auto first = first_of_storage(list);
  for (auto i = list.size(); i-- > 0;)
    if (first[i]) return &list[i];
  return nullptr;
}

}  // namespace

result<device_map_argument> check_and_set_device_map(std::string_view text, std::int64_t local_rank) {
  if (const auto word = strategy_named(text)) return device_map_argument(*word);
  if (text == "cuda")
    return device_map_argument(everything_on(device_key::named("cuda:" + std::to_string(local_rank))));
  if (!is_torch_device(text))
    return fail(errc::invalid_argument, "ValueError",
                "device_map is \"" + std::string(text) +
                    "\", which is neither a torch device (cpu, cuda:0, ...) nor one of auto, balanced, balanced_low_0, "
                    "sequential");
  return device_map_argument(everything_on(device_key::named(text)));
}

result<device_map_argument> check_and_set_device_map(std::int64_t index) {
  if (index < 0)
    return fail(errc::invalid_argument, "ValueError", "device_map is a negative number; for the CPU give \"cpu\"");
  return device_map_argument(everything_on(device_key::accelerator(index)));
}

device_map bnb_default_device_map(backend b, std::int64_t current_device) {
  switch (b) {
    case backend::cuda:
    case backend::xpu:
      return everything_on(device_key::accelerator(current_device));
    case backend::npu:
      return everything_on(device_key::named("npu:" + std::to_string(current_device)));
    case backend::hpu:
      return everything_on(device_key::named("hpu:" + std::to_string(current_device)));
    case backend::cpu:
      break;
  }
  return everything_on(device_key::named("cpu"));
}

result<done> bnb_validate_device_map(const device_map& map, bool fp32_cpu_offload) {
  const auto on_cpu = [](const mapping& m) { return m.device.is("cpu"); };
  if (fp32_cpu_offload || std::all_of(map.begin(), map.end(), on_cpu)) return done{};
  for (const auto& m : map)
    if (on_cpu(m) || m.device.is("disk"))
      return fail(errc::invalid_argument, "ValueError",
                  "\"" + m.name + "\" is mapped to " + m.device.text() +
                      ", but a quantized model must lie on accelerators; give them more memory, or allow it with "
                      "llm_int8_enable_fp32_cpu_offload");
  return done{};
}

budgets adjust_max_memory(budgets b) {
  for (auto& each : b) each.bytes = each.bytes * 0.90;
  return b;
}

result<std::vector<bool>> should_convert_modules(const std::vector<std::string>& patterns,
                                                 const std::vector<std::string_view>& names) {
  std::vector<bool> convert(names.size(), true);
  if (patterns.empty()) return convert;
  // "p\." at the start is covered by "p" at the start.
  const auto starts = prefix_pattern::compile(patterns);
  if (!starts) return starts.propagate();
  for (std::size_t i = 0; i < names.size(); ++i) {
    const bool ends =
        std::any_of(patterns.begin(), patterns.end(), [&](const auto& p) { return names[i].ends_with(p); });
    convert[i] = !ends && !starts->match(names[i]);
  }
  return convert;
}

result<bnb_conversion> bnb_modules_to_convert(const module_tree& tree, const request& r, const device_map* given_map) {
  std::set<std::string> defaults;
  std::vector<std::string> skipped;
  if (r.skip_modules) {
    skipped = *r.skip_modules;
  } else {
    for (const auto& [target, source] : tree.tied_weights_keys)
      defaults.insert({without_weight(target), without_weight(source)});
    const auto* last = last_parameter(tree);
    if (last == nullptr)
      return fail(errc::peer_failure, "IndexError", "the peer crashes: the model has no parameter to quantize");
    defaults.insert(without_weight(last->name));
    if (tree.output_embedding) defaults.insert(without_weight(*tree.output_embedding));
    skipped.assign(defaults.begin(), defaults.end());
  }
  skipped.insert(skipped.end(), tree.keep_in_fp32_modules.begin(), tree.keep_in_fp32_modules.end());
  if (r.llm_int8_enable_fp32_cpu_offload && given_map != nullptr)
    for (const auto& m : *given_map)
      if (m.device.is("cpu") || m.device.is("disk")) skipped.push_back(m.name);

  std::vector<module_index> candidates;
  std::vector<std::string_view> names;
  for (module_index m = 0; m < tree.modules().size(); ++m) {
    const auto& node = tree.modules()[m];
    if (node.is_alias() || (node.class_name != "Linear" && node.class_name != "Conv1D")) continue;
    candidates.push_back(m);
    names.push_back(node.name);
  }
  const auto convert = should_convert_modules(skipped, names);
  if (!convert) return convert.propagate();
  bnb_conversion out;
  for (std::size_t i = 0; i < candidates.size(); ++i)
    if ((*convert)[i]) out.converted.push_back(candidates[i]);
  std::sort(skipped.begin(), skipped.end());
  out.skipped = std::move(skipped);
  return out;
}

}  // namespace berth::hf::transformers
