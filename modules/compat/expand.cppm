// SPDX-License-Identifier: Apache-2.0
module;

#include <optional>
#include <string>
#include <vector>

export module berth.compat:expand;

import berth.model;
import :device_map;

export namespace berth::hf::transformers {

/// `expand_device_map`: the device of each tensor name as the loader finds it: the keys are regular expressions tried
/// at the start of the name, most dots first, then longest first; the text that matched is looked up in the map;
/// without a match it is the key "", else "cpu". No map: all on "cpu". Result in the order of `names`. Errors:
/// `peer_failure` (KeyError) where the matched text is not a key; `unsupported` for keys that are regular expressions
/// which RE2 cannot express.
result<device_map> expand_device_map(const std::optional<hf::device_map>& map, const std::vector<std::string>& names);

}  // namespace berth::hf::transformers
