// SPDX-License-Identifier: Apache-2.0
// Any bytes as JSON.
#include <cstddef>
#include <cstdint>
#include <string>

#include "require.hpp"

import berth.base;
import berth.formats;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto text = fuzz::as_text(data, size);
  const auto read = berth::json::parse(text, "input");
  if (!read) {
    fuzz::require(!read.error().detail.empty(), "refused text comes with a reason");
  } else {
    for (int indent : {0, 2}) {
      const auto again = berth::json::parse(berth::json::write(*read, indent), "what was written");
      fuzz::require(again.has_value(), "what was written can be read");
      fuzz::require(*again == *read, "what was written reads back equal");
    }
  }
  // The dialect of config.json; NaN differs from itself, so only the reading is checked.
  const auto lenient = berth::json::parse(text, "input", {.max_depth = 16, .allow_nonfinite = true});
  if (lenient) {
    const auto written = berth::json::write(*lenient);
    fuzz::require(berth::json::parse(written, "", {.max_depth = 16, .allow_nonfinite = true}).has_value(),
                  "what was written with NaN can be read");
  }
  return 0;
}
