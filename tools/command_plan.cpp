// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.tool;

import berth;
import berth.formats;

namespace tool {
namespace {

using berth::errc;
using berth::fail;
using berth::result;

result<berth::precision> precision_of(const plan_arguments& a) {
  berth::precision out;
  const auto type_of = [](const std::string& name, std::string_view option) -> result<berth::dtype> {
    if (const auto t = berth::dtype_from_torch(name)) return *t;
    return fail(errc::invalid_argument, option,
                berth::text<160>("unknown dtype ").append(name).append("; bf16, f16, f32, float8_e4m3fn ..."));
  };
  if (!a.dtype.empty()) {
    auto t = type_of(a.dtype, "--dtype");
    if (!t) return t.propagate();
    out.load = *t;
  }
  for (const auto& pair : a.tensor_dtypes) {
    auto split = split_pairs(pair, "--tensor-dtype");
    if (!split) return split.propagate();
    for (const auto& [prefix, name] : *split) {
      auto t = type_of(name, "--tensor-dtype");
      if (!t) return t.propagate();
      out.overrides.emplace_back(prefix, *t);
    }
  }
  if (a.quantize == "int4")
    return fail(errc::unsupported, "--quantize",
                "berth's own strategies quantize to int8; int4 is known to --compat transformers only");
  out.int8 = a.quantize == "int8";
  if (!a.int8_skip.empty()) {
    if (!out.int8) return fail(errc::invalid_argument, "--int8-skip", "does nothing without --quantize int8");
    out.int8_skip = split_words(a.int8_skip);
  }
  return out;
}

/// --strategy, --pin and --complete as one choice. The 8-bit rule: int8 without a strategy means the current device.
result<strategy_choice> choice_of(const plan_arguments& a) {
  auto choice = parse_strategy(!a.strategy.empty() ? a.strategy : (a.quantize == "int8" ? "current" : "balanced"));
  if (!choice) return choice;
  if (!a.complete.empty()) {
    if (choice->name == "manual")
      return fail(errc::invalid_argument, "--complete", "give the map either as manual:FILE or here, not both");
    auto map = read_map_file(a.complete);
    if (!map) return map.propagate();
    choice->fixed = *std::move(map);
  }
  for (const auto& pin : a.pins) {
    auto pairs = split_pairs(pin, "--pin");
    if (!pairs) return pairs.propagate();
    for (const auto& [prefix, id] : *pairs) {
      if (!berth::device_id::fits(id))
        return fail(errc::unknown_device, "--pin", berth::text<96>(id).append(" is not a device"));
      std::erase_if(choice->fixed, [&, p = prefix](const auto& e) { return e.first == p; });
      choice->fixed.emplace_back(prefix, berth::device_id(id));
    }
  }
  return choice;
}

/// Devices and budgets, owned here because options view them.
struct room {
  machine_choice machine;
  std::vector<berth::device_bytes> max_memory, reserve;
  berth::place_options options;
};

result<room> room_of(const plan_arguments& a) {
  room out;
  if (!a.max_memory.empty()) {
    auto list = parse_device_list(a.max_memory, "--max-memory");
    if (!list) return list.propagate();
    out.max_memory = *std::move(list);
  }
  if (!a.reserve.empty()) {
    auto list = parse_device_list(a.reserve, "--reserve");
    if (!list) return list.propagate();
    out.reserve = *std::move(list);
  }
  auto machine = a.topology.empty() && !out.max_memory.empty()
                     ? machine_of_budgets(out.max_memory)
                     : choose_machine(a.topology.empty() ? "auto" : a.topology, a.gpu);
  if (!machine) return machine.propagate();
  out.machine = *std::move(machine);
  if (auto valid = berth::validate(out.machine.topology); !valid) return valid.propagate();
  return out;
}

/// Keys of a map that name nothing are probably misspelt.
void warn_unknown_keys(const strategy_choice& choice, const berth::model& m, berth::plan& p) {
  const auto entries = entries_of(choice.fixed);
  std::vector<std::uint32_t> unknown(entries.size());
  unknown.resize(berth::unknown_entries(entries, m, unknown));
  std::vector<std::string_view> names;
  for (const auto& atom : m.atoms()) names.push_back(atom.name);
  for (const auto i : unknown)
    p.warnings.push_back(berth::text<416>("the map's key \"")
                             .append(entries[i].prefix)
                             .append("\" is not a part of this model; the nearest name is \"")
                             .append(nearest(entries[i].prefix, names))
                             .append("\""));
}

void add_warnings(const plan_arguments& a, const strategy_choice& choice, const berth::loaded_model& model,
                  const berth::model& m, berth::plan& p) {
  for (const auto& w : model.warnings) p.warnings.push_back(berth::text<416>(w));
  warn_unknown_keys(choice, m, p);
  for (const auto& c : split_words(a.no_split)) {
    const auto modules = model.tree().modules();
    if (std::none_of(modules.begin(), modules.end(), [&](const auto& node) { return node.class_name == c; }))
      p.warnings.push_back(berth::text<416>("--no-split: the model has no class ").append(c));
  }
  if (a.offload_buffers)
    p.warnings.push_back("--offload-buffers: berth's own strategies always keep buffers with their module");
  berth::bytes on_gpus = 0;
  bool off_gpu = false;
  for (const auto& u : p.uses) {
    const bool gpu = p.devices[u.device].kind == berth::device_kind::gpu;
    if (gpu) on_gpus += u.free();
    off_gpu = off_gpu || (!gpu && u.weights > 0);
  }
  bool has_gpu = false;
  for (const auto& u : p.uses) has_gpu = has_gpu || p.devices[u.device].kind == berth::device_kind::gpu;
  if (has_gpu && off_gpu && !choice.fixed.empty() && berth::total_weights(p.model()) <= on_gpus)
    p.warnings.push_back(
        "parts are offloaded although the GPUs have room for the whole model; the map makes it slower");
}

void describe_model(const plan_arguments& a, const berth::loaded_model& model, berth::plan& p) {
  p.model_id = std::string_view(model.tree().id);
  p.model_type = std::string_view(model.architecture.model_type);
  p.fingerprint = model.fingerprint;
  p.naming = !model.checkpoint                                   ? "module tree file"
             : model.architecture.how == berth::exactness::exact ? "module tree of transformers"
             : model.architecture.how == berth::exactness::by_count
                 ? "names of the checkpoint (architecture known by its parameter count)"
                 : "names of the checkpoint";
  berth::derive_options options;
  options.no_split = split_words(a.no_split);
  options.use_tree_no_split = a.no_split.empty();
  for (const auto& c : berth::effective_no_split(model.tree(), options)) p.no_split.emplace_back(c);
}

std::string dtype_words(const plan_arguments& a, const berth::loaded_model& model) {
  auto out = a.dtype.empty() ? model.tree().dtype_name : a.dtype;
  if (a.quantize == "int8") out += ", Linear weights int8";
  if (model.quantization && a.dtype.empty())
    out += ", stored as " + std::string(berth::describe(model.quantization->format.encoding));
  return out;
}

int write_result(const plan_arguments& a, const berth::loaded_model& model, const room& r, const berth::plan& p) {
  std::string text;
  if (a.format == "json") {
    text = berth::json::write(berth::write_plan(p), 2) + "\n";
  } else if (a.format == "device-map") {
    for (const auto& w : p.warnings) warn(w.view());
    text = berth::json::write(berth::write_device_map(berth::collapse(berth::device_map_of(p))), 2) + "\n";
  } else {
    auto notes = r.machine.notes;
    notes.push_back(fmt::format("names are those of the {}", p.naming.view()));
    text = plan_table(p, dtype_words(a, model), notes);
  }
  return write_output(a.output, text) ? exit_done : exit_usage;
}

}  // namespace

int run_plan(const plan_arguments& a) {
  if (const auto code = run_dag_plan(a)) return *code;
  if (!a.compat.empty()) {
    auto model = load(a.model);
    return model ? run_peer_plan(a, *model) : report(model.error());
  }
  if (a.fallback_allocation) {
    complain("--fallback-allocation",
             "is for --compat accelerate; berth's own strategies always look for a part that fits");
    return exit_usage;
  }
  auto precision = precision_of(a);
  if (!precision) return report(precision.error());
  auto choice = choice_of(a);
  if (!choice) return report(choice.error());
  auto r = room_of(a);
  if (!r) return report(r.error());
  auto model = load(a.model);
  if (!model) return report(model.error());

  auto sizes = berth::apply_precision(model->tree(), model->sizes, *precision);
  if (!sizes) return report(sizes.error());
  berth::derive_options derive;
  derive.no_split = split_words(a.no_split);
  derive.use_tree_no_split = a.no_split.empty();
  std::unordered_set<std::string_view> names;
  for (const auto& node : model->tree().modules()) names.insert(node.name);
  for (const auto& t : model->tree().parameters()) names.insert(t.name);
  for (const auto& t : model->tree().buffers()) names.insert(t.name);
  for (const auto& [prefix, id] : choice->fixed)
    if (names.contains(prefix)) derive.split_at.push_back(prefix);
  const auto chain = berth::derive_model(model->tree(), *sizes, derive);

  r->options.max_memory = r->max_memory;
  r->options.reserve = r->reserve;
  r->options.use_disk = !a.offload_folder.empty();
  r->options.staging_slots = a.staging_slots;
  auto p = run_strategy(*choice, chain, r->machine.topology, r->options);
  if (!p) return report(p.error());
  for (const auto& at : p->placements)
    if (p->devices[at.home].kind == berth::device_kind::disk && a.offload_folder.empty()) {
      complain("--offload-folder", "the plan puts weights on the disk; name the folder for them");
      return exit_usage;
    }
  describe_model(a, *model, *p);
  add_warnings(a, *choice, *model, chain, *p);
  return write_result(a, *model, *r, *p);
}

}  // namespace tool
