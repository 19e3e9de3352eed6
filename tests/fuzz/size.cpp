// SPDX-License-Identifier: Apache-2.0
// Sizes as users type them.
#include <cstddef>
#include <cstdint>
#include <string>

#include "require.hpp"

import berth.base;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto read = berth::parse_size(fuzz::as_text(data, size));
  if (!read) {
    fuzz::require(!read.error().detail.empty(), "a refused size comes with advice");
    return 0;
  }
  fuzz::require(*read <= berth::max_bytes, "a size fits 63 bits");
  if (*read < 1'000'000'000'000'000'000) {  // more digits than that are refused by themselves
    const auto again = berth::parse_size(std::to_string(*read));
    fuzz::require(again && *again == *read, "the number of bytes reads back");
  }
  fuzz::require(!berth::format_size(*read).empty(), "a size can be printed");
  return 0;
}
