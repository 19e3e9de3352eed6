// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

// Internal: what the peers' work lists hold.
module berth.compat:nodes;

import berth.model;

namespace berth::hf {

/// Refuses trees whose aliases nest without end, on which the peers fail too (`peer_failure`, RecursionError). Linear
/// in the number of modules.
result<done> check_tree(const module_tree& tree);

/// Calls `visit(name, tensor, is_buffer)` for every tensor under every name, those under alias modules included: the
/// walk without de-duplication, per module its parameters, then its buffers.
/// Error `peer_failure` (RecursionError) if aliases nest without end.
result<done> visit_registered(const module_tree& tree,
                              const std::function<void(std::string_view, const tensor&, bool)>& visit);

enum class tensor_kind : std::uint8_t { parameters, buffers };

/// Calls `visit(name, tensor)` for the parameters or buffers of a module and all below it, every module object once
/// (aliases of modules outside included), names relative to the module. Objects shared by two tensors come twice.
void visit_below(const module_tree& tree, module_index top, tensor_kind kind,
                 const std::function<void(std::string_view, const tensor&)>& visit);

/// A module, parameter or buffer under one of its names.
using node = std::uint32_t;
using node_list = std::vector<node>;

/// Numbers what can stand in a work list: first the tree's modules, then its parameters, then its buffers, then what
/// an alias module turns into when it is split. Nodes of the last kind have names of their own and no bytes, since the
/// peers count a tensor under its first name only; they are made on demand, once each.
class node_table {
 public:
  explicit node_table(const module_tree& tree);
  ~node_table();
  node_table(const node_table&) = delete;
  node_table& operator=(const node_table&) = delete;

  inline const module_tree& tree() const { return *tree_; }
  inline std::size_t size() const { return buffers_end_ + extra_.size(); }

  inline node of_module(module_index m) const { return m; }
  inline node of_parameter(std::uint32_t i) const { return modules_end_ + i; }
  inline node of_buffer(std::uint32_t i) const { return parameters_end_ + i; }
  inline bool is_module(node n) const {
    return n < modules_end_ || (n >= buffers_end_ && extra_[n - buffers_end_].is_module);
  }
  inline bool is_parameter(node n) const { return n >= modules_end_ && n < parameters_end_; }
  inline bool is_buffer(node n) const { return n >= parameters_end_ && n < buffers_end_; }
  /// True for a node with bytes of its own; false for aliases and what lies below them.
  inline bool is_original(node n) const {
    return n < buffers_end_ && !(n < modules_end_ && tree_->modules()[n].is_alias());
  }
  inline std::uint32_t parameter_index(node n) const { return n - modules_end_; }
  inline std::uint32_t buffer_index(node n) const { return n - parameters_end_; }

  std::string_view name(node n) const;
  /// The module object behind a module node. Precondition: `is_module(n)`.
  module_index object(node n) const;
  /// The module node that holds `n`. Precondition: `n` is not the root.
  node parent(node n) const;
  /// The extra node of that name, or `none`.
  node find_extra(std::string_view name) const;

  inline bool has_children(node n) const { return is_module(n) && tree_->first_child(object(n)) != none; }
  /// Child modules, each object once.
  node_list children(node n);
  /// What a split puts in the place of a module: its direct parameters, then its children, each object once.
  node_list split(node n);
  /// All parameters or buffers below a module, each object once.
  node_list tensors_below(node n, tensor_kind kind);
  /// The planner's first work list: the root's direct parameters, its children, its direct buffers.
  node_list first_list();

 private:
  struct extra_node {
    std::string name;
    bool is_module;
    std::uint32_t target;  ///< module index, unused for parameters
    node parent;
  };
  module_index resolved(module_index m) const;
  /// Positions in `direct` of tensors that are not an earlier one again.
  std::vector<std::uint32_t> distinct(std::span<const tensor> direct) const;
  node extra(node parent, std::string_view local, bool is_module, std::uint32_t target);

  const module_tree* tree_;
  node modules_end_, parameters_end_, buffers_end_;
  bool has_aliases_ = false;
  bool has_shared_ = false;
  std::deque<extra_node> extra_;
  std::unordered_map<std::string_view, node> extra_by_name_;
};

}  // namespace berth::hf
