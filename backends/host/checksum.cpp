// SPDX-License-Identifier: Apache-2.0
module;

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <vector>

module berth.host;

import berth.base;
import berth.exec;

namespace berth::host {

result<std::uint64_t> machine::checksum(const buffer_range& r) {
  catch_up();
  if (auto ok = check(r); !ok) return ok.propagate();
  if (r.size == 0) return XXH3_64bits(nullptr, 0);
  return XXH3_64bits(buffers_[r.buffer.index].memory.data() + r.offset, static_cast<std::size_t>(r.size));
}

result<std::uint64_t> machine::checksum(const storage_range& r) {
  constexpr bytes step = MiB;
  chunk_.resize(static_cast<std::size_t>(std::min(r.size, step)));
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  for (bytes at = 0; at < r.size; at += step) {
    const auto size = std::min(step, r.size - at);
    const auto part = std::span(chunk_).first(static_cast<std::size_t>(size));
    if (auto ok = storage_({r.file, r.offset + at, size}, part); !ok) return ok.propagate();
    XXH3_64bits_update(&state, part.data(), part.size());
  }
  return XXH3_64bits_digest(&state);
}

}  // namespace berth::host
