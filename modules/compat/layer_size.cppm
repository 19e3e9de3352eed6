// SPDX-License-Identifier: Apache-2.0
module;

#include <string>
#include <vector>

export module berth.compat:layer_size;

import berth.model;
import :number;
import :sizes;

export namespace berth::hf::accelerate {

/// The largest layer and every name that reaches its size, in walk order.
struct largest_layers {
  number bytes;
  std::vector<std::string> names;
};

/// `get_max_layer_size` over the root's parameters, children and buffers. A layer is a childless module, a bare tensor
/// or a module whose class is in `no_split`; direct parameters of other modules are ignored.
/// Errors: those of `compute_module_sizes`; `peer_failure` (RecursionError) if aliases nest without end.
result<largest_layers> get_max_layer_size(const module_tree& tree, const std::vector<std::string>& no_split);

/// `calculate_maximum_sizes`: bytes in all and the largest layer, with the tree's own no-split classes.
struct maximum_sizes {
  number total;
  largest_layers largest;
};
result<maximum_sizes> calculate_maximum_sizes(const module_tree& tree);

}  // namespace berth::hf::accelerate
