// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <string_view>
#include <vector>

module berth.exec;

import berth.base;
import berth.model;
import berth.topology;
import berth.plan;
import :demand;

namespace berth::detail {
namespace {

class surveyor {
 public:
  surveyor(const plan& p, std::span<const program* const> programs, demand& d, findings& found,
           std::pmr::memory_resource* memory)
      : p_(p), programs_(programs), d_(d), found_(found), marks_(memory), recorded_(memory), frame_(nullptr) {}

  bool run() {
    if (!same_frames()) return false;
    buffers();
    rings();
    streams();
    if (!found_.empty()) return false;
    for (const auto* g : programs_)
      if (!numbers(*g)) return false;
    loading(*programs_[0]);
    for (const auto ph : all_phases) passing(*programs_[1 + static_cast<std::size_t>(ph)], ph);
    events();
    return true;
  }

 private:
  /// How often a phase does something for an atom.
  struct atom_marks {
    std::uint32_t loads = 0, launches = 0, messages = 0, moves = 0, empty_copies = 0;
    program_range in, out;  ///< activations as its launch sees them
    bytes copied = 0;
  };

  std::string_view device_name(device_index d) const { return p_.devices[d].id.view(); }
  std::string_view atom_name(std::uint32_t i) const { return p_.atoms[i].name; }

  bool same_frames() {
    if (programs_.size() != program_phase_count || std::count(programs_.begin(), programs_.end(), nullptr) != 0) {
      found_.add("programs", "three are needed: load, prefill, decode");
      return false;
    }
    frame_ = &programs_[0]->frame;
    for (std::size_t k = 0; k < program_phase_count; ++k) {
      if (programs_[k]->phase != static_cast<program_phase>(k))
        found_.add("programs", "they are not load, prefill and decode in this order");
      if (!(programs_[k]->frame == *frame_)) found_.add("programs", "their frames differ");
    }
    return found_.empty();
  }

  bool used(device_index d) const { return d < d_.devices.size() && d_.devices[d].used; }

  void buffers() {
    for (std::uint32_t b = 0; b < frame_->buffers.size(); ++b) {
      const auto& buffer = frame_->buffers[b];
      if (!used(buffer.device) || !p_.devices[buffer.device].executes()) {
        found_.add("buffer", "lies on a device that the plan does not use");
        continue;
      }
      if (buffer.role != buffer_role::arena) continue;
      auto& d = d_.devices[buffer.device];
      if (d.arena != no_handle) found_.add(device_name(buffer.device), "has two arenas");
      d.arena = b;
    }
    for (device_index i = 0; i < d_.devices.size(); ++i) {
      const auto& d = d_.devices[i];
      if (!d.used || !p_.devices[i].executes()) continue;
      const bytes size = d.arena == no_handle ? 0 : frame_->buffers[d.arena].size;
      if (size != d.total) found_.add(device_name(i), "its arena has another size than the plan", d.total, size);
    }
  }

  void rings() {
    for (std::uint32_t r = 0; r < frame_->rings.size(); ++r) {
      const auto& ring = frame_->rings[r];
      if (!used(ring.device)) {
        found_.add("ring", "lies on a device that the plan does not use");
        continue;
      }
      auto& d = d_.devices[ring.device];
      const auto name = device_name(ring.device);
      if (d.ring != no_handle) found_.add(name, "has two rings");
      d.ring = r;
      if (ring.buffer != d.arena) found_.add(name, "its ring lies outside its arena");
      if (ring.slots == 0 || ring.slots != p_.staging_slots) found_.add(name, "its ring has another number of slots");
      const bytes start = d.weights + d.states + d.workspace;
      if (ring.slots == 0 || ring.offset < start || ring.offset - start > d.staging ||
          ring.slot_size > (d.staging - (ring.offset - start)) / ring.slots)
        found_.add(name, "its ring leaves the staging slots of the plan");
      const std::uint64_t events = frame_->events;
      if (ring.copied > events || ring.slots > events - ring.copied || ring.freed > events ||
          ring.slots > events - ring.freed)
        found_.add(name, "its ring has events that do not exist");
    }
    for (device_index i = 0; i < d_.devices.size(); ++i)
      for (const auto steps : d_.devices[i].steps)
        if (steps > 0 && d_.devices[i].ring == no_handle) found_.add(device_name(i), "has no ring to stream to");
  }

  void streams() {
    for (const auto& s : frame_->streams)
      if (!used(s.device) || (s.role == stream_role::message) != (s.peer != no_index) ||
          (s.peer != no_index && !used(s.peer)))
        found_.add("stream", "belongs to a device that the plan does not use");
  }

  /// Numbers of streams, buffers, atoms, events and ranges.
  bool numbers(const program& g) {
    if (g.copies.size() != frame_->rings.size())
      found_.add(name_of(g.phase), "counts copies of other rings than there are");
    for (std::uint32_t r = 0; r < frame_->rings.size() && found_.empty(); ++r) {
      const auto& steps = d_.devices[frame_->rings[r].device].steps;
      const auto expected = g.phase == program_phase::load      ? 0u
                            : g.phase == program_phase::prefill ? steps[0]
                                                                : steps[1];
      if (g.copies[r] != expected)
        found_.add(device_name(frame_->rings[r].device), "its ring turns by another number of steps than atoms stream");
    }
    for (const auto& o : g.operations) {
      if (found_.full()) break;
      if (!number_fits(g, o)) found_.add(name_of(g.phase), text<96>("a bad number in a ").append(name_of(o.kind)));
    }
    return found_.empty();
  }
  bool number_fits(const program& g, const operation& o) const {
    if (o.kind == op_kind::allocate) return o.buffer < frame_->buffers.size();
    if (o.stream >= frame_->streams.size()) return false;
    if (o.kind == op_kind::free) return o.buffer < frame_->buffers.size();
    if (o.kind == op_kind::record || o.kind == op_kind::wait) return event_fits(g, o);
    if (o.atom >= p_.atoms.size()) return false;
    if (o.kind == op_kind::launch) {
      const auto& m = o.memory;
      for (const auto* r : {&m.weights, &m.state, &m.workspace, &m.in, &m.out})
        if (r->buffer == no_handle ? !(*r == program_range{}) : !range_fits(g, *r)) return false;
      return true;
    }
    return range_fits(g, o.to) && (o.kind != op_kind::copy || (range_fits(g, o.from) && o.from.size == o.to.size)) &&
           (o.kind != op_kind::read || (o.stored.file < p_.atoms.size() && o.stored.size == o.to.size));
  }
  bool event_fits(const program& g, const operation& o) const {
    if (o.event >= frame_->events) return false;
    if (o.event_ring == no_handle) return true;
    if (o.event_ring >= frame_->rings.size()) return false;
    const auto& ring = frame_->rings[o.event_ring];
    return (o.event == ring.copied || o.event == ring.freed) && o.event_step < g.copies[o.event_ring];
  }
  bool range_fits(const program& g, const program_range& r) const {
    if (r.buffer >= frame_->buffers.size()) return false;
    bytes room = frame_->buffers[r.buffer].size;
    if (r.ring != no_handle) {
      if (r.ring >= frame_->rings.size() || r.step >= g.copies[r.ring]) return false;
      if (frame_->rings[r.ring].buffer != r.buffer) return false;
      room = frame_->rings[r.ring].slot_size;
    }
    return r.size <= room && r.offset <= room - r.size;
  }

  device_index device_at(const program_range& r) const { return frame_->buffers[r.buffer].device; }
  bool in_arena(const program_range& r) const { return r.buffer == d_.devices[device_at(r)].arena; }
  bool runs_on(const operation& o, stream_role role, device_index device, device_index peer = no_index) const {
    return frame_->streams[o.stream] == program_stream{device, role, peer};
  }
  /// Activations and leaving states use the workspace or memory outside the arena.
  bool in_workspace(const program_range& r) const {
    if (r.ring != no_handle) return false;
    if (!in_arena(r)) return true;
    const auto& d = d_.devices[device_at(r)];
    const bytes start = d.weights + d.states;
    return r.offset >= start && r.offset + r.size <= start + d.workspace;
  }

  void loading(const program& g) {
    std::pmr::vector<std::uint32_t> allocated(frame_->buffers.size(), marks_.get_allocator().resource());
    marks_.assign(p_.atoms.size(), {});
    if (g.last_stream != no_handle) found_.add("load", "names a last stream");
    for (const auto& o : g.operations) {
      if (o.kind == op_kind::allocate && ++allocated[o.buffer] == 1) continue;
      if (o.kind == op_kind::record || o.kind == op_kind::wait) continue;
      if (o.kind != op_kind::read)
        found_.add("load", text<96>("has no use for this ").append(name_of(o.kind)));
      else
        load_of(o);
    }
    if (std::count(allocated.begin(), allocated.end(), 0u) != 0) found_.add("load", "leaves a buffer unallocated");
    for (std::uint32_t i = 0; i < p_.atoms.size(); ++i) {
      const bool stays = p_.devices[p_.placements[i].home].executes() && d_.atoms[i].own > 0;
      if (marks_[i].loads != (stays ? 1u : 0u)) found_.add(atom_name(i), "is not loaded exactly once");
    }
  }
  void load_of(const operation& o) {
    const auto home = p_.placements[o.atom].home;
    auto& a = d_.atoms[o.atom];
    ++marks_[o.atom].loads;
    a.loaded = o.to;
    if (device_at(o.to) != home || !in_arena(o.to) || o.to.ring != no_handle)
      found_.add(atom_name(o.atom), "is loaded to another place than its home's arena");
    else if (o.to.offset + o.to.size > d_.devices[home].weights)
      found_.add(atom_name(o.atom), "is loaded outside the weights of its home");
    if (o.stored != storage_range{o.atom, 0, a.own})
      found_.add(atom_name(o.atom), "is loaded from other bytes than its own", a.own, o.stored.size);
    if (!runs_on(o, stream_role::load, home)) found_.add(atom_name(o.atom), "is loaded on a stream of another kind");
  }

  void passing(const program& g, phase ph) {
    marks_.assign(p_.atoms.size(), {});
    for (const auto& o : g.operations) {
      if (o.kind == op_kind::record || o.kind == op_kind::wait) continue;
      if (o.kind == op_kind::allocate || o.kind == op_kind::free)
        found_.add(name_of(g.phase), text<96>("has no use for this ").append(name_of(o.kind)));
      else if (o.kind == op_kind::launch)
        launch_of(o, ph);
      else if (o.to.ring != no_handle)
        slot_of(o, ph);
      else if (o.kind == op_kind::copy && o.transfer == transfer_kind::message)
        message_of(o, ph);
      else if (o.kind == op_kind::copy)
        state_of(o, ph);
      else
        found_.add(atom_name(o.atom), "is read into a place that is no slot");
    }
    for (std::uint32_t i = 0; i < p_.atoms.size(); ++i) totals_of(i, ph);
    activations(ph);
    last_stream_of(g, ph);
  }

  void launch_of(const operation& o, phase ph) {
    const auto& a = p_.atoms[o.atom];
    ++marks_[o.atom].launches;
    if (!runs_on(o, stream_role::compute, p_.placements[o.atom].runs(ph)))
      found_.add(a.name, "runs on another device than planned");
    if (o.flops != a.in(ph).flops || o.touched != a.in(ph).touched || o.compute != a.compute)
      found_.add(a.name, "its launch states other costs than the plan");
    memory_of(o, ph);
  }

  void memory_of(const operation& o, phase ph) {
    const auto& at = p_.placements[o.atom];
    const auto on = at.runs(ph);
    const auto& d = d_.devices[on];
    const auto& m = o.memory;
    const auto name = atom_name(o.atom);
    for (const auto* r : {&m.weights, &m.state, &m.workspace, &m.in, &m.out})
      if (r->buffer != no_handle && device_at(*r) != on) return found_.add(name, "is given memory of another device");
    const auto& a = d_.atoms[o.atom];
    const bytes start = d.weights + d.states;
    if (d.arena != no_handle && m.workspace != program_range{d.arena, start, d.workspace, no_handle, 0})
      found_.add(name, "is given another workspace than its device has");
    if (on == at.execution && d.arena != no_handle &&
        m.state != program_range{d.arena, a.state_at, p_.atoms[o.atom].state, no_handle, 0})
      found_.add(name, "is given another state than its own");
    if (on != at.execution && (m.state.size != a.moved || (m.state.size > 0 && in_arena(m.state))))
      found_.add(name, "is given no place of its own for the state that it leaves");
    for (const auto* r : {&m.in, &m.out})
      if (r->buffer != no_handle && !in_workspace(*r)) found_.add(name, "is given an activation outside the workspace");
    marks_[o.atom].in = m.in;
    marks_[o.atom].out = m.out;
  }

  /// What an atom leaves is what the next one finds, directly or by message.
  void activations(phase ph) {
    const auto k = static_cast<std::size_t>(ph);
    for (std::uint32_t i = 0; i + 1 < p_.atoms.size(); ++i) {
      const auto& a = d_.atoms[i];
      const bool found =
          a.hops[k] ? marks_[i].out == a.out[k] && marks_[i + 1].in == a.in[k] : marks_[i].out == marks_[i + 1].in;
      if (!found) found_.add(atom_name(i), "its activation is not where the next atom looks for it");
    }
  }

  void slot_of(const operation& o, phase ph) {
    const auto& at = p_.placements[o.atom];
    const auto on = at.runs(ph);
    auto& m = marks_[o.atom];
    m.copied += o.to.size;
    m.empty_copies += o.to.size == 0 ? 1 : 0;
    if (o.to.ring != d_.devices[on].ring || at.home == on)
      return found_.add(atom_name(o.atom), "is copied to a ring of a device that does not stream it");
    if (o.to.step != d_.atoms[o.atom].step[static_cast<std::size_t>(ph)])
      found_.add(atom_name(o.atom), "is copied to the slot of another atom");
    const bool stored = p_.devices[at.home].kind == device_kind::disk;
    if (stored != (o.kind == op_kind::read) || (!stored && (device_at(o.from) != at.home || !in_arena(o.from))) ||
        (!stored && (o.from.ring != no_handle || o.transfer != transfer_kind::copy)))
      found_.add(atom_name(o.atom), "is streamed from another place than its home");
    if (!runs_on(o, stream_role::copy_in, on)) found_.add(atom_name(o.atom), "is streamed on a stream of another kind");
  }

  void message_of(const operation& o, phase ph) {
    const auto k = static_cast<std::size_t>(ph);
    auto& a = d_.atoms[o.atom];
    if (!a.hops[k] || ++marks_[o.atom].messages > 1)
      return found_.add(atom_name(o.atom), "sends an activation that nobody waits for");
    const auto from = p_.placements[o.atom].runs(ph), to = p_.placements[o.atom + 1].runs(ph);
    if (device_at(o.from) != from || device_at(o.to) != to || !runs_on(o, stream_role::message, from, to))
      found_.add(atom_name(o.atom), "sends its activation from or to another device than planned");
    if (o.to.size != a.message[k])
      found_.add(atom_name(o.atom), "sends an activation of another size", a.message[k], o.to.size);
    if (!in_workspace(o.from) || !in_workspace(o.to))
      found_.add(atom_name(o.atom), "keeps its activation outside the workspace");
    a.out[k] = o.from;
    a.in[k] = o.to;
  }

  void state_of(const operation& o, phase ph) {
    auto& a = d_.atoms[o.atom];
    const auto& at = p_.placements[o.atom];
    if (ph != phase::prefill || a.moved == 0 || ++marks_[o.atom].moves > 1)
      return found_.add(atom_name(o.atom), "makes a copy that the plan does not ask for");
    const auto& on = d_.devices[at.execution];
    if (!(o.to == program_range{on.arena, a.state_at, a.moved, no_handle, 0}))
      found_.add(atom_name(o.atom), "moves its state to another place than its own");
    if (device_at(o.from) != at.prompt || !runs_on(o, stream_role::copy_out, at.prompt) || !in_workspace(o.from))
      return found_.add(atom_name(o.atom), "moves its state from another device or place than planned");
    a.state_from = o.from;
    if (!in_arena(o.from)) return;
    auto& leaving = d_.devices[at.prompt].leaving;
    if (leaving.size == 0) leaving = o.from;
    const bytes start = std::min(leaving.offset, o.from.offset);
    leaving.size = std::max(leaving.offset + leaving.size, o.from.offset + o.from.size) - start;
    leaving.offset = start;
  }

  void totals_of(std::uint32_t i, phase ph) {
    const auto k = static_cast<std::size_t>(ph);
    const auto& a = d_.atoms[i];
    const auto& m = marks_[i];
    if (m.launches != 1) found_.add(atom_name(i), "does not run exactly once in a round");
    if (m.messages != (a.hops[k] ? 1u : 0u)) found_.add(atom_name(i), "does not send its activation");
    if (m.moves != (ph == phase::prefill && a.moved > 0 ? 1u : 0u)) found_.add(atom_name(i), "does not move its state");
    const bytes whole = p_.placements[i].streamed(ph) ? p_.atoms[i].weights : 0;
    if (m.copied != whole) found_.add(atom_name(i), "is not copied exactly once in a round", whole, m.copied);
    if (m.empty_copies > (whole == 0 ? 1u : 0u)) found_.add(atom_name(i), "has copies of nothing");
  }

  void last_stream_of(const program& g, phase ph) {
    if (p_.atoms.empty()) return;
    const auto on = p_.placements.back().runs(ph);
    if (g.last_stream >= frame_->streams.size() ||
        !(frame_->streams[g.last_stream] == program_stream{on, stream_role::compute, no_index}))
      found_.add(name_of(g.phase), "its last stream is not that of the last atom");
  }

  /// Whoever waits for an event that nothing records is wrong, though nothing hangs: a wait binds to the latest record
  /// submitted before it, so that what it waits for has been submitted and no circle of waits can arise.
  void events() {
    recorded_.assign(frame_->events, 0);
    for (const auto* g : programs_)
      for (const auto& o : g->operations)
        if (o.kind == op_kind::record) recorded_[o.event] = 1;
    for (const auto* g : programs_)
      for (const auto& o : g->operations)
        if (o.kind == op_kind::wait && recorded_[o.event] == 0)
          found_.add(o.atom < p_.atoms.size() ? atom_name(o.atom) : name_of(g->phase),
                     text<96>("waits for what never comes: event ").append(o.event));
  }

  const plan& p_;
  std::span<const program* const> programs_;
  demand& d_;
  findings& found_;
  std::pmr::vector<atom_marks> marks_;
  std::pmr::vector<std::uint8_t> recorded_;
  const program_frame* frame_;
};

}  // namespace

bool survey(const plan& p, std::span<const program* const> programs, demand& d, findings& found,
            std::pmr::memory_resource* memory) {
  return surveyor(p, programs, d, found, memory).run();
}

}  // namespace berth::detail
