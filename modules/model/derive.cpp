// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.model;

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
      : tree_(tree), sizes_(sizes) {
    for (auto& c : effective_no_split(tree, options)) no_split_.insert(std::move(c));
    for (const auto& name : options.split_at)
      for (auto dot = name.rfind('.'); dot != std::string::npos && dot > 0; dot = name.rfind('.', dot - 1)) {
        split_above_.insert(name.substr(0, dot));
      }
    if (!options.split_at.empty()) split_above_.insert(std::string());
  }

  model run() {
    if (keep_whole(0))
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
    if (keep_whole(c))
      module_atom(c);
    else
      split(c);
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
