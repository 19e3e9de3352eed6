// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

module berth.exec;

import berth.base;
import berth.topology;

namespace berth {

marked_activity activity_marker::next(const activity& a) {
  marked_activity out;
  const auto rounds = marks_.sizes[2];
  if (a.tag == no_tag || (a.tag >= decode_ && rounds == 0)) {
    if (a.end <= marks_.load_end) return out;
    out.phase = a.end <= marks_.prefill_end ? program_phase::prefill : program_phase::decode;
    if (out.phase == program_phase::prefill) return out;
    const auto& ends = marks_.round_ends;
    out.round = static_cast<std::uint32_t>(std::lower_bound(ends.begin(), ends.end(), a.end) - ends.begin());
    return out;
  }
  auto position = a.tag;
  if (a.tag < decode_) {
    const auto prefill = marks_.first_tag(program_phase::prefill);
    out.phase = a.tag < prefill ? program_phase::load : program_phase::prefill;
    out.operation = a.tag < prefill ? a.tag : a.tag - prefill;
  } else {
    out.phase = program_phase::decode;
    out.operation = (a.tag - decode_) % rounds;
    out.round = (a.tag - decode_) / rounds;
    position = decode_ + out.operation;
    if (out.round == 0) out.round = a.kind == activity_kind::fault ? seen_[out.operation] : seen_[out.operation]++;
  }
  if (position >= marks_.operations.size()) return out;
  out.atom = marks_.operations[position].atom;
  out.touched = marks_.operations[position].touched;
  return out;
}

}  // namespace berth
