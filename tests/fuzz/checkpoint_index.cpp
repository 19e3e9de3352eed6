// SPDX-License-Identifier: Apache-2.0
// Any bytes as the index of a checkpoint.
#include <cstddef>
#include <cstdint>
#include <string>

#include "require.hpp"

import berth.base;
import berth.formats;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto document = berth::json::parse(fuzz::as_text(data, size), "input");
  if (!document) return 0;
  const auto index = berth::read_index(*document, "input");
  if (!index) {
    fuzz::require(!index.error().detail.empty(), "a refused index comes with a reason");
    return 0;
  }
  fuzz::require(!index->entries.empty(), "an accepted index names tensors");
  for (const auto& [name, shard] : index->entries) fuzz::require(shard < index->shards.size(), "every shard is listed");
  for (const auto& s : index->shards)
    fuzz::require(s.find('/') == std::string::npos && s != "..", "no shard lies outside the folder");
  return 0;
}
