// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <optional>
#include <string>

export module berth.formats:dtype_rule;

import berth.base;
import :json;

export namespace berth {

/// An element type and why it was chosen ("config: torch_dtype", "index total_size / parameters").
struct dtype_choice {
  dtype type = dtype::f32;
  std::string source;
  std::optional<dtype> contradicted;  ///< what the config said, if the index overruled it
};

/// What config.json says: `dtype` or `torch_dtype` at the top level, then in the text model's config.
std::optional<dtype_choice> config_dtype(const json::value& config);

/// Element type of a checkpoint without headers: the config's; if absent or contradicted by the index's total, the
/// nearest of 1, 2 and 4 bytes to total / parameters (float8_e4m3, bfloat16, float32); else float32. `config` may be
/// null. A total of 0 says nothing, and neither does any total of a quantized checkpoint: pass nothing then.
dtype_choice checkpoint_dtype(const json::value* config, std::optional<bytes> index_total, std::uint64_t parameters);

}  // namespace berth
