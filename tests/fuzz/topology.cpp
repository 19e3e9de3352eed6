// SPDX-License-Identifier: Apache-2.0
// Any text as a machine: berth.topology/1, nvidia-smi matrices, NCCL and RCCL XML, measured rates.
#include <cstddef>
#include <cstdint>

#include "require.hpp"

import berth.formats;
import berth.topology;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto read = berth::read_topology(fuzz::as_text(data, size), "input");
  if (!read) {
    fuzz::require(!read.error().detail.empty(), "refused text comes with a reason");
    return 0;
  }
  const auto written = berth::write_topology_json(read->machine);
  const auto again = berth::read_topology_json(written, "what was written");
  fuzz::require(again.has_value(), "a written topology can be read");
  fuzz::require(berth::write_topology_json(again->machine) == written, "a written topology reads back equal");
  return 0;
}
