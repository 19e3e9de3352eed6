// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

export module berth.exec:activity;

import berth.base;
import berth.topology;
import :handles;
import :requests;

export namespace berth {

enum class activity_kind : std::uint8_t { launch, copy, message, read, allocate, free, fault };

constexpr std::string_view name_of(activity_kind k) {
  constexpr std::array<std::string_view, 7> names{"launch", "copy", "message", "read", "allocate", "free", "fault"};
  const auto i = static_cast<std::size_t>(k);
  return i < names.size() ? names[i] : "unknown";
}

/// Something that happened on a machine, told when it is over. Launches, copies, messages and reads have a stream and
/// last from `start` to `end`; allocations, frees and faults are instants.
struct activity {
  activity_kind kind = activity_kind::launch;
  device_index device = no_index;  ///< where it ran; of a transfer: the target
  device_index from = no_index;    ///< of a transfer: the source
  stream_id stream;
  op_tag tag = no_tag;
  picoseconds start = 0;
  picoseconds end = 0;
  bytes size = 0;  ///< moved, allocated or freed (rounded up as the device does)

  friend constexpr bool operator==(const activity&, const activity&) = default;
};

/// Whoever wants to know of activities; called in the order of their ends. Must not call the machine.
struct observer {
  void* context = nullptr;
  void (*see)(void* context, const activity& a) = nullptr;

  void operator()(const activity& a) const {
    if (see != nullptr) see(context, a);
  }
};

}  // namespace berth
