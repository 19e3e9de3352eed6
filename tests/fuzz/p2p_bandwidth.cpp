// SPDX-License-Identifier: Apache-2.0
// Any text as the output of p2pBandwidthLatencyTest.
#include <cstddef>
#include <cstdint>

#include "require.hpp"

import berth.formats;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto t = berth::read_p2p_bandwidth(fuzz::as_text(data, size), "input");
  if (t)
    fuzz::require(berth::validate(t->machine).has_value(), "an accepted machine is valid");
  else
    fuzz::require(!t.error().detail.empty(), "a refused text comes with a reason");
  return 0;
}
