// SPDX-License-Identifier: Apache-2.0
// Any bytes as the start of a .safetensors file.
#include <cstddef>
#include <cstdint>
#include <span>

#include "require.hpp"

import berth.formats;
import berth.model;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto whole = berth::read_safetensors(bytes, size, "input");
  if (!whole) {
    fuzz::require(!whole.error().detail.empty(), "a refused file comes with a reason");
  } else {
    for (const auto& t : whole->tensors)
      fuzz::require(t.offset <= size && t.length <= size - t.offset, "every tensor lies inside the file");
  }
  // A huge file of which only the start is in memory.
  const auto start = berth::read_safetensors(bytes, 1'000'000'000'000, "input");
  fuzz::require(start.has_value() || !start.error().detail.empty(), "a refused file comes with a reason");
  return 0;
}
