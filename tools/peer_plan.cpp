// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.tool;

import berth;
import berth.compat;
import berth.formats;
import berth.host;

namespace tool {
namespace {

using berth::errc;
using berth::fail;
namespace hf = berth::hf;

/// The machine that the peer would query: budgets as written, or a topology's devices.
berth::result<hf::memory_request> memory_of(const plan_arguments& a) {
  hf::memory_request out;
  if (!a.max_memory.empty()) {
    auto pairs = split_pairs(a.max_memory, "--max-memory");
    if (!pairs) return pairs.propagate();
    out.limits.emplace();
    for (const auto& [key, size] : *pairs)
      out.limits->push_back({hf::device_key::parse(key), hf::parse_memory_value(size)});
    return out;
  }
  auto machine = choose_machine(a.topology.empty() ? "auto" : a.topology, a.gpu);
  if (!machine) return machine.propagate();
  hf::machine host;
  for (const auto& d : machine->topology.devices) {
    if (d.kind == berth::device_kind::cpu) host.cpu_available = d.free;
    if (d.kind == berth::device_kind::gpu)
      host.accelerators.push_back(
          hf::machine::accelerator{d.free, d.memory, 0, 0, d.shares_memory_of != berth::no_index});
  }
  out.host = host;
  return out;
}

berth::result<hf::request> request_of(const plan_arguments& a, const berth::module_tree& tree) {
  hf::request r;
  const auto word = a.strategy.empty() ? std::string("auto") : a.strategy;
  const auto how = hf::strategy_named(word);
  if (!how)
    return fail(errc::invalid_argument, "--strategy",
                berth::text<192>("with --compat the strategies are auto, balanced, balanced_low_0 and sequential, not ")
                    .append(word));
  r.how = *how;
  auto memory = memory_of(a);
  if (!memory) return memory.propagate();
  r.memory = *std::move(memory);
  r.no_split = a.no_split.empty() ? tree.no_split_modules : split_words(a.no_split);
  r.offload_buffers = a.offload_buffers;
  r.fallback_allocation = a.fallback_allocation;
  if (!a.int8_skip.empty()) r.skip_modules = split_words(a.int8_skip);
  if (!a.quantize.empty()) r.quantize = a.quantize == "int8" ? hf::quantizer::bnb8 : hf::quantizer::bnb4;
  if (!a.dtype.empty()) {
    const auto type = berth::dtype_from_torch(a.dtype);
    if (!type) return fail(errc::invalid_argument, "--dtype", berth::text<96>("unknown dtype ").append(a.dtype));
    r.dtype = berth::info_of(*type).torch;
  }
  return r;
}

/// Options of berth's own strategies that the peer has no counterpart for.
std::optional<berth::failure> refuse_foreign_options(const plan_arguments& a) {
  const bool accelerate = a.compat == "accelerate";
  const std::pair<bool, std::string_view> foreign[] = {{!a.reserve.empty(), "--reserve"},
                                                       {!a.pins.empty(), "--pin"},
                                                       {!a.complete.empty(), "--complete"},
                                                       {!a.tensor_dtypes.empty(), "--tensor-dtype"},
                                                       {accelerate && !a.quantize.empty(), "--quantize"},
                                                       {accelerate && !a.int8_skip.empty(), "--int8-skip"},
                                                       {!accelerate && a.offload_buffers, "--offload-buffers"},
                                                       {!accelerate && a.fallback_allocation, "--fallback-allocation"}};
  for (const auto& [given, option] : foreign)
    if (given)
      return fail(errc::invalid_argument, option,
                  berth::text<128>(a.compat).append(" has no such option; leave it out or drop --compat"));
  return std::nullopt;
}

/// transformers plans the model in its load dtype and before tying.
berth::result<berth::module_tree> planned_tree(const plan_arguments& a, const berth::loaded_model& model) {
  if (a.compat == "accelerate") return model.tree();
  if (a.dtype.empty()) return model.tree().untied();
  if (!model.checkpoint || !model.checkpoint->config)
    return fail(errc::unsupported, "--dtype",
                "transformers' plan in another dtype needs a config.json to build the model from");
  berth::architecture_options options;
  options.load = berth::dtype_from_torch(a.dtype);
  auto rebuilt = berth::build_architecture(*model.checkpoint->config, options);
  if (!rebuilt) return rebuilt.propagate();
  return rebuilt->tree.untied();
}

berth::json::value number_json(const hf::number& n) {
  if (n.is_real()) return n.to_double();
  return berth::json::wide_integer{n.text()};
}

berth::json::value budgets_json(const hf::budgets& list) {
  berth::json::object out;
  for (const auto& b : list) out.push_back({b.device.text(), number_json(b.bytes)});
  return out;
}

berth::json::value map_json(const hf::device_map& map) {
  berth::json::object out;
  for (const auto& m : map)
    out.push_back({m.name, m.device.is_accelerator() ? berth::json::value(m.device.index())
                                                     : berth::json::value(m.device.word())});
  return out;
}

std::string as_json(const plan_arguments& a, const hf::outcome& o) {
  berth::json::array warnings;
  for (const auto& w : o.warnings)
    warnings.push_back(berth::json::object{{"kind", hf::name_of(w.kind)}, {"text", w.text}});
  berth::json::object out{{"format", "berth.peer_plan/1"},
                          {"peer", a.compat},
                          {"strategy", a.strategy.empty() ? std::string("auto") : a.strategy},
                          {"device_map", o.map ? map_json(*o.map) : berth::json::value(nullptr)},
                          {"balanced_max_memory", o.balanced ? budgets_json(*o.balanced) : berth::json::value(nullptr)},
                          {"bytes", budgets_json(o.placed)},
                          {"min_needed", budgets_json(o.min_needed)},
                          {"warnings", std::move(warnings)}};
  return berth::json::write(out, 2) + "\n";
}

std::string as_table(const plan_arguments& a, const berth::loaded_model& model, const hf::outcome& o) {
  auto out = fmt::format("{}: {} as {} plans it, strategy {}\n", model.tree().id.empty() ? "model" : model.tree().id,
                         model.architecture.model_type, a.compat, a.strategy.empty() ? "auto" : a.strategy);
  out += "counted as the peer counts: weights and buffers; no KV cache, activations or quantization scales\n\n";
  out += fmt::format("  {:<8} {:>14} {:>14}  {}\n", "device", "balanced cap", "bytes", "parts");
  std::vector<hf::device_key> devices;
  for (const auto& b : o.placed) devices.push_back(b.device);
  for (const auto& d : devices) {
    std::vector<std::string_view> names;
    for (const auto& m : *o.map)
      if (m.device == d) names.push_back(m.name.empty() ? std::string_view("(everything)") : std::string_view(m.name));
    const auto figure = [&](const hf::budgets& list) -> std::string {
      for (const auto& b : list)
        if (b.device == d) return b.bytes.text();
      return "-";
    };
    out += fmt::format("  {:<8} {:>14} {:>14}  {}\n", d.text(), o.balanced ? figure(*o.balanced) : "-",
                       figure(o.placed), names.empty() ? "empty" : shorten(names, 8));
  }
  if (!o.warnings.empty() || !o.min_needed.empty()) out += "\n";
  for (const auto& n : o.min_needed)
    out += fmt::format("  note: {} received nothing; its first candidate needed {} bytes\n", n.device.text(),
                       n.bytes.text());
  for (const auto& w : o.warnings) out += fmt::format("  warning: {}\n", w.text);
  return out;
}

}  // namespace

berth::result<named_map> peer_map(const question& q, const berth::loaded_model& model, std::string_view peer) {
  plan_arguments a;
  static_cast<question&>(a) = q;
  a.compat = peer;
  // What the peer has no word for is left out: the rows of a comparison differ in that, too.
  if (peer == "accelerate" || a.quantize == "auto") a.quantize.clear();
  auto request = request_of(a, model.tree());
  if (!request) return request.propagate();
  auto tree = planned_tree(a, model);
  if (!tree) return tree.propagate();
  const auto outcome = peer == "accelerate" ? hf::accelerate::device_map_for(*tree, *request)
                                            : hf::transformers::device_map_for(*tree, *request);
  if (outcome.error) return berth::failure{*outcome.error};
  named_map out;
  for (const auto& m : *outcome.map)
    out.emplace_back(m.name, m.device.is_accelerator() ? berth::device_id(static_cast<int>(m.device.index()))
                                                       : berth::device_id(m.device.word()));
  return out;
}

int run_peer_plan(const plan_arguments& a, const berth::loaded_model& model) {
  if (auto foreign = refuse_foreign_options(a)) return report(foreign->why);
  auto request = request_of(a, model.tree());
  if (!request) return report(request.error());
  auto tree = planned_tree(a, model);
  if (!tree) return report(tree.error());
  const auto outcome = a.compat == "accelerate" ? hf::accelerate::device_map_for(*tree, *request)
                                                : hf::transformers::device_map_for(*tree, *request);
  if (outcome.error || !outcome.map) {
    const auto& e = *outcome.error;
    complain(fmt::format("{} ({})", a.compat, e.subject.view()), e.detail.view());
    // Before anything was placed the arguments were at fault; afterwards the answer is no.
    return e.code == errc::invalid_argument && outcome.placed.empty() ? exit_usage : exit_no;
  }
  std::string text;
  if (a.format == "json") {
    text = as_json(a, outcome);
  } else if (a.format == "device-map") {
    for (const auto& w : outcome.warnings) warn(w.text);
    text = berth::json::write(map_json(*outcome.map), 2) + "\n";
  } else {
    text = as_table(a, model, outcome);
  }
  return write_output(a.output, text) ? exit_done : exit_usage;
}

}  // namespace tool
