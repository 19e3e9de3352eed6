// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

export module berth.model:derive;

import berth.base;
import :chain;
import :precision;
import :tree;

export namespace berth {

/// How finely the modules of a no-split class are taken apart.
enum class granularity : std::uint8_t {
  blocks,   ///< not at all
  parts,    ///< attention, MLP and norms each; a mixture into router, shared expert and expert bundle
  experts,  ///< as parts, and every expert of a bundle for itself
};

constexpr std::string_view name_of(granularity g) {
  constexpr std::array<std::string_view, 3> names{"blocks", "parts", "experts"};
  return names[static_cast<std::size_t>(g)];
}

struct derive_options {
  /// Classes that stay on one device, instead of the tree's own list.
  std::vector<std::string> no_split;
  bool use_tree_no_split = true;
  /// Names at or below which the caller wants to place parts separately (keys of a manual map): modules above such a
  /// name are split, no-split classes too.
  std::vector<std::string> split_at;
  granularity parts = granularity::blocks;
};

/// The execution chain of a module tree. Walks from the root: a module whose class is in the no-split list, a module
/// without children, or a bare tensor of a split module becomes an atom; other modules are split. Atoms keep tree
/// order, which is execution order for the families that berth knows, except that modules named "final..." beside a
/// list of blocks run after it. Buffers are charged where they live, persistent or not; a storage used by several
/// atoms is listed among its ties (`storage_use`). Linear in modules + tensors.
///
/// With `parts` finer than blocks, a no-split module that holds attention or an MLP is split into these, its norms and
/// the rest, in the order in which they run (a block registers its norms last); an attention or MLP module stays whole,
/// a mixture does not. Modules of a block that hold no tensors are left out. With `experts`, a list of expert modules
/// gives one atom each, and a module that stacks E experts in tensors [E, ...] gives E slices called "<module>.<e>"
/// (`atom::part`); it stays whole if a size is not divisible by E or a tensor is tied.
model derive_model(const module_tree& tree, const tensor_sizes& sizes, const derive_options& options = {});

/// The classes that `derive_model` keeps whole under `options`.
std::vector<std::string> effective_no_split(const module_tree& tree, const derive_options& options);

}  // namespace berth
