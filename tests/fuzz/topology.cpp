// SPDX-License-Identifier: Apache-2.0
// Any bytes as a topology of whatever format they look like; JSON above all.
#include <cstddef>
#include <cstdint>

#include "require.hpp"

import berth.formats;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto t = berth::read_topology(fuzz::as_text(data, size), "input");
  if (!t) {
    fuzz::require(!t.error().detail.empty(), "a refused text comes with a reason");
    return 0;
  }
  fuzz::require(berth::validate(t->machine).has_value(), "an accepted machine is valid");
  const auto again = berth::read_topology_json(berth::write_topology_json(t->machine), "what was written");
  fuzz::require(again.has_value(), "a written machine can be read");
  fuzz::require(again->machine == t->machine, "a written machine reads back equal");
  fuzz::require(again->notes.empty(), "a written machine holds no unknown members");
  return 0;
}
