// SPDX-License-Identifier: Apache-2.0
// Exports nothing: what becomes of a slot that was read.
module;

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

export module berth.runtime:slot_transfers;

import berth.base;
import berth.exec;
import :image;
import :read_plan;
import :slots;
import :load_memory;

namespace berth::detail {

/// Copies and transforms of slots, submitted to the machine.
template <class M>
class slot_transfers {
 public:
  explicit slot_transfers(load_memory<M>& memory) : at_(memory) {}

  /// Everything that becomes of one slot: copies, transforms, and the event after which it is free.
  result<done> send(std::uint32_t l, slot_state_of_lane& slot) {
    auto& lane = at_.lanes[l];
    const auto& planned = at_.reads.lanes[l];
    const auto& step = at_.reads.steps[slot.step];
    const bool scratch = step.transforms > 0 && !planned.host;
    if (step.transforms > 0) std::memset(slot.memory, 0xff, control_bytes);
    if (scratch) {
      if (auto ok = at_.machine.wait(lane.stream, lane.scratch_free[lane.half]); !ok) return ok;
      if (auto ok = at_.copy(lane.stream, {lane.staging.buffer, slot.offset, control_bytes},
                             {lane.scratch.buffer, scratch_at(lane), control_bytes}, at_.reads.parts[step.first].atom);
          !ok)
        return ok;
    }
    if (auto ok = copy_parts(l, slot, scratch); !ok) return ok;
    auto last = lane.stream;
    if (scratch) {
      if (auto ok = at_.machine.record(lane.stream, slot.copied); !ok) return ok;
      if (auto ok = at_.machine.wait(lane.transforms, slot.copied); !ok) return ok;
      last = lane.transforms;
    }
    if (step.transforms > 0)
      if (auto ok = launch_transforms(l, slot, last); !ok) return ok;
    if (scratch) {
      if (auto ok = at_.copy(last, {lane.scratch.buffer, scratch_at(lane), control_bytes},
                             {lane.staging.buffer, slot.offset, control_bytes}, at_.reads.parts[step.first].atom);
          !ok)
        return ok;
      if (auto ok = at_.machine.record(last, lane.scratch_free[lane.half]); !ok) return ok;
      lane.half = 1 - lane.half;
    }
    return at_.machine.record(last, slot.finished);
  }

  /// Of a slot whose transforms are done. Error: `unsupported` with tensor and row.
  result<done> rows_were_good(const slot_state_of_lane& slot) const {
    const auto& step = at_.reads.steps[slot.step];
    for (std::uint32_t i = 0; i < step.count && step.transforms > 0; ++i) {
      const auto& part = at_.reads.parts[step.first + i];
      std::uint32_t row = no_handle;
      std::memcpy(&row, slot.memory + i * sizeof row, sizeof row);
      if (part.piece.plain || row == no_handle) continue;
      return fail(errc::unsupported, at_.images.of(part.atom)[part.piece.tensor].name,
                  text<192>("row ")
                      .append(part.row + row)
                      .append(" holds NaN, infinity or values too small for an int8 scale; leave it out of int8 "
                              "(--int8-skip)"));
    }
    return done{};
  }

 private:
  bytes scratch_at(const lane_state& lane) const { return lane.scratch.offset + lane.half * lane.scratch_size; }

  /// Copies plain parts to their places and the others to the scratch, neighbours together.
  result<done> copy_parts(std::uint32_t l, const slot_state_of_lane& slot, bool scratch) {
    auto& lane = at_.lanes[l];
    const auto& planned = at_.reads.lanes[l];
    const auto& step = at_.reads.steps[slot.step];
    const auto shift = control_bytes + first_byte_of(step);
    for (auto i = step.first; i < step.first + step.count;) {
      const auto& part = at_.reads.parts[i];
      const bool plain = part.piece.plain;
      const auto target = [&](const read_part& of) { return plain ? of.target : scratch_at(lane) + shift + of.at; };
      auto size = step.columns > 0 ? step.slot_bytes() : part.piece.length;
      auto next = i + 1;
      for (; next < step.first + step.count; ++next) {
        const auto& n = at_.reads.parts[next];
        if (n.piece.plain != plain || n.at != part.at + size || target(n) != target(part) + size) break;
        size += n.piece.length;
      }
      if (plain || scratch) {
        const auto to = plain ? at_.handles.buffers[planned.buffer] : lane.scratch.buffer;
        if (auto ok = at_.copy(lane.stream, {lane.staging.buffer, slot.offset + shift + part.at, size},
                               {to, target(part), size}, part.atom);
            !ok)
          return ok;
      }
      i = next;
    }
    return done{};
  }

  /// Numbers of bad rows come back in front of the raw bytes.
  result<done> launch_transforms(std::uint32_t l, slot_state_of_lane& slot, stream_id stream) {
    auto& lane = at_.lanes[l];
    const auto& planned = at_.reads.lanes[l];
    const auto& step = at_.reads.steps[slot.step];
    const auto shift = control_bytes + first_byte_of(step);
    auto* raw = planned.host ? slot.memory : at_.machine.address(lane.scratch.buffer) + scratch_at(lane);
    const buffer_range from{planned.host ? lane.staging.buffer : lane.scratch.buffer,
                            planned.host ? slot.offset : scratch_at(lane), shift + step.slot_bytes()};
    for (std::uint32_t i = 0; i < step.count; ++i) {
      const auto& part = at_.reads.parts[step.first + i];
      if (part.piece.plain) continue;
      auto& job = slot.jobs[i];
      job.engine = at_.engine_for(planned);
      job.what = part.piece.how;
      job.what.source = raw + shift + part.at;
      job.what.target = lane.home + part.target;
      if (job.what.kind == transform_kind::quantize) {
        job.what.scales = reinterpret_cast<float*>(lane.home + part.scales);
        job.what.bad_row = reinterpret_cast<std::uint32_t*>(raw) + i;
      }
      launch_request r;
      r.work = {&job, &transform_job::run};
      r.touched = static_cast<double>(part.piece.length + part.piece.image_size);
      r.tag = at_.tag_of(part.atom);
      r.memory.in = from;
      r.memory.out = {at_.handles.buffers[planned.buffer], part.target, part.piece.image_size};
      if (auto ok = at_.machine.launch(stream, r); !ok) return ok;
    }
    return done{};
  }

  load_memory<M>& at_;
};

}  // namespace berth::detail
