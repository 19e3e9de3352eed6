// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <span>
#include <string>
#include <vector>

export module berth.model:derive;

import berth.base;
import :chain;
import :precision;
import :tree;

export namespace berth {

struct derive_options {
  /// Classes that stay on one device, instead of the tree's own list.
  std::vector<std::string> no_split;
  bool use_tree_no_split = true;
  /// Names at or below which the caller wants to place parts separately (keys of a manual map): modules above such a
  /// name are split, no-split classes too.
  std::vector<std::string> split_at;
};

/// The execution chain of a module tree. Walks from the root: a module whose class is in the no-split list, a module
/// without children, or a bare tensor of a split module becomes an atom; other modules are split. Atoms keep tree
/// order, which is execution order for the families that berth knows, except that modules named "final..." beside a
/// list of blocks run after it. Buffers are charged where they live, persistent or not; a storage used by several
/// atoms is listed among its ties (`storage_use`). Linear in modules + tensors.
model derive_model(const module_tree& tree, const tensor_sizes& sizes, const derive_options& options = {});

/// The classes that `derive_model` keeps whole under `options`.
std::vector<std::string> effective_no_split(const module_tree& tree, const derive_options& options);

}  // namespace berth
