// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

export module berth.compat:infer;

import berth.model;
import :device_map;
import :max_memory;
import :number;
import :sizes;

export namespace berth::hf {

/// The words that `device_map=` takes. "auto" and "balanced" are the same; "sequential" does not balance.
enum class strategy : std::uint8_t { automatic, balanced, balanced_low_0, sequential };
/// Exact, case-sensitive.
std::optional<strategy> strategy_named(std::string_view word);

/// On-the-fly quantization by bitsandbytes, as far as planning sees it.
enum class quantizer : std::uint8_t { none, bnb8, bnb4 };

/// What a user asks a peer for. Members marked with one peer's name do nothing in the other, as there.
struct request {
  strategy how = strategy::automatic;
  memory_request memory;
  std::vector<std::string> no_split;  ///< classes kept on one device
  bool clean_result = true;
  bool offload_buffers = false;

  std::string dtype;                 ///< accelerate: load dtype, "" for the tensors' own
  special_dtypes special;            ///< accelerate: dtype by full tensor name
  bool fallback_allocation = false;  ///< accelerate

  quantizer quantize = quantizer::none;                  ///< transformers
  bool llm_int8_enable_fp32_cpu_offload = false;         ///< transformers: allow cpu and disk when quantizing
  std::optional<std::vector<std::string>> skip_modules;  ///< transformers: replaces the default skip list
  std::optional<std::vector<std::string>>
      no_placement_params;  ///< transformers' infer; `device_map_for` takes the tree's
};

/// A plan, or why there is none. `error.subject` is the Python exception type; code `peer_failure` marks the cases in
/// which the peer crashes by accident (berth's own strategies plan them), other codes are its refusals.
struct outcome {
  std::optional<device_map> map;
  std::optional<budgets> balanced;  ///< what balancing made of the budgets (before a quantizer's factor)
  std::vector<warning> warnings;
  std::optional<number> offloaded_buffer_bytes;  ///< the figure in the buffer warning
  budgets min_needed;  ///< devices that received nothing, with the bytes that their first candidate needed
  budgets placed;      ///< bytes counted on each device, without reserve
  std::optional<berth::error> error;
};

namespace accelerate {

/// `get_balanced_memory`, with low_zero for balanced_low_0. Errors: those of `get_max_memory`; `peer_failure` for
/// RuntimeError (a "disk" key) and KeyError (balanced_low_0 with gaps in the device numbers).
result<budgets> get_balanced_memory(const module_tree& tree, const request& r, std::vector<warning>& warnings);

/// `infer_auto_device_map` on raw budgets; `r.how` is not looked at. Near-linear in the number of modules visited.
outcome infer_auto_device_map(const module_tree& tree, const request& r);

/// What `load_checkpoint_and_dispatch(device_map=word)` plans: balance if the word asks for it, then infer.
outcome device_map_for(const module_tree& tree, const request& r);

}  // namespace accelerate

namespace transformers {

/// `compute_module_sizes`: true element widths (or the quantizer's), objects once, targets of the tie table skipped.
/// Also what the second of the peer's two dictionaries sums up to. Errors: a skip pattern that cannot be read.
struct sizes {
  module_sizes all;
  std::uint32_t leaf_modules = 0;  ///< modules (not the root) that directly own a counted tensor
  number leaf_total;               ///< bytes of those tensors
};
result<sizes> compute_module_sizes(const module_tree& tree, const request& r = {});

/// `get_balanced_memory`. Errors: those of `get_max_memory`; `peer_failure` for KeyError (balanced_low_0 with gaps) and
/// ValueError (no module has a no-split class).
result<budgets> get_balanced_memory(const module_tree& tree, const request& r, std::vector<warning>& warnings);

/// `infer_auto_device_map` on raw budgets, with ties from the tree's tie table.
outcome infer_auto_device_map(const module_tree& tree, const request& r);

/// What `from_pretrained(device_map=word)` plans. The peer plans before tying: give `tree.untied()` for that state.
outcome device_map_for(const module_tree& tree, const request& r);

}  // namespace transformers
}  // namespace berth::hf
