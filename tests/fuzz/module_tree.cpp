// SPDX-License-Identifier: Apache-2.0
// Any JSON as a module tree.
#include <cstddef>
#include <cstdint>

#include "require.hpp"

import berth.base;
import berth.formats;
import berth.model;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto document = berth::json::parse(fuzz::as_text(data, size), "input");
  if (!document) return 0;
  const auto tree = berth::read_module_tree(*document, "input");
  if (!tree) {
    fuzz::require(!tree.error().detail.empty(), "a refused document comes with a reason");
    return 0;
  }
  const auto written = berth::write_module_tree(*tree);
  const auto again = berth::read_module_tree(written, "what was written");
  fuzz::require(again.has_value(), "a written tree can be read");
  fuzz::require(berth::write_module_tree(*again) == written, "a written tree reads back to the same document");
  fuzz::require(again->byte_total() == tree->byte_total(), "a tree keeps its bytes");
  fuzz::require(tree->untied().byte_total() >= tree->byte_total(), "untying frees nothing");
  return 0;
}
