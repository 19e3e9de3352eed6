// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace golden {

/// SHA-256 (FIPS 180-4) of a text, as lower-case hexadecimal digits.
std::string sha256(std::string_view text);

}  // namespace golden
