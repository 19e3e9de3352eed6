// SPDX-License-Identifier: Apache-2.0
// What a machine says about handles that it did not make and memory that it does not have.
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <string_view>
#include <vector>

module berth.host;

import berth.base;
import berth.topology;
import berth.exec;

namespace berth::host {

result<done> machine::check(stream_id stream) const {
  if (queues_.has_stream(stream.index)) return done{};
  return fail(errc::invalid_argument, "stream", "this machine made no such stream");
}

result<done> machine::check(event_id event) const {
  if (queues_.has_event(event.index)) return done{};
  return fail(errc::invalid_argument, "event", "this machine made no such event");
}

result<done> machine::check(buffer_id buffer) const {
  if (buffer.index < buffers_.size() && buffers_[buffer.index].live) return done{};
  return fail(errc::invalid_argument, "buffer", "this machine made no such buffer, or it was freed");
}

result<done> machine::check(const buffer_range& r) const {
  if (auto ok = check(r.buffer); !ok) return ok;
  const auto size = buffers_[r.buffer.index].size;
  if (r.offset <= size && r.size <= size - r.offset) return done{};
  return fail(errc::invalid_argument, "range", "it leaves its buffer", r.offset + r.size, size);
}

/// Names the device and its largest live allocations.
failure machine::out_of_memory(device_index device, bytes asked, bytes needed, bytes left) const {
  constexpr int listed = 4;
  text<416> detail("an allocation of ");
  detail.append(format_size(asked)).append(" exceeds what is left, ").append(format_size(left));
  bytes below = max_bytes;
  for (int i = 0; i < listed; ++i) {
    bytes largest = 0;
    for (const auto& b : buffers_)
      if (b.live && b.taken < below && owner_of(b.device) == owner_of(device)) largest = std::max(largest, b.taken);
    if (largest == 0) break;
    detail.append(i == 0 ? "; largest in use: " : ", ").append(format_size(largest));
    below = largest;
  }
  return fail(errc::out_of_memory, topology_.devices[device].id.view(), detail.view(), needed, left);
}

}  // namespace berth::host
