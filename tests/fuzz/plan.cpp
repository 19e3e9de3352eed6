// SPDX-License-Identifier: Apache-2.0
// Any JSON as a plan, and as a device map.
#include <cstddef>
#include <cstdint>

#include "require.hpp"

import berth.formats;
import berth.plan;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto document = berth::json::parse(fuzz::as_text(data, size), "input");
  if (!document) return 0;
  const auto map = berth::read_device_map(*document, "input");
  fuzz::require(map.has_value() || !map.error().detail.empty(), "a refused map comes with a reason");
  const auto read = berth::read_plan(*document, "input");
  if (!read) {
    fuzz::require(!read.error().detail.empty(), "a refused plan comes with a reason");
    return 0;
  }
  const auto violations = berth::check(read->plan);
  const auto written = berth::write_plan(read->plan);
  const auto again = berth::read_plan(written, "what was written");
  fuzz::require(again.has_value(), "a written plan can be read");
  fuzz::require(berth::write_plan(again->plan) == written, "a written plan reads back equal");
  fuzz::require(berth::check(again->plan).size() == violations.size(), "writing a plan changes no verdict");
  return 0;
}
