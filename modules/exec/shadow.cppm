// SPDX-License-Identifier: Apache-2.0
// Not exported: the memory of symbolic runs. Each byte knows what it holds, who wrote it last and who has read it
// since.
module;

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory_resource>
#include <span>
#include <vector>

export module berth.exec:shadow;

import berth.base;
import :handles;

namespace berth::detail {

/// A point of a stream: the tick-th operation on it.
struct moment {
  std::uint32_t stream = no_handle;
  std::uint64_t tick = 0;
};
/// Per stream, how many of its operations are known to be over.
using vector_clock = std::span<const std::uint64_t>;

inline bool over(const moment& m, vector_clock now) { return m.stream == no_handle || now[m.stream] >= m.tick; }

enum class content_kind : std::uint8_t { nothing, weights, activation, state };

/// What bytes mean: byte `offset` of an atom's weights (or stored file), of the activation after it in a round, or of
/// its state.
struct content {
  content_kind kind = content_kind::nothing;
  std::uint32_t atom = no_handle;
  std::uint64_t round = 0;
  bytes offset = 0;

  content later(bytes by) const { return {kind, atom, round, kind == content_kind::nothing ? 0 : offset + by}; }
  friend constexpr bool operator==(const content&, const content&) = default;
};
struct piece {
  bytes size = 0;
  content what;
};

/// What was wrong with a write.
struct write_faults {
  bool race = false;    ///< something that touched the bytes is not known to be over
  bool unread = false;  ///< they held something that nobody has read
};

/// One buffer. Cells are disjoint and cover it; amortised O(log cells) per access.
class shadow_buffer {
 public:
  shadow_buffer(bytes size, std::pmr::memory_resource* memory);

  /// True if all writes of the range are over for `now`. Notes the reader.
  bool read(bytes begin, bytes size, moment reader, vector_clock now);
  write_faults write(bytes begin, bytes size, moment writer, vector_clock now, const content& what);
  /// What a range holds, neighbours that continue each other as one. Replaces `out`.
  void look(bytes begin, bytes size, std::pmr::vector<piece>& out) const;
  bool holds(bytes begin, bytes size, const content& what) const;
  /// Whether the range holds nothing at all.
  bool blank(bytes begin, bytes size) const;

 private:
  struct cell {
    bytes end = 0;
    content what;
    moment written;
    std::pmr::vector<moment> readers;  ///< the last of each stream since the write
  };
  using cells = std::pmr::map<bytes, cell>;

  cells::iterator cut(bytes at);
  cells::const_iterator holding(bytes at) const;

  std::pmr::memory_resource* memory_;
  cells cells_;
};

}  // namespace berth::detail
