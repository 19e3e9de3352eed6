// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

export module berth.formats:model_file;

import berth.model;
import :architecture;
import :checkpoint;
import :conversion;
import :json;
import :quantization;

export namespace berth {

/// Something that no file states outright, and what it was concluded from.
struct inference {
  std::string what;    ///< "dtype", "tie of lm_head" ...
  std::string value;   ///< "bfloat16"
  std::string source;  ///< "headers", "config: torch_dtype" ...
};

/// A model as read from whatever the user pointed at.
struct loaded_model {
  /// The tree and what the config says about its blocks. `how` tells how far to trust it.
  berth::architecture architecture;
  /// Bytes of each tensor as stored (scales of quantized weights included): from headers where they exist, else by
  /// the config's dtype and quantization.
  tensor_sizes sizes;
  std::optional<berth::checkpoint> checkpoint;  ///< nothing for a module tree file
  std::optional<berth::quantization> quantization;
  name_map names;                     ///< empty unless names of stored tensors are known
  std::optional<bytes> stored_bytes;  ///< sum of all tensors in the headers
  std::optional<bytes> config_bytes;  ///< what config, dtype rule and quantization give; nothing without a config
  std::optional<bytes> index_total;   ///< as the index claims
  /// False if only names of tensors are known (see `load_options`): every tensor then has 0 elements.
  bool sizes_known = true;
  std::string dtype_source;
  std::vector<inference> inferred;
  std::vector<std::string> warnings;
  std::uint64_t fingerprint = 0;

  const module_tree& tree() const { return architecture.tree; }
};

struct load_options {
  /// As in `checkpoint_options`.
  std::function<void(std::size_t, std::size_t, std::string_view)> progress;
  /// Accept an index of an unknown architecture without shards: names and blocks for inspection, no sizes.
  bool allow_unknown_sizes = false;
};

/// Reads a model from a path: everything that `read_checkpoint` takes, and `berth.module_tree/1` files. A known
/// architecture gives the module tree of the framework; stored tensors are mapped to it by name. An unknown one gives
/// a tree found from the names, if headers are there. An embedding is tied to the head if no head is stored. Errors:
/// those of the readers; `unknown_architecture` if neither the config nor headers give shapes.
result<loaded_model> load_model(const std::string& path, const load_options& options = {});

/// The same for a document that is not in a file (standard input): a module tree or a config. `what` names it.
result<loaded_model> load_model_text(std::string_view text, std::string_view what);

/// Identifies a model: names, shapes, dtypes, ties and sizes. The same on every machine and in every version 0.x.
std::uint64_t fingerprint_of(const module_tree& tree, const tensor_sizes& sizes);

}  // namespace berth
