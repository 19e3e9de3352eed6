// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>

export module berth.exec:handles;

import berth.base;

export namespace berth {

/// What machines hand out. An index belongs to the machine that made it; `no_handle` belongs to none.
inline constexpr std::uint32_t no_handle = 0xffffffffu;

/// A queue of work on one device: items run in the order of submission.
struct stream_id {
  std::uint32_t index = no_handle;
  friend constexpr bool operator==(stream_id, stream_id) = default;
};
/// A mark that streams reach and wait for.
struct event_id {
  std::uint32_t index = no_handle;
  friend constexpr bool operator==(event_id, event_id) = default;
};
/// Memory on one device.
struct buffer_id {
  std::uint32_t index = no_handle;
  friend constexpr bool operator==(buffer_id, buffer_id) = default;
};

/// A part of a buffer.
struct buffer_range {
  buffer_id buffer;
  bytes offset = 0;
  bytes size = 0;
  friend constexpr bool operator==(const buffer_range&, const buffer_range&) = default;
};

/// A part of a stored file; `file` is the number by which the machine's storage knows it.
struct storage_range {
  std::uint32_t file = 0;
  bytes offset = 0;
  bytes size = 0;
  friend constexpr bool operator==(const storage_range&, const storage_range&) = default;
};

/// Memory of a CPU that copy engines can address directly, or not. Other devices know one kind.
enum class memory_kind : std::uint8_t { plain, pinned };

}  // namespace berth
