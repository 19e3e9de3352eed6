// SPDX-License-Identifier: Apache-2.0
// From a parsed config.json to an architecture: which family, which head, which dtype, then tree and facts.
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

module berth.formats;

import :architecture_entry;

namespace berth {
namespace {

using namespace architectures;

std::string_view string_at(const json::value& v, std::string_view key) {
  const auto* m = v.find(key);
  return m != nullptr && m->if_string() ? std::string_view(*m->if_string()) : std::string_view{};
}

/// The schema of llm-analysis names Hugging Face model types but has keys of its own.
bool is_llm_analysis(const json::value& config) {
  return config.find("hidden_dim") != nullptr && config.find("ffn_embed_dim") != nullptr;
}

/// The first LLaVA releases wrote the language model's keys at the top, under the model type of today's LLaVA.
std::string_view entry_type(const json::value& config, std::string_view model_type) {
  const bool flat = config.find("mm_vision_tower") != nullptr && config.find("text_config") == nullptr;
  return model_type == "llava" && flat ? "llava_llama" : model_type;
}

/// Documents that look like a model's description but are another tool's schema.
failure not_a_config(const json::value& config, std::string_view what) {
  const auto all = [&](std::initializer_list<std::string_view> keys) {
    return std::all_of(keys.begin(), keys.end(), [&](auto k) { return config.find(k) != nullptr; });
  };
  std::string_view reason = "it has no \"model_type\"; berth reads config.json files as transformers writes them";
  if (!config.if_object())
    reason = "a model's config is a JSON object";
  else if (is_llm_analysis(config))
    reason = "this is llm-analysis' own schema; give the model's config.json (with \"model_type\") instead";
  else if (all({"dim", "inter_dim"}))
    reason = "this is a configuration of DeepSeek's inference code; give the Hugging Face config.json instead";
  else if (all({"quantization"}) && config.find("hidden_size") == nullptr)
    reason = "this is an hf_quant_config.json; give the config.json beside it";
  else if (all({"model_config"}) || all({"conv_template"}))
    reason = "this is an mlc-chat-config.json; give the model's config.json instead";
  return fail(errc::unknown_format, what, reason);
}

struct load_dtype {
  dtype type = dtype::f32;
  std::string source = "default";
};

/// dtype, then torch_dtype, at the top, then in text_config; else float32.
result<load_dtype> find_dtype(const json::value& config, const architecture_options& options) {
  if (options.load) return load_dtype{*options.load, "caller"};
  const auto* text = config.find("text_config");
  for (const auto& [object, prefix] :
       {std::pair<const json::value*, std::string_view>{&config, ""}, {text, "text_config."}}) {
    if (object == nullptr) continue;
    for (const std::string_view key : {"dtype", "torch_dtype"}) {
      const auto word = string_at(*object, key);
      if (word.empty() || word == "auto") continue;
      const auto source = std::string(prefix).append(key);
      if (const auto t = dtype_from_torch(word)) return load_dtype{*t, source};
      return fail(errc::malformed, options.what,
                  std::string("\"").append(source).append("\" names the unknown dtype \"").append(word).append("\""));
    }
  }
  return load_dtype{};
}

/// The class that `architectures` names, or "".
std::string_view wanted_class(const json::value& config) {
  const auto* list = config.find("architectures");
  if (list == nullptr || !list->if_array() || list->if_array()->empty()) return {};
  const auto& first = list->if_array()->front();
  return first.if_string() ? std::string_view(*first.if_string()) : std::string_view{};
}

struct head_choice {
  const head* chosen = nullptr;  ///< null: the base model stands alone
  bool known = true;             ///< false: the class is not one of the entry's, the default was taken
};

head_choice choose_head(const scope& s, std::string_view wanted) {
  const auto heads = s.entry().heads;
  for (const auto& h : heads)
    if (with_prefix(s, h.class_name) == wanted) return {&h, true};
  if (heads.empty() || wanted == base_class(s)) return {nullptr, wanted.empty() || wanted == base_class(s)};
  return {&heads.front(), wanted.empty()};
}

std::vector<std::string> sorted(std::vector<std::string> list) {
  std::sort(list.begin(), list.end());
  list.erase(std::unique(list.begin(), list.end()), list.end());
  return list;
}

/// Ties of modules marked "tied": parameters of every copy, in name order, follow the first copy's.
void tie_modules(module_tree& tree, const std::vector<std::string>& modules) {
  if (modules.size() < 2) return;
  const auto first = modules.front() + ".";
  std::vector<std::pair<std::string, std::string>> ties;
  for (std::size_t i = 1; i < modules.size(); ++i)
    for (const auto& p : tree.subtree_parameters(*tree.find_module(modules[i])))
      ties.emplace_back(p.name, first + p.name.substr(modules[i].size() + 1));
  std::sort(ties.begin(), ties.end());
  tree.tied_weights_keys.insert(tree.tied_weights_keys.end(), ties.begin(), ties.end());
}

void read_ties(module_tree& tree, std::string_view ties) {
  for (const auto& l : lines_of(ties)) {
    const auto equals = l.text.find('=');
    tree.tied_weights_keys.emplace_back(trim(l.text.substr(0, equals)), trim(l.text.substr(equals + 1)));
  }
}

void read_facts(scope& s, architecture& a) {
  constexpr std::array<std::string_view, 12> names{"hidden", "layers", "heads",       "kv_heads", "head_dim",
                                                   "ffn",    "vocab",  "max_context", "experts",  "active_experts",
                                                   "tied",   "window"};
  for (const auto name : names) {
    if (!s.defines(name)) continue;
    const scope::binding first_layer(s, "i", 0);
    a.quantities.push_back({std::string(name), s.number(name), s.source_of(name)});
  }
  constexpr std::uint64_t limit = std::uint64_t{1} << 50;
  a.hidden = s.count_or("hidden", 0, limit);
  a.vocabulary = s.count_or("vocab", 0, limit);
  a.max_context = s.count_or("max_context", 0, limit);
}

void add_notes(scope& s, architecture& a) {
  if (s.source_of("hidden") == "default" && s.source_of("layers") == "default")
    a.notes.emplace_back(
        "the config states neither the hidden size nor the number of layers; the family's defaults hold");
  for (const std::string_view key : {"num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules"}) {
    const auto* v = s.config().find(key);
    const auto n = v != nullptr ? v->to_uint64().value_or(0) : 0;
    if (n > 0)
      a.notes.push_back(std::string("the checkpoint may hold ")
                            .append(std::to_string(n))
                            .append(" layers for multi-token prediction (\"")
                            .append(key)
                            .append("\"), which the model does not build"));
  }
}

/// Emits the model into a builder; facts of the blocks land in `a`.
result<module_tree> build_tree(scope& s, const head_choice& choice, dtype load, architecture& a) {
  const auto* h = choice.chosen;
  tree_builder builder(h != nullptr ? with_prefix(s, h->class_name) : base_class(s));
  emission out;
  out.builder = &builder;
  out.load = load;
  if (h != nullptr)
    emit_children(s, out, h->tree);
  else
    emit_base(s, out);
  const bool tied = s.defines("tied") && s.number("tied") != 0;
  if (auto problem = s.problem()) return failure{*problem};
  auto tree = builder.finish();
  if (!tree) return tree;
  tree->model_type = a.model_type;
  tree->no_split_modules = sorted(std::move(out.no_split));
  tree->keep_in_fp32_modules = sorted(std::move(out.keep_in_fp32));
  tree->tie_word_embeddings = tied;
  tree->dtype_name = info_of(load).torch;
  if (h != nullptr && !h->output.empty()) tree->output_embedding = std::string(h->output);
  if (tied && h != nullptr) read_ties(*tree, h->ties);
  if (tied) tie_modules(*tree, out.tied_modules);
  a.layers = std::move(out.layers);
  return tree->tied();
}

}  // namespace

result<architecture> build_architecture(const json::value& config, const architecture_options& options) {
  const auto type = entry_type(config, string_at(config, "model_type"));
  if (type.empty() || is_llm_analysis(config)) return not_a_config(config, options.what);
  const auto* entry = find_family(type);
  if (entry == nullptr)
    return fail(errc::unknown_architecture, type,
                "no entry describes this model type; with tensor names the blocks can be found from structure");
  const auto load = find_dtype(config, options);
  if (!load) return load.propagate();

  scope s(config, *entry, options.what);
  architecture a;
  a.model_type = std::string(canonical_type(*entry));
  a.how = claim_for(*entry, type);
  a.dtype_source = load->source;
  const auto wanted = wanted_class(config);
  const auto choice = choose_head(s, wanted);
  if (!choice.known && !wanted.empty())
    a.notes.push_back(std::string("built as ")
                          .append(choice.chosen != nullptr ? with_prefix(s, choice.chosen->class_name) : base_class(s))
                          .append("; the config names ")
                          .append(wanted));
  read_facts(s, a);
  add_notes(s, a);
  if (config.find("text_config") != nullptr && !s.defines("text") && s.source_of("hidden") == "default")
    return fail(
        errc::unknown_architecture, type,
        "this model type is a language model, but the config nests one in \"text_config\"; the whole has no entry");
  if (auto problem = s.problem()) return failure{*problem};
  auto tree = build_tree(s, choice, load->type, a);
  if (!tree) return tree.propagate();
  a.tree = *std::move(tree);
  return a;
}

std::optional<bytes> kv_bytes_per_token(const architecture& a, const cache_options& options) {
  bytes total = 0;
  for (const auto& layer : a.layers) {
    const auto one = cache_bytes_of(cache_elements_per_token(layer.cache, options), options.width);
    const auto next = one ? checked_add(total, *one) : std::nullopt;
    if (!next) return std::nullopt;
    total = *next;
  }
  return total;
}

std::optional<bytes> cache_bytes(const architecture& a, std::uint64_t tokens, const cache_options& options) {
  bytes total = 0;
  for (const auto& layer : a.layers) {
    const auto one = layer_cache_bytes(layer.cache, tokens, options);
    const auto next = one ? checked_add(total, *one) : std::nullopt;
    if (!next) return std::nullopt;
    total = *next;
  }
  return total;
}

}  // namespace berth
