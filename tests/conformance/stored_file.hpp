// SPDX-License-Identifier: Apache-2.0
// The storage of the suite: file 0, 2 MiB of bytes that tell where they are, and no other. Include before any import.
#pragma once

#include <cstddef>
#include <span>

import berth;

namespace conformance {

inline berth::result<berth::done> read_stored(void*, const berth::storage_range& from, std::span<std::byte> to) {
  if (from.file != 0) return berth::fail(berth::errc::not_found, "file", "there is only file 0");
  if (from.offset > 2 * berth::MiB || to.size() > 2 * berth::MiB - from.offset)
    return berth::fail(berth::errc::invalid_argument, "file 0", "the range leaves the file", from.offset + to.size(),
                       2 * berth::MiB);
  for (std::size_t i = 0; i < to.size(); ++i) {
    const auto at = (from.offset + i) * 0x9e3779b97f4a7c15u;
    to[i] = static_cast<std::byte>(at >> 40);
  }
  return berth::done{};
}

}  // namespace conformance
