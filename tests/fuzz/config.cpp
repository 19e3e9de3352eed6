// SPDX-License-Identifier: Apache-2.0
// Any bytes as a model's config: quantization, dtype and the tree that follows from it.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "require.hpp"

import berth.base;
import berth.formats;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto text = fuzz::as_text(data, size);
  // The first line is also tried as a pattern on the second.
  const auto line = text.find('\n');
  if (line != std::string_view::npos) {
    berth::matches_expression(text.substr(0, line), text.substr(line + 1, 200));
    berth::matches_wildcard(text.substr(0, line), text.substr(line + 1, 200));
  }
  // A config may ask for two million modules; a small text is enough to reach every reader.
  if (size > 4096) return 0;
  const auto document = berth::json::parse(text, "input", {.max_depth = 64, .allow_nonfinite = true});
  if (!document) return 0;
  const auto q = berth::read_quantization(&*document, &*document, "input");
  fuzz::require(q.has_value() || !q.error().detail.empty(), "a refused block comes with a reason");
  berth::checkpoint_dtype(&*document, size, 1 + size / 2);
  return 0;
}
