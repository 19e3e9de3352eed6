// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
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

std::optional<module_index> module_tree::find_module(std::string_view name) const {
  for (std::size_t i = 0; i < modules_.size(); ++i)
    if (modules_[i].name == name) return static_cast<module_index>(i);
  return std::nullopt;
}

const tensor* module_tree::find_tensor(std::string_view name) const {
  for (const auto* list : {&parameters_, &buffers_})
    for (const auto& t : *list)
      if (t.name == name) return &t;
  return nullptr;
}

std::uint64_t module_tree::element_total() const {
  std::unordered_set<storage_id> seen;
  std::uint64_t total = 0;
  for (const auto* list : {&parameters_, &buffers_})
    for (const auto& t : *list)
      if (t.persistent && seen.insert(t.storage).second) total += t.elements;
  return total;
}

bytes module_tree::byte_total() const {
  std::unordered_set<storage_id> seen;
  bytes total = 0;
  for (const auto* list : {&parameters_, &buffers_})
    for (const auto& t : *list)
      if (t.persistent && seen.insert(t.storage).second) total += t.size();
  return total;
}

std::vector<std::vector<std::string>> module_tree::tied_groups() const {
  std::unordered_map<storage_id, std::size_t> group_of;
  std::vector<std::vector<std::string>> groups;
  for (const auto* list : {&parameters_, &buffers_})
    for (const auto& t : *list) {
      auto [it, fresh] = group_of.try_emplace(t.storage, groups.size());
      if (fresh) groups.emplace_back();
      groups[it->second].push_back(t.name);
    }
  std::erase_if(groups, [](const auto& g) { return g.size() < 2; });
  return groups;
}

module_tree module_tree::untied() const {
  module_tree out = *this;
  std::unordered_set<std::string_view> targets;
  for (const auto& [target, source] : tied_weights_keys) targets.insert(target);
  storage_id next = 0;
  for (const auto* list : {&parameters_, &buffers_})
    for (const auto& t : *list) next = std::max(next, t.storage + 1);
  for (auto* list : {&out.parameters_, &out.buffers_})
    for (auto& t : *list)
      if (targets.contains(t.name)) t.storage = next++;
  return out;
}

module_tree module_tree::tied() const {
  module_tree out = *this;
  std::unordered_map<std::string_view, storage_id> storage_of;
  for (const auto* list : {&parameters_, &buffers_})
    for (const auto& t : *list) storage_of.emplace(t.name, t.storage);
  std::unordered_map<std::string_view, std::string_view> source_of(tied_weights_keys.begin(), tied_weights_keys.end());
  for (auto* list : {&out.parameters_, &out.buffers_})
    for (auto& t : *list)
      if (auto it = source_of.find(t.name); it != source_of.end())
        if (auto s = storage_of.find(it->second); s != storage_of.end()) t.storage = s->second;
  return out;
}

tree_builder::tree_builder(std::string_view root_class) {
  module_node root;
  root.class_name = root_class;
  tree_.modules_.push_back(std::move(root));
  open_.push_back(0);
}

void tree_builder::note(errc code, std::string_view subject, std::string_view detail) {
  if (!first_error_) first_error_ = error{code, subject, detail};
}

namespace {
/// parent + "." + name, with the offset of the last component.
std::pair<std::string, std::uint32_t> join(std::string_view parent, std::string_view name) {
  std::string full;
  full.reserve(parent.size() + 1 + name.size());
  full.append(parent);
  if (!parent.empty()) full += '.';
  const auto local = static_cast<std::uint32_t>(full.size());
  full.append(name);
  return {std::move(full), local};
}
}  // namespace

void tree_builder::enter(std::string_view name, std::string_view class_name) {
  const auto parent = open_.back();
  module_node m;
  std::tie(m.name, m.local) = join(tree_.modules_[parent].name, name);
  m.class_name = class_name;
  m.parent = parent;
  m.parameters_begin = static_cast<std::uint32_t>(tree_.parameters_.size());
  m.buffers_begin = static_cast<std::uint32_t>(tree_.buffers_.size());
  if (name.empty()) note(errc::inconsistent_model, tree_.modules_[parent].name, "a child module has an empty name");
  open_.push_back(static_cast<module_index>(tree_.modules_.size()));
  tree_.modules_.push_back(std::move(m));
}

void tree_builder::leave() {
  tree_.modules_[open_.back()].subtree_end = static_cast<module_index>(tree_.modules_.size());
  open_.pop_back();
}

tensor& tree_builder::add(std::vector<tensor>& list, std::string_view name) {
  const auto owner = open_.back();
  auto& node = tree_.modules_[owner];
  const bool is_buffer = &list == &tree_.buffers_;
  tensor t;
  std::tie(t.name, t.local) = join(node.name, name);
  t.owner = owner;
  if (name.empty()) note(errc::inconsistent_model, node.name, "a tensor has an empty name");
  if (owner + 1 != tree_.modules_.size())
    note(errc::inconsistent_model, t.name, "direct tensors of a module must come before its children");
  (is_buffer ? node.direct_buffers : node.direct_parameters) += 1;
  list.push_back(std::move(t));
  return list.back();
}

namespace {
void set_shape(tensor& t, dtype type, std::vector<std::uint64_t> shape, bool& too_large) {
  t.type = type;
  t.shape = std::move(shape);
  const auto n = element_count(t.shape);
  too_large = !n || !storage_bytes(type, *n);
  t.elements = too_large ? 0 : *n;
}
}  // namespace

storage_id tree_builder::parameter(std::string_view name, dtype type, std::vector<std::uint64_t> shape) {
  auto& t = add(tree_.parameters_, name);
  bool too_large = false;
  set_shape(t, type, std::move(shape), too_large);
  if (too_large) note(errc::overflow, t.name, "the tensor is larger than 2^63 bits");
  t.storage = static_cast<storage_id>(storages_.size());
  storages_.push_back({false, static_cast<std::uint32_t>(tree_.parameters_.size() - 1)});
  return t.storage;
}

storage_id tree_builder::buffer(std::string_view name, dtype type, std::vector<std::uint64_t> shape, bool persistent) {
  auto& t = add(tree_.buffers_, name);
  bool too_large = false;
  set_shape(t, type, std::move(shape), too_large);
  if (too_large) note(errc::overflow, t.name, "the tensor is larger than 2^63 bits");
  t.persistent = persistent;
  t.storage = static_cast<storage_id>(storages_.size());
  storages_.push_back({true, static_cast<std::uint32_t>(tree_.buffers_.size() - 1)});
  return t.storage;
}

const tensor* tree_builder::by_storage(storage_id s) const {
  if (s >= storages_.size()) return nullptr;
  return storages_[s].buffer ? &tree_.buffers_[storages_[s].index] : &tree_.parameters_[storages_[s].index];
}

void tree_builder::parameter_again(std::string_view name, storage_id storage) {
  tensor copy;
  if (const auto* first = by_storage(storage)) copy = *first;
  auto& t = add(tree_.parameters_, name);
  t.type = copy.type;
  t.shape = std::move(copy.shape);
  t.elements = copy.elements;
  t.storage = storage;
  if (storage >= storages_.size()) note(errc::inconsistent_model, t.name, "shares a storage that does not exist");
}

void tree_builder::buffer_again(std::string_view name, storage_id storage, bool persistent) {
  tensor copy;
  if (const auto* first = by_storage(storage)) copy = *first;
  auto& t = add(tree_.buffers_, name);
  t.type = copy.type;
  t.shape = std::move(copy.shape);
  t.elements = copy.elements;
  t.storage = storage;
  t.persistent = persistent;
  if (storage >= storages_.size()) note(errc::inconsistent_model, t.name, "shares a storage that does not exist");
}

void tree_builder::alias(std::string_view name, std::string_view target) {
  enter(name, "");
  aliases_.push_back({open_.back(), std::string(target)});
  leave();
}

result<module_tree> tree_builder::finish() {
  while (!open_.empty()) leave();
  if (!aliases_.empty()) {
    std::unordered_map<std::string_view, module_index> by_name;
    for (std::size_t i = 0; i < tree_.modules_.size(); ++i)
      by_name.emplace(tree_.modules_[i].name, static_cast<module_index>(i));
    for (const auto& a : aliases_) {
      auto it = by_name.find(a.target);
      auto& node = tree_.modules_[a.at];
      if (it == by_name.end() || it->second == a.at) {
        note(errc::inconsistent_model, node.name, "is an alias of a module that does not exist");
        continue;
      }
      const auto& target = tree_.modules_[it->second];
      if (target.parent == none && a.target.empty())
        note(errc::inconsistent_model, node.name, "is an alias of the root");
      node.alias_of = it->second;
      node.class_name = target.class_name;
    }
  }
  // Duplicate child names would make dotted names ambiguous.
  std::unordered_set<std::string_view> names;
  names.reserve(tree_.modules_.size() + tree_.parameters_.size() + tree_.buffers_.size());
  for (std::size_t i = 1; i < tree_.modules_.size(); ++i)
    if (!names.insert(tree_.modules_[i].name).second)
      note(errc::inconsistent_model, tree_.modules_[i].name, "two children have the same name");
  for (const auto* list : {&tree_.parameters_, &tree_.buffers_})
    for (const auto& t : *list)
      if (!names.insert(t.name).second) note(errc::inconsistent_model, t.name, "two tensors have the same name");
  if (first_error_) return failure{*first_error_};
  return std::move(tree_);
}

}  // namespace berth
