// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <span>

export module berth.model:costs;

import berth.base;
import :cache;
import :chain;
import :layer;
import :precision;
import :tree;
import :workload;

export namespace berth {

struct cost_options {
  cache_options cache{};               ///< width of a cache element, windows, MLA
  std::uint64_t activation_bytes = 0;  ///< of one element of an activation; 0: as the weights suggest
};

/// What a model's config says about its blocks, as cost formulas need it.
struct model_shape {
  std::uint64_t hidden = 0;      ///< elements of one token's activation; 0 = read it from the embedding
  std::uint64_t vocabulary = 0;  ///< rows of the head; 0 = read it from the head
  /// Blocks in tree order. Empty: nothing is known, and only weights and their products are costed.
  std::span<const layer_description> layers;
};

/// What `cost_model` could find out.
struct costed {
  /// False if the blocks of the model are not known: state is then 0 everywhere, whatever the model really keeps.
  bool state_known = false;
  std::uint64_t activation_bytes = 2;  ///< bytes of one element of an activation
};

/// Fills state, workspace, compute dtype and the work of both phases of every atom of `chain`, which was derived from
/// `tree` and `sizes` at any granularity. Formulas with their sources: docs/costs.md. In short, for B sequences, a
/// prompt of p and g generated tokens, E experts of which k are active, t tokens in flight (prefill B p, decode B):
///
/// - state: what each layer keeps for `w.context` tokens, times B (`layer_cache_bytes`); exact.
/// - flops: 2 x elements of matrix weights x t, expert weights times k/E, the head for one position per sequence only;
///   attention 2 heads (key_dim + value_dim) per pair of positions: p^2/2 pairs in causal prefill, p + g/2 per token in
///   decode, windows respected; 6 per element of a recurrent state.
/// - touched: stored bytes, of expert weights the share 1 - (1 - k/E)^t, of an embedding one row per token; plus the
///   state: written for p tokens in prefill, read or written for p + g/2 tokens in decode.
/// - out: hidden x t x width of an activation; twice that between parts of one block, because the residual travels too.
/// - workspace: the peak of the larger phase.
///
/// Blocks that attend without a cache (encoders, vision towers) and modules beside them in their stack run in prefill
/// only. `w.context` 0 asks for weights only: state and workspace stay 0, work is filled as for p + g tokens.
/// Linear in modules + tensors + atoms. Errors: `invalid_argument` if prompt + generate exceeds a context that is not
/// 0, or the batch is 0; `overflow` names the atom whose state or workspace exceeds 2^63 - 1; `inconsistent_model`
/// names an atom that is not part of the tree, or a layer with state but without tensors.
result<costed> cost_model(model& chain, const module_tree& tree, const tensor_sizes& sizes, const model_shape& shape,
                          const workload& w, const cost_options& options = {});

}  // namespace berth
