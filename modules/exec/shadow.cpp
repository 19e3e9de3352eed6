// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory_resource>
#include <span>
#include <utility>
#include <vector>

module berth.exec;

import berth.base;
import :shadow;

namespace berth::detail {

shadow_buffer::shadow_buffer(bytes size, std::pmr::memory_resource* memory) : memory_(memory), cells_(memory) {
  if (size > 0) cells_.emplace(0, cell{size, {}, {}, std::pmr::vector<moment>(memory)});
}

/// The cell that begins at `at`, cut off from the one before if need be; the end if `at` is the end of the buffer.
shadow_buffer::cells::iterator shadow_buffer::cut(bytes at) {
  const auto next = cells_.lower_bound(at);
  if (next != cells_.end() && next->first == at) return next;
  const auto whole = std::prev(next);
  if (whole->second.end <= at) return cells_.end();
  auto& left = whole->second;
  cell right{left.end, left.what.later(at - whole->first), left.written,
             std::pmr::vector<moment>(left.readers, memory_)};
  left.end = at;
  return cells_.emplace_hint(next, at, std::move(right));
}

shadow_buffer::cells::const_iterator shadow_buffer::holding(bytes at) const {
  return std::prev(cells_.upper_bound(at));
}

bool shadow_buffer::read(bytes begin, bytes size, moment reader, vector_clock now) {
  if (size == 0) return true;
  bool ordered = true;
  const auto last = cut(begin + size);
  for (auto at = cut(begin); at != last; ++at) {
    auto& c = at->second;
    ordered = ordered && over(c.written, now);
    const auto same =
        std::find_if(c.readers.begin(), c.readers.end(), [&](const moment& m) { return m.stream == reader.stream; });
    if (same == c.readers.end())
      c.readers.push_back(reader);
    else
      *same = reader;
  }
  return ordered;
}

write_faults shadow_buffer::write(bytes begin, bytes size, moment writer, vector_clock now, const content& what) {
  write_faults found;
  if (size == 0) return found;
  const auto last = cut(begin + size);
  const auto first = cut(begin);
  for (auto at = first; at != last; ++at) {
    const auto& c = at->second;
    found.race = found.race || !over(c.written, now);
    for (const auto& r : c.readers) found.race = found.race || !over(r, now);
    found.unread = found.unread || (c.what.kind != content_kind::nothing && c.readers.empty());
  }
  first->second = {begin + size, what, writer, std::pmr::vector<moment>(memory_)};
  cells_.erase(std::next(first), last);
  return found;
}

void shadow_buffer::look(bytes begin, bytes size, std::pmr::vector<piece>& out) const {
  out.clear();
  const bytes end = begin + size;
  if (size == 0) return;
  for (auto at = holding(begin); at != cells_.end() && at->first < end; ++at) {
    const bytes from = std::max(begin, at->first), to = std::min(end, at->second.end);
    const auto what = at->second.what.later(from - at->first);
    if (!out.empty() && out.back().what.later(out.back().size) == what)
      out.back().size += to - from;
    else
      out.push_back({to - from, what});
  }
}

bool shadow_buffer::holds(bytes begin, bytes size, const content& what) const {
  const bytes end = begin + size;
  if (size == 0) return true;
  if (cells_.empty()) return false;
  for (auto at = holding(begin); at != cells_.end() && at->first < end; ++at) {
    const bytes from = std::max(begin, at->first);
    if (!(at->second.what.later(from - at->first) == what.later(from - begin))) return false;
  }
  return true;
}

bool shadow_buffer::blank(bytes begin, bytes size) const { return holds(begin, size, content{}); }

}  // namespace berth::detail
