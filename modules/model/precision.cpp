// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.model;

namespace berth {

tensor_sizes native_sizes(const module_tree& tree) {
  tensor_sizes out;
  out.parameters.reserve(tree.parameters().size());
  out.buffers.reserve(tree.buffers().size());
  for (const auto& t : tree.parameters()) out.parameters.push_back(t.size());
  for (const auto& t : tree.buffers()) out.buffers.push_back(t.size());
  return out;
}

namespace {

constexpr bool is_linear_class(std::string_view c) { return c == "Linear" || c == "Conv1D"; }

/// Storages used under more than one parameter name: int8 would change a weight that another module reads as it is.
std::unordered_set<storage_id> tied_storages(const module_tree& tree) {
  std::unordered_map<storage_id, int> uses;
  for (const auto& t : tree.parameters()) ++uses[t.storage];
  std::unordered_set<storage_id> out;
  for (const auto& [storage, n] : uses)
    if (n > 1) out.insert(storage);
  return out;
}

/// The weight that int8 converts in module `m`, or null.
const tensor* convertible_weight(const module_tree& tree, module_index m, const precision& p,
                                 const std::unordered_set<storage_id>& tied) {
  const auto& node = tree.modules()[m];
  if (node.is_alias() || !is_linear_class(node.class_name)) return nullptr;
  const auto direct = tree.direct_parameters(m);
  const auto weight =
      std::find_if(direct.begin(), direct.end(), [](const auto& t) { return t.local_name() == "weight"; });
  if (weight == direct.end() || weight->shape.size() != 2 || !is_floating(weight->type)) return nullptr;
  if (p.int8_skip) {
    for (const auto& skip : *p.int8_skip)
      if (is_dotted_prefix(skip, node.name)) return nullptr;
  } else if ((tree.output_embedding && node.name == *tree.output_embedding) || tied.contains(weight->storage)) {
    return nullptr;
  }
  return &*weight;
}

/// Conv1D keeps its weight as [in, out]; Linear as [out, in].
std::uint64_t output_rows(const module_node& node, const tensor& weight) {
  return node.class_name == "Conv1D" ? weight.shape[1] : weight.shape[0];
}

std::optional<dtype> wanted_type(const tensor& t, const precision& p, std::vector<bool>& used) {
  std::optional<dtype> best = p.load;
  std::size_t best_length = 0;
  bool overridden = false;
  for (std::size_t i = 0; i < p.overrides.size(); ++i) {
    const auto& [prefix, type] = p.overrides[i];
    if (!is_dotted_prefix(prefix, t.name)) continue;
    used[i] = true;
    if (overridden && prefix.size() < best_length) continue;
    overridden = true;
    best = type;
    best_length = prefix.size();
  }
  return best;
}

}  // namespace

result<tensor_forms> apply_forms(const module_tree& tree, const tensor_sizes& sizes, const precision& p) {
  std::vector<bool> used(p.overrides.size());
  const auto convert = [&](std::span<const tensor> list, const std::vector<bytes>& stored) {
    std::vector<tensor_form> out(list.size());
    for (std::size_t i = 0; i < list.size(); ++i) {
      out[i].type = list[i].type;
      out[i].packed = stored[i] != list[i].size();
      const auto wanted = wanted_type(list[i], p, used);
      if (wanted && is_floating(list[i].type) && !out[i].packed) out[i].type = *wanted;
    }
    return out;
  };
  tensor_forms out{convert(tree.parameters(), sizes.parameters), convert(tree.buffers(), sizes.buffers)};
  for (std::size_t i = 0; i < used.size(); ++i)
    if (!used[i])
      return fail(errc::invalid_argument, p.overrides[i].first, "this dtype override matches no tensor of the model");
  if (!p.int8) return out;
  const auto tied = tied_storages(tree);
  for (std::size_t m = 0; m < tree.modules().size(); ++m) {
    const auto* weight = convertible_weight(tree, static_cast<module_index>(m), p, tied);
    if (weight == nullptr) continue;
    const auto index = static_cast<std::size_t>(weight - tree.parameters().data());
    auto& form = out.parameters[index];
    const auto size = form.packed ? sizes.parameters[index] : (weight->elements * bits_of(form.type) + 7) / 8;
    if (size < weight->elements) continue;  // stored in fewer bits already
    form.int8 = true;
    form.packed = false;
    form.rows = output_rows(tree.modules()[m], *weight);
    form.by_column = tree.modules()[m].class_name == "Conv1D";
  }
  return out;
}

result<tensor_sizes> apply_precision(const module_tree& tree, tensor_sizes sizes, const precision& p) {
  const auto forms = apply_forms(tree, sizes, p);
  if (!forms) return forms.propagate();
  const auto resize = [](std::span<const tensor> list, const std::vector<tensor_form>& how, std::vector<bytes>& out) {
    for (std::size_t i = 0; i < list.size(); ++i)
      if (how[i].int8)
        out[i] = list[i].elements + how[i].rows * sizeof(float);
      else if (!how[i].packed)
        out[i] = (list[i].elements * bits_of(how[i].type) + 7) / 8;
  };
  resize(tree.parameters(), forms->parameters, sizes.parameters);
  resize(tree.buffers(), forms->buffers, sizes.buffers);
  return sizes;
}

std::string words_of(const precision& p) {
  std::string out;
  const auto add = [&](std::string_view word) {
    if (!out.empty()) out += ' ';
    out += word;
  };
  if (p.load) add(info_of(*p.load).torch);
  if (p.int8) add("int8");
  for (const auto& [prefix, type] : p.overrides) add(prefix + "=" + std::string(info_of(type).torch));
  if (p.int8 && p.int8_skip) {
    std::string names = "skip=";
    for (const auto& name : *p.int8_skip) names += (names.size() > 5 ? "," : "") + name;
    add(names);
  }
  return out;
}

std::optional<precision> precision_from(std::string_view words) {
  precision out;
  while (!words.empty()) {
    const auto word = words.substr(0, words.find(' '));
    words.remove_prefix(std::min(words.size(), word.size() + 1));
    const auto equals = word.find('=');
    if (word == "int8") {
      out.int8 = true;
    } else if (equals == std::string_view::npos) {
      out.load = dtype_from_torch(word);
      if (!out.load) return std::nullopt;
    } else if (word.substr(0, equals) == "skip") {
      auto names = word.substr(equals + 1);
      auto& skip = out.int8_skip.emplace();
      while (!names.empty()) {
        skip.emplace_back(names.substr(0, names.find(',')));
        names.remove_prefix(std::min(names.size(), skip.back().size() + 1));
      }
    } else {
      const auto type = dtype_from_torch(word.substr(equals + 1));
      if (!type) return std::nullopt;
      out.overrides.emplace_back(word.substr(0, equals), *type);
    }
  }
  return out;
}

std::vector<std::string> int8_modules(const module_tree& tree, const precision& p) {
  std::vector<std::string> out;
  if (!p.int8) return out;
  const auto tied = tied_storages(tree);
  for (std::size_t m = 0; m < tree.modules().size(); ++m)
    if (convertible_weight(tree, static_cast<module_index>(m), p, tied) != nullptr)
      out.push_back(tree.modules()[m].name);
  return out;
}

}  // namespace berth
