// SPDX-License-Identifier: Apache-2.0
module;

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <memory_resource>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

module berth.cuda;

import berth.base;
import berth.topology;
import berth.exec;

namespace berth::cuda {
namespace {

constexpr bytes chunk = MiB;

/// XXH3 (64 bits, seed 0) of bytes that come in pieces.
class checksum_of_pieces {
 public:
  checksum_of_pieces() { XXH3_64bits_reset(&state_); }
  void add(const std::byte* data, bytes size) { XXH3_64bits_update(&state_, data, static_cast<std::size_t>(size)); }
  std::uint64_t value() const { return XXH3_64bits_digest(&state_); }

 private:
  XXH3_state_t state_;
};

}  // namespace

result<std::uint64_t> machine::checksum(const storage_range& r) {
  std::pmr::vector<std::byte> piece(static_cast<std::size_t>(std::min(chunk, r.size)), memory_);
  checksum_of_pieces sum;
  for (bytes at = 0; at < r.size;) {
    const auto n = std::min(chunk, r.size - at);
    const auto part = std::span(piece).first(static_cast<std::size_t>(n));
    if (auto ok = options_.storage({r.file, r.offset + at, n}, part); !ok) return ok.propagate();
    sum.add(piece.data(), n);
    at += n;
  }
  return sum.value();
}

/// GPU memory comes back through the slots, one at a time: this is for checking, not for speed.
result<std::uint64_t> machine::checksum(const buffer_range& r) {
  if (auto ok = check(r); !ok) return ok.propagate();
  if (auto ok = usable("checksum"); !ok) return ok.propagate();
  const auto& b = buffers_[r.buffer.index];
  checksum_of_pieces sum;
  if (b.where != detail::place::gpu || r.size == 0) {
    if (r.size > 0) sum.add(b.data + r.offset, r.size);
    return sum.value();
  }
  const auto ring = ring_of(b.device);
  if (!ring) return ring.propagate();
  const auto helper = helper_of(b.device);
  if (!helper) return helper.propagate();
  auto& s = **helper;
  for (bytes at = 0; at < r.size;) {
    auto& slot = (*ring)->slots[(*ring)->next];
    const auto n = std::min(r.size - at, (*ring)->slot_size);
    if (auto ok = wait(s, slot.free); !ok) return ok.propagate();
    if (auto ok = copy_native(s, b.device, slot.data, b.data + r.offset + at, n); !ok) return ok.propagate();
    if (auto ok = done_by(cuda_.stream_synchronize(s.native), {"cudaStreamSynchronize", name_of(b.device)}); !ok)
      return ok.propagate();
    sum.add(slot.data, n);
    at += n;
  }
  return sum.value();
}

}  // namespace berth::cuda
