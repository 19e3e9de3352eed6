// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <string>
#include <vector>

// Internal: the largest layer below every module.
module berth.compat:layer_maxima;

import berth.model;
import :nodes;
import :number;
import :sizes;

namespace berth::hf {

/// For each module, whether the planner keeps it whole: its class (seen through `class_of`, or the tree's own where
/// that is empty) is among `no_split`.
std::vector<bool> kept_whole(const module_tree& tree, const std::vector<std::string>& no_split,
                             const std::vector<std::string>& class_of = {});

/// The largest layer below a module: its size, how many layers reach it, and whether the first of them is a float.
struct layer_maximum {
  int128 eighths = 0;
  std::uint32_t layers = 0;
  bool real = false;

  inline number value() const { return real ? number::real(static_cast<double>(eighths) / 8.0) : number(eighths / 8); }
};

/// `get_max_layer_size` of every module at once, from the leaves up. Linear time. (Aliases count as empty: they hold no
/// bytes, and where every layer is empty the count is of no consequence.)
class layer_maxima {
 public:
  layer_maxima(const node_table& nodes, const module_sizes& sizes, const std::vector<bool>& whole);
  /// Of a work-list entry: a bare tensor is a layer of its own.
  layer_maximum of(node n) const;

 private:
  static layer_maximum single(const byte_sum& sum);
  const node_table& nodes_;
  const module_sizes& sizes_;
  std::vector<layer_maximum> modules_;
};

/// Bytes of a work-list entry, 0 for aliases and what lies below them.
byte_sum bytes_of(const node_table& nodes, const module_sizes& sizes, node n);

}  // namespace berth::hf
