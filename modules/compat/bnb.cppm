// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

export module berth.compat:bnb;

import berth.model;
import :device_map;
import :infer;
import :max_memory;

export namespace berth::hf::transformers {

/// What `device_map=` holds: nothing, a word that stays a word, or a map.
using device_map_argument = std::variant<std::monostate, strategy, device_map>;

/// Normalises a string given as `device_map=` (check_and_set_device_map): a strategy word stays one, "cuda" becomes
/// cuda:`local_rank`, any other torch device becomes {"": device}. Errors: `invalid_argument` (ValueError).
result<device_map_argument> check_and_set_device_map(std::string_view text, std::int64_t local_rank = 0);
/// The same for an index: {"": index}; negative ones are refused.
result<device_map_argument> check_and_set_device_map(std::int64_t index);

/// Accelerator libraries in the order in which bitsandbytes' default map looks for them.
enum class backend : std::uint8_t { cuda, npu, hpu, xpu, cpu };
/// The map that a bitsandbytes quantizer sets when none was given: everything on the current device.
device_map bnb_default_device_map(backend b, std::int64_t current_device);

/// Refuses (`invalid_argument`, ValueError) cpu and disk in a map for a quantized model, unless all of it is on the CPU
/// or `fp32_cpu_offload` is set.
result<done> bnb_validate_device_map(const device_map& map, bool fp32_cpu_offload);

/// Nine tenths of every budget.
budgets adjust_max_memory(budgets b);

/// Which names no skip pattern matches. A pattern matches as a regular expression at the start of the name (without a
/// boundary), or as plain text at its end. Error `unsupported`: a pattern that RE2 cannot express.
result<std::vector<bool>> should_convert_modules(const std::vector<std::string>& patterns,
                                                 const std::vector<std::string_view>& names);

/// Modules that a bitsandbytes quantizer replaces: all Linear and Conv1D that the skip list leaves.
struct bnb_conversion {
  std::vector<std::string> skipped;     ///< the skip patterns, sorted
  std::vector<module_index> converted;  ///< in walk order
};
/// `cpu_or_disk`: a map that was given as such, whose cpu and disk keys the fp32 offload flag adds to the skip list.
/// Errors: as `should_convert_modules`; `peer_failure` (IndexError) for a tree without parameters.
result<bnb_conversion> bnb_modules_to_convert(const module_tree& tree, const request& r,
                                              const device_map* given_map = nullptr);

}  // namespace berth::hf::transformers
