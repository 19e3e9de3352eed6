// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.formats;

namespace berth {
namespace {

/// Deepest name that is taken apart; real ones have about a dozen components.
constexpr std::size_t max_components = 64;

bool is_number(std::string_view s) {
  return !s.empty() && s.size() <= 9 && std::ranges::all_of(s, [](char c) { return c >= '0' && c <= '9'; });
}

/// Numbers by value, words by letter, numbers first.
struct natural_order {
  bool operator()(std::string_view a, std::string_view b) const {
    if (is_number(a) != is_number(b)) return is_number(a);
    if (is_number(a) && a.size() != b.size()) return a.size() < b.size();
    return a < b;
  }
};

struct node {
  std::map<std::string_view, node, natural_order> children;
  std::vector<std::pair<std::string_view, const stored_tensor*>> tensors;
  bool is_block = false;

  /// The names below, without the numbers of the node itself: equal for repeated blocks.
  void signature(std::string& out) const {
    std::set<std::string_view> locals;
    for (const auto& [name, t] : tensors) locals.insert(name);
    for (const auto name : locals) out.append(name).append(1, ';');
    for (const auto& [name, child] : children) {
      out.append(name).append(1, '(');
      child.signature(out);
      out.append(1, ')');
    }
  }
};

bool contains_any(std::string_view s, std::span<const std::string_view> words) {
  return std::ranges::any_of(words, [&](std::string_view w) { return s.find(w) != std::string_view::npos; });
}

/// Where a child stands in the order of execution among its siblings.
int stage(std::string_view name) {
  constexpr std::array<std::string_view, 6> embedding{"embed", "wte", "wpe", "shared", "embd", "tokens"};
  constexpr std::array<std::string_view, 6> first{"vision", "visual", "image", "audio", "encoder", "vit"};
  constexpr std::array<std::string_view, 3> bridge{"project", "merger", "connector"};
  constexpr std::array<std::string_view, 5> last{"head", "output", "classifier", "score", "logit"};
  constexpr std::array<std::string_view, 4> final_norm{"norm", "ln_f", "final", "ln_post"};
  if (contains_any(name, last)) return 7;
  if (name.find("decoder") != std::string_view::npos) return 5;
  if (contains_any(name, embedding)) return 1;
  if (contains_any(name, first)) return 2;
  if (contains_any(name, bridge)) return 3;
  if (contains_any(name, final_norm)) return 6;
  return 4;
}

/// Marks the outermost lists of numbered children most of which repeat each other.
void mark_blocks(node& n) {
  std::set<std::string> kinds;
  std::size_t numbered = 0;
  bool nested = false;
  for (const auto& [name, child] : n.children) {
    if (!is_number(name)) continue;
    ++numbered;
    nested = nested || !child.children.empty();
    std::string s;
    child.signature(s);
    kinds.insert(std::move(s));
  }
  // A projector's two or three Linears are numbered too, but hold no modules.
  const bool repeats = numbered >= 2 && numbered == n.children.size() && nested && kinds.size() <= numbered / 2;
  for (auto& [name, child] : n.children)
    if (repeats)
      child.is_block = true;
    else
      mark_blocks(child);
}

std::string_view leaf_class(const node& n, std::string_view name) {
  constexpr std::array<std::string_view, 5> embedding{"embed", "wte", "wpe", "embd", "shared"};
  for (const auto& [local, t] : n.tensors) {
    if (local != "weight") continue;
    switch (t->shape.size()) {
      case 1:
        return "Norm";
      case 2:
        return contains_any(name, embedding) ? "Embedding" : "Linear";
      case 3:
        return "Conv1d";
      case 4:
        return "Conv2d";
      case 5:
        return "Conv3d";
      default:
        break;
    }
  }
  return "Module";
}

std::string_view class_of(const node& n, std::string_view name) {
  if (n.is_block) return structural_block;
  if (n.children.empty()) return leaf_class(n, name);
  const bool list = std::ranges::all_of(n.children, [](const auto& c) { return is_number(c.first); });
  return list && n.tensors.empty() ? "ModuleList" : "Module";
}

void build(const node& n, tree_builder& out) {
  auto tensors = n.tensors;
  std::ranges::sort(tensors, {}, [](const auto& t) { return std::pair(t.first != "weight", t.first); });
  for (const auto& [local, t] : tensors) out.parameter(local, t->type, t->shape);
  std::vector<const std::pair<const std::string_view, node>*> order;
  for (const auto& c : n.children) order.push_back(&c);
  const auto rank = [](const auto* c) { return is_number(c->first) ? 4 : stage(c->first); };
  std::ranges::sort(order, [&](const auto* a, const auto* b) {
    return rank(a) != rank(b) ? rank(a) < rank(b) : natural_order{}(a->first, b->first);
  });
  for (const auto* c : order) {
    out.enter(c->first, class_of(c->second, c->first));
    build(c->second, out);
    out.leave();
  }
}

/// Puts a tensor below the module that its name says. A name that continues another tensor's name (the scales of
/// "w.weight" called "w.weight.absmax") stays beside it.
void insert(node& root, const stored_tensor& t, const std::unordered_set<std::string_view>& names) {
  node* at = &root;
  std::size_t begin = 0;
  for (auto dot = t.name.find('.'); dot != std::string::npos; dot = t.name.find('.', begin)) {
    const std::string_view name(t.name);
    if (names.contains(name.substr(0, dot))) break;
    at = &at->children[name.substr(begin, dot - begin)];
    begin = dot + 1;
  }
  at->tensors.emplace_back(std::string_view(t.name).substr(begin), &t);
}

}  // namespace

result<module_tree> tree_from_names(std::span<const stored_tensor> tensors, std::string_view what) {
  if (tensors.empty()) return fail(errc::inconsistent_model, what, "the checkpoint holds no tensors");
  std::unordered_set<std::string_view> names;
  for (const auto& t : tensors) {
    names.insert(t.name);
    if (static_cast<std::size_t>(std::ranges::count(t.name, '.')) >= max_components)
      return fail(errc::malformed, what,
                  text<416>("the name \"").append(t.name.substr(0, 120)).append("\" is too deep"));
  }
  node root;
  for (const auto& t : tensors) insert(root, t, names);
  mark_blocks(root);
  tree_builder builder("Model");
  builder.tree().no_split_modules = {std::string(structural_block)};
  for (const auto* head : {"lm_head", "output", "embed_out"})
    if (names.contains(std::string(head) + ".weight")) builder.tree().output_embedding = head;
  build(root, builder);
  auto tree = builder.finish();
  if (!tree)
    return fail(errc::malformed, what,
                text<416>("no module tree has these tensor names: ")
                    .append(tree.error().subject.view())
                    .append(" ")
                    .append(tree.error().detail.view()));
  return tree;
}

}  // namespace berth
