// SPDX-License-Identifier: Apache-2.0
// Exports nothing: the memory of one load on one machine: what stays, and what weights pass through.
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <string>
#include <utility>
#include <vector>

export module berth.runtime:load_memory;

import berth.base;
import berth.topology;
import berth.plan;
import berth.exec;
import :image;
import :materialise_options;
import :load_report;
import :read_plan;
import :slots;

namespace berth::detail {

/// Frees buffers on streams of its own, one per device, since those that used them may hang. A device that is lost
/// makes no more of them: then a stream of the load has to do.
template <class M>
class buffer_release {
 public:
  explicit buffer_release(M& machine) : machine_(machine) {}

  template <class Streams>
  result<done> operator()(device_index device, buffer_id buffer, const Streams& streams) {
    if (own_.size() <= device) own_.resize(device + 1);
    auto& stream = own_[device];
    if (stream == stream_id{}) {
      const auto made = machine_.make_stream(device);
      if (!made && streams.empty()) return made.propagate();
      stream = made ? *made : streams.front();
    }
    if (auto ok = machine_.deallocate(stream, buffer); !ok) return ok;
    return machine_.synchronize(stream);
  }

 private:
  M& machine_;
  std::vector<stream_id> own_{};
};

/// Streams, events and buffers of a load; what it reads and where to; what it has to tell of that.
template <class M>
class load_memory {
 public:
  load_memory(M& on, const plan& what, const compiled_plan& programs, const weight_images& from,
              const materialise_options& how, std::pmr::memory_resource* memory)
      : machine(on), p(what), load(programs.load), images(from), options(how), handles(memory), release_(on) {}

  M& machine;
  const plan& p;
  const program& load;
  const weight_images& images;
  const materialise_options& options;
  frame_handles handles;
  load_report report{};
  read_plan reads{};
  std::vector<lane_state> lanes{};

  /// Takes what the plan counts, plans the reads, takes what they need.
  result<done> take(std::pmr::memory_resource* memory) {
    auto bound = bind(machine, load.frame, memory);
    if (!bound) return bound.propagate();
    handles = *std::move(bound);
    for (std::size_t b = 0; b < load.frame.buffers.size(); ++b) {
      const auto& what = load.frame.buffers[b];
      const auto made = machine.allocate(what.device, what.size, what.kind);
      if (!made) return made.propagate();
      handles.buffers[b] = *made;
      if (what.size > 0 && machine.address(*made) == nullptr)
        return fail(errc::unsupported, p.devices[what.device].id.view(),
                    "the machine has no memory that weights could be loaded into; simulate the plan instead");
    }
    count_devices();
    number_reads();
    return plan_and_stage();
  }
  device_load& report_of(device_index d) {
    return *std::find_if(report.devices.begin(), report.devices.end(),
                         [d](const device_load& l) { return l.device == d; });
  }

  const transform_engine& engine_for(const read_lane& lane) const {
    return p.devices[lane.device].kind == device_kind::gpu ? options.gpu : options.cpu;
  }

  result<done> fill_zeros() {
    for (const auto& z : reads.zeros) {
      auto& lane = lanes[z.lane];
      const auto& planned = reads.lanes[z.lane];
      report.zeros.push_back({z.atom, std::string(images.of(z.atom)[z.tensor].name)});
      if (planned.host) {
        std::memset(lane.home + z.target, 0, z.size);
        continue;
      }
      const auto& slot = lane.slots.front();
      const auto step = std::min(z.size, lane.slot_size);
      std::memset(slot.memory, 0, step);
      for (bytes at = 0; at < z.size; at += step) {
        const auto size = std::min(step, z.size - at);
        if (auto ok = copy(lane.stream, {lane.staging.buffer, slot.offset, size},
                           {handles.buffers[planned.buffer], z.target + at, size}, z.atom);
            !ok)
          return ok;
      }
      if (auto ok = machine.synchronize(lane.stream); !ok) return ok;
    }
    return done{};
  }

  result<done> drain() {
    for (const auto& lane : lanes) {
      if (auto ok = machine.synchronize(lane.stream); !ok) return ok;
      if (lane.transforms == stream_id{}) continue;
      if (auto ok = machine.synchronize(lane.transforms); !ok) return ok;
    }
    return done{};
  }

  /// Operations of the load are traced under their atom's read.
  op_tag tag_of(std::uint32_t atom) const { return tags_[atom]; }
  result<done> copy(stream_id stream, const buffer_range& from, const buffer_range& to, std::uint32_t atom) {
    const copy_request r{from, to, transfer_kind::copy, 0, tag_of(atom)};
    for (std::uint32_t attempt = 0;; ++attempt) {
      auto ok = machine.copy(stream, r);
      if (ok || ok.error().code != errc::copy_failed || attempt >= options.retries) return ok;
    }
  }

  result<done> give_back_staging() {
    result<done> first = done{};
    for (auto& lane : lanes)
      for (auto* taken : {&lane.staging, &lane.own_scratch}) {
        if (taken->buffer == buffer_id{}) continue;
        if (auto ok = release_(taken->device, taken->buffer, handles.streams); !ok && first) first = ok;
        taken->buffer = {};
      }
    return first;
  }
  /// What hangs or is lost cannot be waited for: errors do not count here.
  void give_back_all() {
    for (const auto& lane : lanes) {
      (void)machine.synchronize(lane.stream);
      if (!(lane.transforms == stream_id{})) (void)machine.synchronize(lane.transforms);
    }
    (void)give_back_staging();
    for (std::size_t b = 0; b < handles.buffers.size(); ++b) {
      if (handles.buffers[b] == buffer_id{}) continue;
      (void)release_(load.frame.buffers[b].device, handles.buffers[b], handles.streams);
      handles.buffers[b] = {};
    }
  }

 private:
  void number_reads() {
    tags_.assign(p.atoms.size(), no_tag);
    for (std::size_t i = 0; i < load.operations.size(); ++i)
      if (load.operations[i].kind == op_kind::read) tags_[load.operations[i].atom] = static_cast<op_tag>(i);
  }
  void count_devices() {
    for (const auto& u : p.uses) {
      if (p.devices[u.device].kind == device_kind::disk) continue;
      device_load d;
      d.device = u.device;
      for (const auto& b : load.frame.buffers) {
        if (b.device != u.device) continue;
        d.taken += b.size;
        d.pinned += b.kind == memory_kind::pinned ? b.size : 0;
      }
      report.devices.push_back(d);
    }
  }
  /// Plans reads for slots of the wanted size, or for smaller ones where there is no memory for that.
  result<done> plan_and_stage() {
    for (bytes limit = slot_limit();; limit /= 2) {
      auto planned = plan_reads(p, load, images, limit / direct_step * direct_step);
      if (!planned) return planned.propagate();
      reads = *std::move(planned);
      auto staged = stage();
      if (staged) return staged;
      (void)give_back_staging();
      if (staged.error().code != errc::out_of_memory || limit / 2 < least_slot) return staged;
      report.warnings.push_back(std::string("no room for staging slots of ")
                                    .append(format_size(limit))
                                    .append(": loading with smaller ones"));
    }
  }
  bytes slot_limit() const { return options.staging / options.slots - slot_overhead; }

  result<done> stage() {
    lanes.clear();
    const auto cpu = p.topology().first(device_kind::cpu);
    for (std::uint32_t l = 0; l < reads.lanes.size(); ++l) {
      const auto& planned = reads.lanes[l];
      auto& lane = lanes.emplace_back();
      lane.next = planned.first;
      lane.end = planned.first + planned.count;
      lane.stream = handles.streams[planned.stream];
      lane.home = machine.address(handles.buffers[planned.buffer]);
      const bool zeros = !planned.host && std::any_of(reads.zeros.begin(), reads.zeros.end(),
                                                      [l](const zero_range& z) { return z.lane == l; });
      if (planned.staged == 0 && !zeros) continue;
      if (!cpu)
        return fail(errc::unsupported, p.topology_name.view(),
                    "weights reach a GPU through host memory, but the topology has no CPU; add one to it");
      if (auto ok = make_slots(lane, planned, *cpu); !ok) return ok;
      if (planned.transformed > 0 && !planned.host)
        if (auto ok = make_scratch(lane, planned); !ok) return ok;
      if (planned.transformed > 0 && engine_for(planned).run == nullptr)
        return fail(errc::unsupported, p.devices[planned.device].id.view(),
                    "weights have to be converted there and no transform engine was given");
    }
    return done{};
  }
  result<done> make_slots(lane_state& lane, const read_lane& planned, device_index cpu) {
    const auto count = std::clamp<std::uint32_t>(planned.staged, 1, options.slots);
    lane.slot_size = slot_size_for(std::max(planned.largest, least_zeros));
    const auto size = count * lane.slot_size;
    const auto made = machine.allocate(cpu, size, planned.host ? memory_kind::plain : memory_kind::pinned);
    if (!made) return made.propagate();
    lane.staging = {*made, cpu};
    auto* at = machine.address(*made);
    if (at == nullptr) return fail(errc::unsupported, "staging", "the machine does not show its host memory");
    report_of(planned.device).staging = size;
    lane.slots.resize(count);
    for (std::uint32_t s = 0; s < count; ++s) {
      auto& slot = lane.slots[s];
      slot.offset = s * lane.slot_size;
      slot.memory = at + slot.offset;
      for (auto* e : {&slot.copied, &slot.finished}) {
        const auto event = machine.make_event();
        if (!event) return event.propagate();
        *e = *event;
      }
    }
    return done{};
  }

  /// Where raw bytes wait for their transform on a GPU: the part of its arena that is not filled before the first
  /// prompt, if that is large enough.
  result<done> make_scratch(lane_state& lane, const read_lane& planned) {
    const auto stream = machine.make_stream(planned.device);
    if (!stream) return stream.propagate();
    lane.transforms = *stream;
    for (auto& e : lane.scratch_free) {
      const auto event = machine.make_event();
      if (!event) return event.propagate();
      e = *event;
    }
    lane.scratch_size = slot_size_for(planned.scratch);
    bytes filled = 0;
    for (const auto& op : load.operations)
      if (op.kind == op_kind::read && op.to.buffer == planned.buffer)
        filled = std::max(filled, round_up(op.to.offset + op.to.size, scratch_step));
    const auto arena = load.frame.buffers[planned.buffer].size;
    if (filled <= arena && arena - filled >= 2 * lane.scratch_size) {
      lane.scratch = {handles.buffers[planned.buffer], filled, 2 * lane.scratch_size};
      return done{};
    }
    const auto made = machine.allocate(planned.device, 2 * lane.scratch_size, memory_kind::plain);
    if (!made) return made.propagate();
    lane.own_scratch = {*made, planned.device};
    lane.scratch = {*made, 0, 2 * lane.scratch_size};
    report_of(planned.device).scratch = 2 * lane.scratch_size;
    return done{};
  }

  buffer_release<M> release_;
  std::vector<op_tag> tags_{};  // per atom
};

}  // namespace berth::detail
