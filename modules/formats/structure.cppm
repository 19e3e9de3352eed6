// SPDX-License-Identifier: Apache-2.0
module;

#include <span>
#include <string_view>

export module berth.formats:structure;

import berth.model;

export namespace berth {

/// Class name of the blocks that `tree_from_names` finds; the only entry of the tree's no_split_modules.
inline constexpr std::string_view structural_block = "Block";

/// A module tree from nothing but the tensors of a checkpoint, for architectures that are not known: dotted names
/// become modules with generic classes; numbered siblings that repeat the same structure (decoder layers, each stack
/// of an encoder-decoder, a vision tower) become blocks. Shapes and dtypes are those of the headers; embeddings come
/// first and heads last, so that the tree's order is a plausible order of execution. Errors: `malformed` for names
/// that no module tree can have. n log n in the number of tensors.
result<module_tree> tree_from_names(std::span<const stored_tensor> tensors, std::string_view what);

}  // namespace berth
