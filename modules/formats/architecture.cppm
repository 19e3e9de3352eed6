// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

export module berth.formats:architecture;

import berth.model;
import :json;

export namespace berth {

/// How far a tree can be trusted.
enum class exactness : std::uint8_t {
  exact,       ///< module by module what transformers 5.17 builds
  by_count,    ///< a plausible tree in the checkpoint's own names whose parameter count is right
  structural,  ///< blocks inferred from the names of stored tensors
};

constexpr std::string_view name_of(exactness e) {
  constexpr std::array<std::string_view, 3> names{"exact", "by_count", "structural"};
  return names[static_cast<std::size_t>(e)];
}

/// One number of a config and where it came from: the key as written, or "default".
struct config_quantity {
  std::string name;  ///< "hidden", "layers", "heads", "kv_heads" ...
  double value = 0;
  std::string source;
};

struct architecture {
  module_tree tree;
  std::string model_type;  ///< canonical: "RefinedWeb" reads as "falcon"
  exactness how = exactness::structural;
  std::string dtype_source;  ///< the key that gave the load dtype, "caller", or "default"
  std::vector<config_quantity> quantities;
  /// Deviations worth telling: a head class that is unknown, layers that the file holds beside the model.
  std::vector<std::string> notes;

  std::uint64_t hidden = 0;
  std::uint64_t vocabulary = 0;
  std::uint64_t max_context = 0;  ///< tokens; 0 = no limit stated
  /// Blocks in the order of the tree, vision and encoder blocks included.
  std::vector<layer_description> layers;
};

struct architecture_options {
  std::string_view what = "config.json";  ///< names the text in errors
  /// Load dtype instead of the config's own (from tensor headers, or the caller's wish).
  std::optional<dtype> load;
};

/// Builds the module tree that transformers builds from `config` (a parsed config.json), empty and tied, plus the
/// facts that inspection and planning need. Keys that the config omits have the defaults of the family's
/// configuration class. Errors: `unknown_architecture` names a model type that no entry describes, `unknown_format` a
/// document that is not a Hugging Face config, `malformed` a key of the wrong type, `overflow` and `capacity` sizes
/// beyond any model. Linear in the number of modules; a tree has at most 500,000.
result<architecture> build_architecture(const json::value& config, const architecture_options& options = {});

/// One model type that `build_architecture` understands.
struct supported_architecture {
  std::string_view model_type;
  exactness how;
  std::string_view builds;  ///< canonical model type of the entry
};
/// Every supported model type, sorted by name.
std::vector<supported_architecture> support_table();

/// Cache bytes that one more token of one sequence needs in all layers while no window is full.
/// Nothing if it exceeds 2^63 - 1.
std::optional<bytes> kv_bytes_per_token(const architecture& a, const cache_options& options = {});

/// Cache bytes of one sequence of `tokens` tokens: growing part, windows, cross attention and constant states.
std::optional<bytes> cache_bytes(const architecture& a, std::uint64_t tokens, const cache_options& options = {});

}  // namespace berth
