// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.model;

import :roles;

namespace berth {

std::vector<std::string> effective_no_split(const module_tree& tree, const derive_options& options) {
  auto out = options.no_split;
  if (options.use_tree_no_split) out.insert(out.end(), tree.no_split_modules.begin(), tree.no_split_modules.end());
  return out;
}

namespace {

inline constexpr bytes tensor_alignment = 256;

/// One walk over the tree that appends atoms and remembers which storages each of them used.
class deriver {
 public:
  deriver(const module_tree& tree, const tensor_sizes& sizes, const derive_options& options)
      : tree_(tree), sizes_(sizes), parts_(options.parts) {
    for (auto& c : effective_no_split(tree, options)) no_split_.insert(std::move(c));
    for (const auto& name : options.split_at)
      for (auto dot = name.rfind('.'); dot != std::string::npos && dot > 0; dot = name.rfind('.', dot - 1)) {
        split_above_.insert(name.substr(0, dot));
      }
    if (!options.split_at.empty()) split_above_.insert(std::string());
  }

  model run() {
    if (parts_ == granularity::experts) count_uses();
    if (splits_as_block(0))
      split_block(0);
    else if (keep_whole(0))
      module_atom(0);
    else
      split(0);
    out_.set_ties(shared_uses());
    return std::move(out_);
  }

 private:
  bool keep_whole(module_index m) const {
    const auto& node = tree_.modules()[m];
    if (tree_.first_child(m) == none) return !split_above_.contains(node.name);
    return no_split_.contains(node.class_name) && !split_above_.contains(node.name);
  }

  void split(module_index m) {
    for (const auto& t : tree_.direct_parameters(m)) tensor_atom(t, false);
    for (const auto& t : tree_.direct_buffers(m)) tensor_atom(t, true);
    // "final_layer_norm" may be registered before the blocks that it follows (OPT).
    std::vector<module_index> late;
    bool has_list = false;
    for (auto c = tree_.first_child(m); c != none; c = tree_.next_sibling(c))
      has_list = has_list || tree_.modules()[c].class_name == "ModuleList";
    for (auto c = tree_.first_child(m); c != none; c = tree_.next_sibling(c)) {
      if (has_list && tree_.modules()[c].local_name().substr(0, 5) == "final")
        late.push_back(c);
      else
        child(c);
    }
    for (const auto c : late) child(c);
  }

  void child(module_index c) {
    if (tree_.modules()[c].is_alias()) return;  // the same object is placed under its first name
    if (splits_as_block(c))
      split_block(c);
    else if (keep_whole(c))
      module_atom(c);
    else
      split(c);
  }

  module_role role(module_index m) const {
    const auto& node = tree_.modules()[m];
    return role_of(node.class_name, node.local_name());
  }
  bool is_bundle(module_index m) const {
    const auto& node = tree_.modules()[m];
    return is_expert_bundle(node.class_name, node.local_name());
  }

  /// Attention or a feed-forward part among the children, or one list further down (T5).
  bool has_parts(module_index m, bool below_list = false) const {
    for (auto c = tree_.first_child(m); c != none; c = tree_.next_sibling(c)) {
      const auto r = role(c);
      if (attends(r) || r == module_role::ffn) return true;
      if (!below_list && tree_.modules()[c].class_name == "ModuleList" && has_parts(c, true)) return true;
    }
    return false;
  }

  /// A no-split module that `parts_` takes apart by what its parts do; keys of a map split it in the plain way.
  bool splits_as_block(module_index m) const {
    const auto& node = tree_.modules()[m];
    return parts_ != granularity::blocks && no_split_.contains(node.class_name) && !split_above_.contains(node.name) &&
           tree_.first_child(m) != none && has_parts(m);
  }

  /// Children in the order in which they run. Aliases, and modules without tensors, are no parts.
  template <class Stage>
  std::vector<module_index> ordered_children(module_index m, Stage stage) const {
    std::vector<module_index> out;
    for (auto c = tree_.first_child(m); c != none; c = tree_.next_sibling(c))
      if (!tree_.modules()[c].is_alias() && !(tree_.subtree_parameters(c).empty() && tree_.subtree_buffers(c).empty()))
        out.push_back(c);
    const auto key = [&](module_index c) {
      return stage(std::string_view(tree_.modules()[c].class_name), tree_.modules()[c].local_name());
    };
    // Indices are in tree order, which decides among equal stages.
    std::sort(out.begin(), out.end(), [&](auto a, auto b) { return std::pair(key(a), a) < std::pair(key(b), b); });
    return out;
  }

  void split_block(module_index m) {
    for (const auto& t : tree_.direct_parameters(m)) tensor_atom(t, false);
    for (const auto& t : tree_.direct_buffers(m)) tensor_atom(t, true);
    for (const auto c : ordered_children(m, stage_of)) {
      const auto& node = tree_.modules()[c];
      const auto r = role(c);
      const bool container = node.class_name == "ModuleList" || no_split_.contains(node.class_name) || has_parts(c);
      if (split_above_.contains(node.name))
        split(c);
      else if (r == module_role::ffn)
        feed_forward(c);
      else if (r == module_role::other && container && tree_.first_child(c) != none)
        split_block(c);
      else
        module_atom(c);
    }
  }

  /// An MLP stays whole; a mixture becomes router, experts and shared expert.
  void feed_forward(module_index m) {
    if (is_bundle(m)) return bundle(m);
    const auto children = ordered_children(m, mixture_stage_of);
    if (std::none_of(children.begin(), children.end(), [&](auto c) { return is_bundle(c); })) return module_atom(m);
    for (const auto& t : tree_.direct_parameters(m)) tensor_atom(t, false);
    for (const auto& t : tree_.direct_buffers(m)) tensor_atom(t, true);
    for (const auto c : children) {
      if (split_above_.contains(tree_.modules()[c].name))
        split(c);
      else if (is_bundle(c))
        bundle(c);
      else
        module_atom(c);
    }
  }

  void bundle(module_index m) {
    if (parts_ != granularity::experts) return module_atom(m);
    if (tree_.modules()[m].class_name == "ModuleList" && tree_.first_child(m) != none) {
      for (auto c = tree_.first_child(m); c != none; c = tree_.next_sibling(c))
        if (!tree_.modules()[c].is_alias()) module_atom(c);
      return;
    }
    const auto parts = stacked_parts(m);
    if (parts < 2) return module_atom(m);
    for (std::uint32_t e = 0; e < parts; ++e) slice_atom(m, e, parts);
  }

  /// Experts that module `m` stacks, or 0 if it cannot be cut: all its tensors are its own parameters, have the same
  /// leading dimension, divide exactly and are not tied.
  std::uint32_t stacked_parts(module_index m) const {
    const auto list = tree_.direct_parameters(m);
    if (list.empty() || list.size() != tree_.subtree_parameters(m).size() || !tree_.subtree_buffers(m).empty())
      return 0;
    const auto parts = list.front().shape.empty() ? 0 : list.front().shape.front();
    if (parts == 0 || parts > std::numeric_limits<std::uint32_t>::max()) return 0;
    for (const auto& t : list) {
      const auto size = sizes_.parameters[static_cast<std::size_t>(&t - tree_.parameters().data())];
      const bool cuts = t.shape.size() > 1 && t.shape.front() == parts && size % parts == 0;
      if (!cuts || shared_.contains(t.storage)) return 0;
    }
    return static_cast<std::uint32_t>(parts);
  }

  void slice_atom(module_index m, std::uint32_t part, std::uint32_t parts) {
    begin();
    for (const auto& t : tree_.direct_parameters(m)) {
      const auto size = sizes_.parameters[static_cast<std::size_t>(&t - tree_.parameters().data())] / parts;
      weights_ += size;
      padding_ += round_up(size, tensor_alignment) - size;
    }
    const auto name = tree_.modules()[m].name + "." + std::to_string(part);
    out_.add({.name = name,
              .kind = atom_kind::other,
              .weights = weights_,
              .padding = padding_,
              .part = part,
              .parts = parts});
  }

  void count_uses() {
    std::unordered_set<storage_id> seen;
    for (const auto list : {tree_.parameters(), tree_.buffers()})
      for (const auto& t : list)
        if (!seen.insert(t.storage).second) shared_.insert(t.storage);
  }

  atom_kind kind_of(module_index m) const {
    const auto& node = tree_.modules()[m];
    const std::string_view c = node.class_name;
    if (tree_.output_embedding && node.name == *tree_.output_embedding) return atom_kind::head;
    if (no_split_.contains(node.class_name)) return atom_kind::block;
    if (c.find("Embedding") != std::string_view::npos) return atom_kind::embedding;
    if (c.find("Norm") != std::string_view::npos) return atom_kind::norm;
    return atom_kind::other;
  }

  void module_atom(module_index m) {
    begin();
    for (const auto& t : tree_.subtree_parameters(m)) charge(t, false);
    for (const auto& t : tree_.subtree_buffers(m)) charge(t, true);
    out_.add(tree_.modules()[m].name, kind_of(m), weights_, padding_);
  }
  void tensor_atom(const tensor& t, bool is_buffer) {
    begin();
    charge(t, is_buffer);
    out_.add(t.name, atom_kind::other, weights_, padding_);
  }

  void begin() {
    weights_ = padding_ = 0;
    in_this_atom_.clear();
  }
  void charge(const tensor& t, bool is_buffer) {
    if (!in_this_atom_.insert(t.storage).second) return;
    const auto index = static_cast<std::size_t>(&t - (is_buffer ? tree_.buffers() : tree_.parameters()).data());
    const bytes size = is_buffer ? sizes_.buffers[index] : sizes_.parameters[index];
    weights_ += size;
    padding_ += round_up(size, tensor_alignment) - size;
    uses_.push_back({t.storage, static_cast<std::uint32_t>(out_.atoms().size()), size});
  }

  /// Keeps the uses of storages that more than one atom has, in the order that `storage_use` asks for.
  std::vector<storage_use> shared_uses() {
    std::sort(uses_.begin(), uses_.end());
    std::vector<storage_use> out;
    for (std::size_t i = 0; i < uses_.size();) {
      std::size_t end = i + 1;
      while (end < uses_.size() && uses_[end].storage == uses_[i].storage) ++end;
      if (end - i > 1)
        out.insert(out.end(), uses_.begin() + static_cast<std::ptrdiff_t>(i),
                   uses_.begin() + static_cast<std::ptrdiff_t>(end));
      i = end;
    }
    return out;
  }

  const module_tree& tree_;
  const tensor_sizes& sizes_;
  std::unordered_set<std::string> no_split_;
  std::unordered_set<std::string> split_above_;
  granularity parts_;
  std::unordered_set<storage_id> shared_;  ///< storages of more than one tensor; filled for single experts only
  std::vector<storage_use> uses_;
  std::unordered_set<storage_id> in_this_atom_;
  bytes weights_ = 0;
  bytes padding_ = 0;
  model out_;
};

}  // namespace

model derive_model(const module_tree& tree, const tensor_sizes& sizes, const derive_options& options) {
  return deriver(tree, sizes, options).run();
}

}  // namespace berth
