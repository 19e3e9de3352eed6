// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

export module berth.model:tree;

import berth.base;

export namespace berth {

/// Index of a module in its tree (pre-order, the root is 0).
using module_index = std::uint32_t;
/// Identity of a parameter or buffer object: equal numbers are the same object (a tie), never overlapping views.
using storage_id = std::uint32_t;
inline constexpr std::uint32_t none = 0xffffffffu;

// Accessors say `inline`: in a module's interface the body of a class member is not inline by itself, and loops over
// large trees would pay a call for each of them.

/// One parameter or buffer. `name` is the full dotted name; `local` is where the last component starts in it.
struct tensor {
  std::string name;
  std::uint32_t local = 0;
  module_index owner = 0;
  storage_id storage = 0;
  dtype type = dtype::f32;
  bool persistent = true;  ///< false only for buffers that a checkpoint does not hold
  std::vector<std::uint64_t> shape;
  std::uint64_t elements = 0;

  inline std::string_view local_name() const { return std::string_view(name).substr(local); }
  /// Bytes in its own dtype, rounded up to whole bytes.
  inline bytes size() const { return (elements * bits_of(type) + 7) / 8; }
};

/// One module. Modules lie in pre-order, so a module's subtree is the index range [self, subtree_end), and its
/// subtree's parameters and buffers are ranges of the tree's two tensor lists. All look-ups are O(1).
struct module_node {
  std::string name;  ///< full dotted name, "" for the root
  std::uint32_t local = 0;
  std::string class_name;
  module_index parent = none;
  module_index subtree_end = 0;
  std::uint32_t parameters_begin = 0;  ///< first direct parameter
  std::uint32_t buffers_begin = 0;
  std::uint32_t direct_parameters = 0;
  std::uint32_t direct_buffers = 0;
  /// The same module object registered a second time: an alias has no tensors or children of its own.
  module_index alias_of = none;

  inline std::string_view local_name() const { return std::string_view(name).substr(local); }
  inline bool is_alias() const { return alias_of != none; }
};

/// The module tree of a model as a framework builds it: names, classes, parameters and buffers in walk order
/// (pre-order; for each module its direct tensors, then its children), with identities that express ties.
/// Built by `tree_builder` or by a reader; immutable afterwards.
class module_tree {
 public:
  std::string id;
  std::string model_type;
  std::vector<std::string> no_split_modules;  ///< classes that must stay on one device
  /// target name -> source name, in file order
  std::vector<std::pair<std::string, std::string>> tied_weights_keys;
  bool tie_word_embeddings = false;
  std::optional<std::string> output_embedding;  ///< module name of the head, if the model has one
  std::vector<std::string> keep_in_fp32_modules;
  /// Parameters (relative names) that the peer never places; absent for almost every model.
  std::optional<std::vector<std::string>> no_placement_params;
  std::string dtype_name;  ///< load dtype as written ("bfloat16", "mixed")

  inline std::span<const module_node> modules() const { return modules_; }
  inline std::span<const tensor> parameters() const { return parameters_; }
  inline std::span<const tensor> buffers() const { return buffers_; }

  /// Tensors directly in module `m`.
  inline std::span<const tensor> direct_parameters(module_index m) const {
    return parameters().subspan(modules_[m].parameters_begin, modules_[m].direct_parameters);
  }
  inline std::span<const tensor> direct_buffers(module_index m) const {
    return buffers().subspan(modules_[m].buffers_begin, modules_[m].direct_buffers);
  }
  /// Tensors in module `m` and everything below it.
  inline std::span<const tensor> subtree_parameters(module_index m) const {
    const auto b = modules_[m].parameters_begin;
    return parameters().subspan(b, parameters_end(modules_[m].subtree_end) - b);
  }
  inline std::span<const tensor> subtree_buffers(module_index m) const {
    const auto b = modules_[m].buffers_begin;
    return buffers().subspan(b, buffers_end(modules_[m].subtree_end) - b);
  }

  /// First child of `m`, or `none`. Aliases are children too; iterate with `next_sibling`.
  inline module_index first_child(module_index m) const { return m + 1 < modules_[m].subtree_end ? m + 1 : none; }
  inline module_index next_sibling(module_index m) const {
    const auto p = modules_[m].parent;
    if (p == none) return none;
    const auto next = modules_[m].subtree_end;
    return next < modules_[p].subtree_end ? next : none;
  }

  /// Module or tensor by full name; linear time (readers build their own index when they need many).
  std::optional<module_index> find_module(std::string_view name) const;
  const tensor* find_tensor(std::string_view name) const;

  /// Elements of all parameters and persistent buffers, each storage once.
  std::uint64_t element_total() const;
  /// Bytes of all parameters and persistent buffers in their own dtypes, each storage once.
  bytes byte_total() const;
  /// Groups of names that share one storage, in order of first appearance; only groups of two or more.
  std::vector<std::vector<std::string>> tied_groups() const;

  /// The same tree with every target of `tied_weights_keys` given a storage of its own: the state in which
  /// transformers plans, before tying.
  module_tree untied() const;
  /// The same tree with every target sharing its source's storage.
  module_tree tied() const;

 private:
  friend class tree_builder;
  inline std::uint32_t parameters_end(module_index end) const {
    return end < modules_.size() ? modules_[end].parameters_begin : static_cast<std::uint32_t>(parameters_.size());
  }
  inline std::uint32_t buffers_end(module_index end) const {
    return end < modules_.size() ? modules_[end].buffers_begin : static_cast<std::uint32_t>(buffers_.size());
  }

  std::vector<module_node> modules_;
  std::vector<tensor> parameters_;
  std::vector<tensor> buffers_;
};

}  // namespace berth
