// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

module berth.compat;

import berth.model;
import :nodes;

namespace berth::hf {
namespace {

constexpr std::size_t max_alias_depth = 64;
constexpr std::size_t max_alias_names = std::size_t{1} << 22;

using visitor = std::function<void(std::string_view, const tensor&, bool)>;

/// The walk without de-duplication; counts the names below aliases so that nested ones cannot explode.
class registered_walk {
 public:
  registered_walk(const module_tree& tree, const visitor& visit) : tree_(tree), visit_(visit) {}

  bool subtree(module_index top, std::string_view shown_as, std::size_t depth) {
    if (depth > max_alias_depth) return false;
    const auto modules = tree_.modules();
    const auto skip = modules[top].name.size();
    for (auto m = top; m < modules[top].subtree_end; ++m) {
      if (modules[m].is_alias() && m != top) {
        if (!subtree(modules[m].alias_of, renamed(shown_as, modules[m].name, skip), depth + 1)) return false;
        continue;
      }
      if (modules[m].is_alias()) return subtree(modules[m].alias_of, shown_as, depth + 1);
      if (depth > 0 && ++below_aliases_ > max_alias_names) return false;
      show(tree_.direct_parameters(m), shown_as, skip, depth, false);
      show(tree_.direct_buffers(m), shown_as, skip, depth, true);
    }
    return true;
  }

 private:
  static std::string renamed(std::string_view shown_as, std::string_view name, std::size_t skip) {
    return std::string(shown_as).append(name.substr(skip));
  }
  void show(std::span<const tensor> list, std::string_view shown_as, std::size_t skip, std::size_t depth,
            bool buffers) {
    for (const auto& t : list) {
      if (depth == 0)
        visit_(t.name, t, buffers);
      else
        visit_(renamed(shown_as, t.name, skip), t, buffers);
    }
  }

  const module_tree& tree_;
  const visitor& visit_;
  std::size_t below_aliases_ = 0;
};

/// The walk of one module with de-duplication of module objects.
class distinct_walk {
 public:
  using visitor = std::function<void(std::string_view, const tensor&)>;
  distinct_walk(const module_tree& tree, tensor_kind kind, const visitor& visit)
      : tree_(tree), kind_(kind), visit_(visit) {}

  /// `shown_as` is the name of `top` with a dot behind it, or empty.
  void subtree(module_index top, const std::string& shown_as) {
    const auto modules = tree_.modules();
    const auto skip = modules[top].name.size() + (top == 0 ? 0 : 1);
    for (auto m = top; m < modules[top].subtree_end;) {
      if (modules[m].is_alias()) {
        auto target = modules[m].alias_of;
        while (modules[target].is_alias()) target = modules[target].alias_of;
        subtree(target, (shown_as + modules[m].name.substr(std::min(skip, modules[m].name.size()))).append("."));
        ++m;
      } else if (!visited_.insert(m).second) {
        m = modules[m].subtree_end;
      } else {
        for (const auto& t : kind_ == tensor_kind::parameters ? tree_.direct_parameters(m) : tree_.direct_buffers(m))
          visit_(shown_as + t.name.substr(skip), t);
        ++m;
      }
    }
  }

 private:
  const module_tree& tree_;
  tensor_kind kind_;
  const visitor& visit_;
  std::unordered_set<module_index> visited_;
};

failure endless_aliases() {
  return fail(errc::peer_failure, "RecursionError",
              "modules are registered inside themselves (or thousands of times); the peer's walk over all names does "
              "not end here either. Give the module tree without these aliases");
}

}  // namespace

result<done> visit_registered(const module_tree& tree, const visitor& visit) {
  if (!registered_walk(tree, visit).subtree(0, "", 0)) return endless_aliases();
  return done{};
}

void visit_below(const module_tree& tree, module_index top, tensor_kind kind, const distinct_walk::visitor& visit) {
  const auto modules = tree.modules();
  const auto& m = modules[top];
  const auto subtree = modules.subspan(top, m.subtree_end - top);
  if (std::any_of(subtree.begin(), subtree.end(), [](const module_node& n) { return n.is_alias(); }))
    return distinct_walk(tree, kind, visit).subtree(top, "");
  const auto skip = m.name.size() + (top == 0 ? 0 : 1);
  for (const auto& t : kind == tensor_kind::parameters ? tree.subtree_parameters(top) : tree.subtree_buffers(top))
    visit(std::string_view(t.name).substr(skip), t);
}

result<done> check_tree(const module_tree& tree) {
  if (tree.modules().empty()) return fail(errc::invalid_argument, "module tree", "the tree has no root module");
  const auto modules = tree.modules();
  if (std::none_of(modules.begin(), modules.end(), [](const module_node& m) { return m.is_alias(); })) return done{};
  return visit_registered(tree, [](std::string_view, const tensor&, bool) {});
}

node_table::node_table(const module_tree& tree)
    : tree_(&tree),
      modules_end_(static_cast<node>(tree.modules().size())),
      parameters_end_(modules_end_ + static_cast<node>(tree.parameters().size())),
      buffers_end_(parameters_end_ + static_cast<node>(tree.buffers().size())) {
  for (const auto& m : tree.modules()) has_aliases_ = has_aliases_ || m.is_alias();
  for (const auto list : {tree.parameters(), tree.buffers()}) {
    std::vector<bool> seen;
    for (const auto& t : list) {
      if (t.storage >= seen.size()) seen.resize(std::size_t{t.storage} * 2 + 64);
      has_shared_ = has_shared_ || seen[t.storage];
      seen[t.storage] = true;
    }
  }
}

node_table::~node_table() = default;

std::string_view node_table::name(node n) const {
  if (n < modules_end_) return tree_->modules()[n].name;
  if (n < parameters_end_) return tree_->parameters()[n - modules_end_].name;
  if (n < buffers_end_) return tree_->buffers()[n - parameters_end_].name;
  return extra_[n - buffers_end_].name;
}

module_index node_table::resolved(module_index m) const {
  while (tree_->modules()[m].is_alias()) m = tree_->modules()[m].alias_of;
  return m;
}

module_index node_table::object(node n) const {
  return resolved(n < modules_end_ ? n : extra_[n - buffers_end_].target);
}

node node_table::parent(node n) const {
  if (n < modules_end_) return tree_->modules()[n].parent;
  if (n < parameters_end_) return tree_->parameters()[n - modules_end_].owner;
  if (n < buffers_end_) return tree_->buffers()[n - parameters_end_].owner;
  return extra_[n - buffers_end_].parent;
}

node node_table::find_extra(std::string_view name) const {
  const auto it = extra_by_name_.find(name);
  return it == extra_by_name_.end() ? none : it->second;
}

node node_table::extra(node parent, std::string_view local, bool is_module, std::uint32_t target) {
  auto full = std::string(name(parent)).append(".").append(local);
  if (const auto known = find_extra(full); known != none) return known;
  const auto n = static_cast<node>(size());
  extra_.push_back({std::move(full), is_module, target, parent});
  extra_by_name_.emplace(extra_.back().name, n);
  return n;
}

node_list node_table::children(node n) {
  node_list out;
  if (!is_module(n)) return out;
  const auto from = object(n);
  const bool original = is_original(n);
  std::unordered_set<module_index> seen;
  for (auto c = tree_->first_child(from); c != none; c = tree_->next_sibling(c)) {
    if (has_aliases_ && !seen.insert(resolved(c)).second) continue;
    out.push_back(original ? c : extra(n, tree_->modules()[c].local_name(), true, c));
  }
  return out;
}

std::vector<std::uint32_t> node_table::distinct(std::span<const tensor> direct) const {
  std::vector<std::uint32_t> out;
  std::unordered_set<storage_id> seen;
  for (std::uint32_t i = 0; i < direct.size(); ++i)
    if (!has_shared_ || seen.insert(direct[i].storage).second) out.push_back(i);
  return out;
}

node_list node_table::split(node n) {
  node_list out;
  const auto from = object(n);
  const auto direct = tree_->direct_parameters(from);
  const auto first = modules_end_ + tree_->modules()[from].parameters_begin;
  for (const auto i : distinct(direct))
    out.push_back(is_original(n) ? first + i : extra(n, direct[i].local_name(), false, 0));
  const auto below = children(n);
  out.insert(out.end(), below.begin(), below.end());
  return out;
}

node_list node_table::tensors_below(node n, tensor_kind kind) {
  node_list out;
  std::unordered_set<storage_id> seen;
  const auto* list = kind == tensor_kind::parameters ? tree_->parameters().data() : tree_->buffers().data();
  const auto first = kind == tensor_kind::parameters ? modules_end_ : parameters_end_;
  visit_below(*tree_, object(n), kind, [&](std::string_view relative, const tensor& t) {
    if (!seen.insert(t.storage).second) return;
    const bool own_name = is_original(n) && t.name.size() == name(n).size() + 1 + relative.size() &&
                          std::string_view(t.name).starts_with(name(n));
    out.push_back(own_name ? first + static_cast<node>(&t - list) : extra(n, relative, false, 0));
  });
  return out;
}

node_list node_table::first_list() {
  auto list = split(0);
  for (const auto i : distinct(tree_->direct_buffers(0))) list.push_back(parameters_end_ + i);
  return list;
}

}  // namespace berth::hf
