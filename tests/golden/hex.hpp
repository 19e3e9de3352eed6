// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

namespace golden {

/// The bytes that pairs of lower-case hexadecimal digits stand for; nothing for any other text.
std::optional<std::vector<std::byte>> from_hex(std::string_view hex);

}  // namespace golden
