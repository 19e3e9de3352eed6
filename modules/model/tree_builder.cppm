// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

export module berth.model:tree_builder;

import berth.base;
import :tree;

export namespace berth {

/// Builds a `module_tree` in walk order: `enter` a module, add its direct parameters and buffers, enter its
/// children, `leave`. Direct tensors of a module come before its children. Errors (duplicate names, sizes above
/// 2^63, tensors after children) are kept and returned by `finish`, so that callers need not check every step.
class tree_builder {
 public:
  /// Starts with the root module.
  explicit tree_builder(std::string_view root_class);

  void enter(std::string_view name, std::string_view class_name);
  void leave();

  /// Adds a direct parameter or buffer of the current module. Without `storage` it gets an identity of its own.
  /// Storages given by the caller are in a space of their own (they are renumbered), unique over both kinds.
  storage_id parameter(std::string_view name, dtype type, std::vector<std::uint64_t> shape);
  storage_id buffer(std::string_view name, dtype type, std::vector<std::uint64_t> shape, bool persistent);
  /// Adds the object `storage` (from an earlier call) again under another name.
  void parameter_again(std::string_view name, storage_id storage);
  void buffer_again(std::string_view name, storage_id storage, bool persistent);

  /// Registers the module called `target` (full dotted name) a second time as a child of the current module.
  void alias(std::string_view name, std::string_view target);

  /// Fields that are not part of the structure (no_split_modules, tied_weights_keys ...) are set here directly.
  module_tree& tree() { return tree_; }

  /// Full dotted name of the current module.
  std::string_view current() const { return tree_.modules_[open_.back()].name; }

  /// Ends the tree. Error `inconsistent_model` or `overflow` names the first offending tensor or module.
  result<module_tree> finish();

 private:
  tensor& add(std::vector<tensor>& list, std::string_view name);
  void note(errc code, std::string_view subject, std::string_view detail);
  const tensor* by_storage(storage_id s) const;

  struct alias_request {
    module_index at;
    std::string target;
  };
  struct storage_place {
    bool buffer;
    std::uint32_t index;
  };

  module_tree tree_;
  std::vector<module_index> open_;
  std::vector<storage_place> storages_;
  std::vector<alias_request> aliases_;
  std::optional<error> first_error_;
};

}  // namespace berth
