// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <span>

module berth.exec;

namespace berth {

std::uint64_t fingerprint(const trace& t) {
  std::uint64_t h = 14695981039346656037u;
  const auto mix = [&h](std::uint64_t v) {
    for (int i = 0; i < 8; ++i) {
      h = (h ^ (v & 0xff)) * 1099511628211u;
      v >>= 8;
    }
  };
  for (const auto& a : t.records()) {
    mix(static_cast<std::uint64_t>(a.kind) | static_cast<std::uint64_t>(a.device) << 8);
    mix(static_cast<std::uint64_t>(a.from) | static_cast<std::uint64_t>(a.stream.index) << 32);
    mix(a.tag);
    mix(static_cast<std::uint64_t>(a.start));
    mix(static_cast<std::uint64_t>(a.end));
    mix(a.size);
  }
  return h;
}

}  // namespace berth
