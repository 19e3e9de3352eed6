// SPDX-License-Identifier: Apache-2.0
module;

#include <span>

module berth.formats;

import :architecture_entry;

namespace berth::architectures {

std::span<const family> gpt_families() { return {}; }

}  // namespace berth::architectures
