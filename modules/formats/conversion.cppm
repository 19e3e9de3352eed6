// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

export module berth.formats:conversion;

import berth.model;

export namespace berth {

/// A tensor name in a checkpoint, with its shape where a header gives it.
struct stored_name {
  std::string_view name;
  std::optional<std::span<const std::uint64_t>> shape;
};

/// A stored tensor that belongs to a tree tensor without being its data: scales, zero points, codebooks.
struct companion {
  std::string stored;
  std::string tensor;
  friend bool operator==(const companion&, const companion&) = default;
};

/// How the tensors of a checkpoint and those of a module tree correspond.
struct name_map {
  std::vector<conversion> conversions;  ///< in the order of the stored names
  std::vector<companion> companions;    ///< parts of quantized weights
  std::vector<std::string> ignored;     ///< not in the tree by design: tables, layers for token prediction
  std::vector<std::string> unexpected;  ///< nothing in the tree takes them
  std::vector<std::string> missing;     ///< tree tensors (one name per storage) that are not, or not fully, stored
  std::vector<std::string> mismatched;  ///< stored names whose shape is not that of their place (packed weights too)
};

/// Maps stored names to tree tensors: the same name, the family's spellings (experts one by one, joined or
/// interleaved projections, renamed prefixes, old names), a base-model prefix missing or added. Every storage needs
/// one stored copy. Spellings of all families are tried, so the tree's `model_type` does not matter here. Linear in
/// the number of names for a fixed number of spellings.
name_map map_names(const module_tree& tree, std::span<const stored_name> stored);

/// One tensor as `save_pretrained` would write it.
struct saved_tensor {
  conversion from;
  dtype type = dtype::f32;
  std::vector<std::uint64_t> shape;
};

/// The inverse: the tensors that a checkpoint of this tree holds, by the spellings of its `model_type`. Tied
/// tensors are saved once, under the name that is not a target of `tied_weights_keys` (else the first in walk
/// order); buffers that are not persistent are left out.
std::vector<saved_tensor> saved_tensors(const module_tree& tree);

}  // namespace berth
