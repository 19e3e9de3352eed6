// SPDX-License-Identifier: Apache-2.0
// Any bytes as a safetensors file.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "require.hpp"

import berth.base;
import berth.formats;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  const auto read = berth::read_safetensors(file, size, "input");
  if (!read) {
    fuzz::require(berth::fault_of(read.error()).has_value(), "a refused file breaks a named rule");
    return 0;
  }
  // The data is covered without holes, and every tensor has the size of its shape.
  std::uint64_t end = 0;
  for (const auto& t : read->tensors) {
    fuzz::require(end == 0 || t.offset == end, "tensors follow one another");
    end = t.offset + t.length;
    const auto elements = berth::element_count(t.shape);
    fuzz::require(elements.has_value() && *elements * berth::bits_of(t.type) == t.length * 8, "sizes match shapes");
  }
  fuzz::require(read->tensors.empty() || end == size, "the data reaches the end of the file");
  // Whatever the names are, the tree of the names either exists or is refused.
  if (const auto tree = berth::tree_from_names(read->tensors, "input"))
    fuzz::require(tree->parameters().size() == read->tensors.size(), "every tensor has its place in the tree");
  return 0;
}
