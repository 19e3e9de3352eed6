// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <string>

export module berth.model:layer;

import berth.base;
import :cache;

export namespace berth {

/// The feed-forward part of one layer. Widths are intermediate sizes in elements; 0 means "has none".
struct layer_ffn {
  std::uint64_t width = 0;         ///< dense MLP
  std::uint64_t experts = 0;       ///< routed experts
  std::uint64_t active = 0;        ///< routed experts used per token
  std::uint64_t expert_width = 0;  ///< of one routed expert
  std::uint64_t shared_width = 0;  ///< of all shared experts together

  friend constexpr bool operator==(const layer_ffn&, const layer_ffn&) = default;
};

/// One block of a model as cost and memory formulas see it. Layers of one model need not be equal.
struct layer_description {
  std::string module;  ///< dotted name of the block in the module tree
  layer_cache cache;
  layer_ffn ffn;
};

}  // namespace berth
