// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
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

constexpr std::uint64_t default_context = 4096, default_prompt = 512, default_generate = 128;
/// A plan of finer atoms must be this much better to be worth its longer map.
constexpr double finer_gain = 0.01;
/// Single experts are tried up to this many atoms.
constexpr std::size_t most_atoms = 20'000;

result<berth::precision> precision_of(const question& q) {
  berth::precision out;
  const auto type_of = [](const std::string& name, std::string_view option) -> result<berth::dtype> {
    if (const auto t = berth::dtype_from_torch(name)) return *t;
    return fail(errc::invalid_argument, option,
                berth::text<160>("unknown dtype ").append(name).append("; bf16, f16, f32, float8_e4m3fn ..."));
  };
  if (!q.dtype.empty()) {
    auto t = type_of(q.dtype, "--dtype");
    if (!t) return t.propagate();
    out.load = *t;
  }
  for (const auto& pair : q.tensor_dtypes) {
    auto split = split_pairs(pair, "--tensor-dtype");
    if (!split) return split.propagate();
    for (const auto& [prefix, name] : *split) {
      auto t = type_of(name, "--tensor-dtype");
      if (!t) return t.propagate();
      out.overrides.emplace_back(prefix, *t);
    }
  }
  if (q.quantize == "int4")
    return fail(errc::unsupported, "--quantize",
                "berth's own strategies quantize to int8; int4 is known to --compat transformers only");
  out.int8 = q.quantize == "int8";
  if (!q.int8_skip.empty()) {
    if (q.quantize != "int8" && q.quantize != "auto")
      return fail(errc::invalid_argument, "--int8-skip", "does nothing without --quantize int8 or auto");
    out.int8_skip = split_words(q.int8_skip);
  }
  return out;
}

result<berth::objective> objective_of(const std::string& word, berth::objective otherwise) {
  if (word.empty()) return otherwise;
  if (word == "latency") return berth::objective::latency;
  if (word == "throughput") return berth::objective::throughput;
  return berth::objective::memory;
}

/// Options that describe what a chain instance holds already.
std::optional<berth::failure> refuse_for_chain(const question& q) {
  const std::pair<bool, std::string_view> foreign[] = {{!q.topology.empty(), "--topology"},
                                                       {!q.gpu.empty(), "--gpu"},
                                                       {!q.dtype.empty(), "--dtype"},
                                                       {!q.tensor_dtypes.empty(), "--tensor-dtype"},
                                                       {!q.quantize.empty(), "--quantize"},
                                                       {!q.int8_skip.empty(), "--int8-skip"},
                                                       {!q.no_split.empty(), "--no-split"},
                                                       {!q.context.empty(), "--context"},
                                                       {!q.batch.empty(), "--batch"},
                                                       {!q.prompt.empty(), "--prompt"},
                                                       {q.granularity != "auto", "--granularity"}};
  for (const auto& [given, option] : foreign)
    if (given)
      return fail(errc::invalid_argument, option,
                  "a berth.chain/1 instance says this itself; leave the option out or change the file");
  return std::nullopt;
}

/// The chain instance in a file, if it is one.
result<std::optional<berth::chain_instance>> chain_of(const std::string& path) {
  if (!path.ends_with(".json") || path.ends_with("config.json") || path.ends_with(".index.json"))
    return std::optional<berth::chain_instance>();
  auto text = read_input(path);
  if (!text || text->find("\"berth.chain/") == std::string::npos) return std::optional<berth::chain_instance>();
  auto document = berth::json::parse(*text, path);
  if (!document) return document.propagate();
  auto read = berth::read_chain(*document, path);
  if (!read) return read.propagate();
  return std::optional(*std::move(read));
}

bool has_experts(const berth::loaded_model& m) {
  return std::any_of(m.architecture.layers.begin(), m.architecture.layers.end(),
                     [](const auto& l) { return l.ffn.experts > 0; });
}

bool all_on_gpus(const berth::plan& p) {
  return std::all_of(p.placements.begin(), p.placements.end(), [&](const auto& at) {
    return p.devices[at.home].kind == berth::device_kind::gpu && !at.streamed();
  });
}

}  // namespace

berth::place_options setting::options() const {
  berth::place_options o;
  o.workload = workload;
  o.max_memory = max_memory;
  o.reserve = reserve;
  o.use_disk = use_disk;
  o.staging_slots = staging_slots;
  return o;
}

result<std::uint64_t> parse_tokens(const std::string& text, std::string_view option) {
  std::uint64_t n = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), n);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const std::uint64_t factor = unit.empty()                 ? 1
                               : unit == "k" || unit == "K" ? 1024
                               : unit == "m" || unit == "M" ? 1048576
                                                            : 0;
  constexpr std::uint64_t most = std::uint64_t{1} << 40;
  if (status != std::errc{} || factor == 0 || n > most / factor)
    return fail(errc::invalid_argument, option,
                berth::text<128>("\"").append(text).append("\" is not a whole number such as 4096, 8k or 1m"));
  return n * factor;
}

result<session> session::open(const question& q) {
  session s;
  s.question_ = q;
  auto precision = precision_of(q);
  if (!precision) return precision.propagate();
  s.precision_ = *std::move(precision);
  for (const auto& [text, option, list] : {std::tuple{&q.max_memory, "--max-memory", &s.setting_.max_memory},
                                           std::tuple{&q.reserve, "--reserve", &s.setting_.reserve}}) {
    if (text->empty()) continue;
    auto parsed = parse_device_list(*text, option);
    if (!parsed) return parsed.propagate();
    *list = *std::move(parsed);
  }
  s.setting_.staging_slots = q.staging_slots;
  s.setting_.use_disk = !q.offload_folder.empty();
  auto chain = chain_of(q.model);
  if (!chain) return chain.propagate();
  if (*chain) {
    if (auto foreign = refuse_for_chain(q)) return *foreign;
    s.chain_ = std::move(*chain);
    s.setting_.topology = s.chain_->topology;
    s.setting_.use_disk = true;
    s.setting_.staging_slots = 0;
  } else {
    auto machine = q.topology.empty() && !s.setting_.max_memory.empty()
                       ? machine_of_budgets(s.setting_.max_memory)
                       : choose_machine(q.topology.empty() ? "auto" : q.topology, q.gpu);
    if (!machine) return machine.propagate();
    s.setting_.topology = std::move(machine->topology);
    s.notes_ = std::move(machine->notes);
    if (auto valid = berth::validate(s.setting_.topology); !valid) return valid.propagate();
    auto model = load(q.model);
    if (!model) return model.propagate();
    s.model_ = *std::move(model);
  }
  auto w = s.workload_of();
  if (!w) return w.propagate();
  s.setting_.workload = *w;
  return s;
}

result<berth::workload> session::workload_of() const {
  const auto& q = question_;
  auto w = chain_ ? chain_->workload : berth::workload{};
  auto objective = objective_of(q.objective, chain_ ? chain_->workload.objective : berth::objective::latency);
  if (!objective) return objective.propagate();
  w.objective = *objective;
  const auto number = [](const std::string& text, std::string_view option, std::uint64_t& out) -> result<berth::done> {
    if (text.empty()) return berth::done{};
    auto n = parse_tokens(text, option);
    if (!n) return n.propagate();
    out = *n;
    return berth::done{};
  };
  if (chain_) {
    if (auto r = number(q.generate, "--generate", w.generate); !r) return r.propagate();
    return w;
  }
  w.context = max_context() == 0 ? default_context : std::min(default_context, max_context());
  w.prompt = default_prompt;
  w.generate = default_generate;
  for (const auto& [text, option, out] :
       {std::tuple{&q.context, "--context", &w.context}, std::tuple{&q.batch, "--batch", &w.batch},
        std::tuple{&q.prompt, "--prompt", &w.prompt}, std::tuple{&q.generate, "--generate", &w.generate}})
    if (auto r = number(*text, option, *out); !r) return r.propagate();
  if (w.batch == 0) return fail(errc::invalid_argument, "--batch", "must be at least 1");
  // A short context shortens what was not asked for.
  if (w.context > 0 && q.generate.empty() && w.prompt + w.generate > w.context)
    w.generate = q.prompt.empty()       ? std::min(w.generate, w.context / 4)
                 : w.context > w.prompt ? w.context - w.prompt
                                        : 0;
  if (w.context > 0 && q.prompt.empty() && w.prompt + w.generate > w.context)
    w.prompt = w.context > w.generate ? w.context - w.generate : 1;
  if (w.context > 0 && w.prompt + w.generate > w.context)
    return fail(errc::invalid_argument, "--context",
                berth::text<192>("a prompt of ")
                    .append(w.prompt)
                    .append(" and ")
                    .append(w.generate)
                    .append(" generated tokens do not fit a context of ")
                    .append(w.context)
                    .append("; raise it or shorten them"));
  return w;
}

result<strategy_choice> session::choice(const std::string& word) const {
  const auto& q = question_;
  auto out = parse_strategy(!word.empty() ? word : q.quantize == "int8" ? "current" : "auto");
  if (!out) return out;
  out->interval_only = q.placement == "interval";
  if (out->interval_only && out->name != "auto")
    return fail(errc::invalid_argument, "--placement", "interval is a wish about --strategy auto");
  if (!q.complete.empty()) {
    if (out->name == "manual")
      return fail(errc::invalid_argument, "--complete", "give the map either as manual:FILE or here, not both");
    auto map = read_map_file(q.complete);
    if (!map) return map.propagate();
    out->fixed = *std::move(map);
  }
  for (const auto& pin : q.pins) {
    auto pairs = split_pairs(pin, "--pin");
    if (!pairs) return pairs.propagate();
    for (const auto& [prefix, id] : *pairs) {
      if (!berth::device_id::fits(id))
        return fail(errc::unknown_device, "--pin", berth::text<96>(id).append(" is not a device"));
      std::erase_if(out->fixed, [&, p = prefix](const auto& e) { return e.first == p; });
      out->fixed.emplace_back(prefix, berth::device_id(id));
    }
  }
  return out;
}

result<berth::model> session::chain(berth::granularity parts, stored_as how, const berth::workload& w,
                                    const strategy_choice& choice) const {
  auto precision = precision_;
  precision.int8 = how == stored_as::int8;
  const auto& tree = model_->tree();
  auto sizes = berth::apply_precision(tree, model_->sizes, precision);
  if (!sizes) return sizes.propagate();
  berth::derive_options derive;
  derive.no_split = split_words(question_.no_split);
  derive.use_tree_no_split = question_.no_split.empty();
  derive.parts = parts;
  std::unordered_set<std::string_view> names;
  for (const auto& node : tree.modules()) names.insert(node.name);
  for (const auto& t : tree.parameters()) names.insert(t.name);
  for (const auto& t : tree.buffers()) names.insert(t.name);
  for (const auto& [prefix, id] : choice.fixed)
    if (names.contains(prefix)) derive.split_at.push_back(prefix);
  auto out = berth::derive_model(tree, *sizes, derive);
  const auto& a = model_->architecture;
  auto costed = berth::cost_model(out, tree, *sizes, {a.hidden, a.vocabulary, a.layers}, w);
  if (!costed) return costed.propagate();
  return out;
}

result<berth::plan> session::plan_chain(const strategy_choice& choice, const setting& s) const {
  auto p = run_strategy(choice, chain_->model, s.topology, s.options());
  if (!p) return p;
  p->model_id = std::string_view(question_.model);
  p->model_type = "chain";
  p->naming = "chain instance";
  return p;
}

result<berth::plan> session::plan_at(berth::granularity parts, stored_as how, const strategy_choice& choice,
                                     const setting& s) const {
  auto atoms = chain(parts, how, s.workload, choice);
  if (!atoms) return atoms.propagate();
  auto p = run_strategy(choice, *atoms, s.topology, s.options());
  if (!p) return p;
  describe(parts, *p);
  auto stored = precision_;
  stored.int8 = how == stored_as::int8;
  p->precision = std::string_view(berth::words_of(stored));
  return p;
}

/// Blocks, unless parts of blocks are clearly better: they are tried where blocks leave the GPUs, or do not fit.
result<berth::plan> session::best_granularity(stored_as how, const strategy_choice& choice, const setting& s) const {
  const auto& wish = question_.granularity;
  if (wish == "parts") return plan_at(berth::granularity::parts, how, choice, s);
  if (wish == "experts") return plan_at(berth::granularity::experts, how, choice, s);
  auto best = plan_at(berth::granularity::blocks, how, choice, s);
  if (wish == "blocks" || choice.name != "auto") return best;
  if (best && (all_on_gpus(*best) || !best->priced)) return best;
  if (!best && best.error().code != errc::does_not_fit) return best;
  const auto better = [&](const berth::plan& p) {
    return !best || p.times.value < best->times.value * (1 - finer_gain);
  };
  if (auto p = plan_at(berth::granularity::parts, how, choice, s); p && better(*p)) best = std::move(p);
  if (!has_experts(*model_)) return best;
  if (auto atoms = chain(berth::granularity::experts, how, s.workload, choice);
      !atoms || atoms->atoms().size() > most_atoms)
    return best;
  if (auto p = plan_at(berth::granularity::experts, how, choice, s); p && better(*p)) best = std::move(p);
  return best;
}

result<berth::plan> session::plan(const strategy_choice& choice, const setting& s) const {
  auto p = [&]() -> result<berth::plan> {
    if (chain_) return plan_chain(choice, s);
    const auto how = precision_.int8 ? stored_as::int8 : stored_as::native;
    auto out = best_granularity(how, choice, s);
    if (!quantize_if_better()) return out;
    auto quantized = best_granularity(stored_as::int8, choice, s);
    const bool better = quantized && (!out || (quantized->priced && quantized->times.value < out->times.value));
    return better ? std::move(quantized) : std::move(out);
  }();
  if (!p) return p;
  if (choice.interval_only && p->priced && p->certificate.present()) {
    p->certificate.of = berth::plan_class::interval;
    p->certificate.bound = p->certificate.value;
    p->certificate.bound_name = "exact program";
  }
  for (const auto& at : p->placements)
    if (!chain_ && p->devices[at.home].kind == berth::device_kind::disk && question_.offload_folder.empty())
      return fail(errc::invalid_argument, "--offload-folder",
                  "the plan puts weights on the disk; name the folder for them");
  add_warnings(choice, *p);
  return p;
}

void session::describe(berth::granularity parts, berth::plan& p) const {
  const auto& m = *model_;
  p.model_id = std::string_view(m.tree().id);
  p.model_type = std::string_view(m.architecture.model_type);
  p.fingerprint = m.fingerprint;
  p.naming = !m.checkpoint                                   ? "module tree file"
             : m.architecture.how == berth::exactness::exact ? "module tree of transformers"
             : m.architecture.how == berth::exactness::by_count
                 ? "names of the checkpoint (architecture known by its parameter count)"
                 : "names of the checkpoint";
  berth::derive_options options;
  options.no_split = split_words(question_.no_split);
  options.use_tree_no_split = question_.no_split.empty();
  if (parts == berth::granularity::blocks)
    for (const auto& c : berth::effective_no_split(m.tree(), options)) p.no_split.emplace_back(c);
}

std::string session::dtype_words() const {
  if (!model_) return {};
  auto out = question_.dtype.empty() ? model_->tree().dtype_name : question_.dtype;
  if (precision_.int8) out += ", Linear weights int8";
  if (model_->quantization && question_.dtype.empty())
    out += ", stored as " + std::string(berth::describe(model_->quantization->format.encoding));
  return out;
}

void session::add_warnings(const strategy_choice& choice, berth::plan& p) const {
  const auto add = [&](std::string_view text) { p.warnings.push_back(berth::text<416>(text)); };
  if (model_) {
    for (const auto& w : model_->warnings) add(w);
    for (const auto& c : split_words(question_.no_split)) {
      const auto modules = model_->tree().modules();
      if (std::none_of(modules.begin(), modules.end(), [&](const auto& node) { return node.class_name == c; }))
        add("--no-split: the model has no class " + c);
    }
    if (berth::precision_from(p.precision.view()).value_or(berth::precision{}).int8 && quantize_if_better())
      add(std::string("int8 was chosen: ").append(berth::int8_bound_statement));
  }
  if (std::any_of(p.atoms.begin(), p.atoms.end(), [](const auto& a) { return a.parts > 1; }))
    add("single experts are slices of stacked tensors: a device_map with them is not one that transformers "
        "can load; --granularity parts keeps to whole modules");
  const auto entries = entries_of(choice.fixed);
  std::vector<std::uint32_t> unknown(entries.size());
  unknown.resize(berth::unknown_entries(entries, p.model(), unknown));
  std::vector<std::string_view> names;
  for (const auto& atom : p.atoms) names.push_back(atom.name);
  for (const auto i : unknown)
    add(fmt::format("the map's key \"{}\" is not a part of this model; the nearest name is \"{}\"", entries[i].prefix,
                    nearest(entries[i].prefix, names)));
}

}  // namespace tool
