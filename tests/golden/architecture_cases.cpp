// SPDX-License-Identifier: Apache-2.0
// Golden kind "architecture": the module tree that must come out of a config.json.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kinds.hpp"

import berth.formats;

namespace golden {
namespace {

constexpr std::string_view kind = "architecture";

berth::result<berth::json::value> read_json(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  return berth::json::parse(text, path.filename().string(), {.max_depth = 1024, .allow_nonfinite = true});
}

std::string list_of(std::vector<std::string> words) {
  std::sort(words.begin(), words.end());
  std::string out;
  for (const auto& w : words) out += w + " ";
  return out;
}

std::string ties_of(const berth::module_tree& t) {
  std::vector<std::string> ties;
  for (const auto& [target, source] : t.tied_weights_keys) ties.push_back(target + "=" + source);
  return list_of(std::move(ties));
}

std::string tensor_text(const berth::tensor& t, bool is_buffer) {
  std::string out = t.name + "[";
  for (const auto d : t.shape) out += std::to_string(d) + ",";
  out += "]" + std::string(berth::info_of(t.type).torch);
  if (is_buffer) out += t.persistent ? " persistent" : " not persistent";
  return out;
}

/// The first difference between two trees: member, expected, got.
struct difference {
  std::string member, expected, got;
};
using found = std::optional<difference>;

found differs(std::string_view member, const std::string& expected, const std::string& got) {
  if (expected == got) return std::nullopt;
  return difference{std::string(member), expected, got};
}

found compare_headers(const berth::module_tree& want, const berth::module_tree& got) {
  if (auto d = differs("model_type", want.model_type, got.model_type)) return d;
  if (auto d = differs("no_split_modules", list_of(want.no_split_modules), list_of(got.no_split_modules))) return d;
  if (auto d = differs("tied_weights_keys", ties_of(want), ties_of(got))) return d;
  if (auto d = differs("tie_word_embeddings", want.tie_word_embeddings ? "true" : "false",
                       got.tie_word_embeddings ? "true" : "false"))
    return d;
  if (auto d =
          differs("output_embedding", want.output_embedding.value_or("null"), got.output_embedding.value_or("null")))
    return d;
  if (auto d = differs("keep_in_fp32_modules", list_of(want.keep_in_fp32_modules), list_of(got.keep_in_fp32_modules)))
    return d;
  return differs("dtype", want.dtype_name, got.dtype_name);
}

found compare_modules(const berth::module_tree& want, const berth::module_tree& got) {
  const auto text = [](const berth::module_tree& t, std::size_t i) {
    if (i >= t.modules().size()) return std::string("nothing");
    const auto& m = t.modules()[i];
    return m.name + " " + (m.is_alias() ? "= " + t.modules()[m.alias_of].name : m.class_name);
  };
  const auto n = std::max(want.modules().size(), got.modules().size());
  for (std::size_t i = 0; i < n; ++i)
    if (auto d = differs("module " + std::to_string(i), text(want, i), text(got, i))) return d;
  return std::nullopt;
}

/// Tensors in order; storages must be equal up to renumbering.
found compare_tensors(const berth::module_tree& want, const berth::module_tree& got) {
  std::map<berth::storage_id, berth::storage_id> there;
  std::map<berth::storage_id, berth::storage_id> back;
  for (const bool buffers : {false, true}) {
    const auto w = buffers ? want.buffers() : want.parameters();
    const auto g = buffers ? got.buffers() : got.parameters();
    for (std::size_t i = 0; i < std::max(w.size(), g.size()); ++i) {
      const auto expected = i < w.size() ? tensor_text(w[i], buffers) : "nothing";
      const auto actual = i < g.size() ? tensor_text(g[i], buffers) : "nothing";
      if (auto d = differs(buffers ? "buffer" : "parameter", expected, actual)) return d;
      const auto a = there.try_emplace(w[i].storage, g[i].storage).first->second;
      const auto b = back.try_emplace(g[i].storage, w[i].storage).first->second;
      if (a != g[i].storage || b != w[i].storage)
        return difference{"storage of " + w[i].name, std::to_string(w[i].storage), std::to_string(b)};
    }
  }
  return std::nullopt;
}

}  // namespace

void run_architecture_case(const std::filesystem::path& config, const std::filesystem::path& tree, report& out) {
  const auto name = (config.parent_path().filename() / config.filename()).generic_string();
  if (!out.wants(kind, name)) return;
  const auto parsed = read_json(config);
  const auto document = read_json(tree);
  if (!parsed || !document) {
    const auto& why = parsed ? document.error() : parsed.error();
    return out.failed(kind, name, "file", "readable JSON", why.detail.view());
  }
  const auto want = berth::read_module_tree(*document, tree.filename().string());
  if (!want) return out.failed(kind, name, "tree", "a module tree", want.error().detail.view());
  const auto got = berth::build_architecture(*parsed, {.what = name, .load = {}});
  if (!got) {
    if (got.error().code == berth::errc::unknown_architecture)
      return out.skipped(kind, "architecture " + want->model_type + ": not claimed");
    return out.failed(kind, name, "error", "none", got.error().detail.view());
  }
  if (got->how != berth::exactness::exact)
    return out.skipped(kind, "architecture " + want->model_type + ": claimed by parameter count only");
  auto d = compare_headers(*want, got->tree);
  if (!d) d = compare_modules(*want, got->tree);
  if (!d) d = compare_tensors(*want, got->tree);
  if (d) return out.failed(kind, name, d->member, d->expected, d->got);
  out.passed(kind);
}

}  // namespace golden
