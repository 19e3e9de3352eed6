// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <utility>
#include <vector>

module berth.exec;

import berth.base;
import berth.model;
import berth.topology;
import berth.plan;
import :scheme;

namespace berth {
namespace {

using detail::hops;

/// Appends the operations of one phase.
class writer {
 public:
  writer(const plan& p, detail::scheme& s, const compile_options& options, std::pmr::memory_resource* memory)
      : p_(p), s_(s), options_(options), steps_(memory), unmoved_(memory), borrowed_(memory), out_(memory) {}

  program run(program_phase phase) {
    out_.phase = phase;
    out_.copies.assign(s_.frame.rings.size(), 0);
    if (phase == program_phase::load)
      load();
    else
      round(phase == program_phase::prefill ? berth::phase::prefill : berth::phase::decode);
    out_.frame = std::move(s_.frame);
    return std::move(out_);
  }

 private:
  using borrowing = std::pair<std::uint32_t, std::uint32_t>;  ///< atom, tie whose bytes lie with another atom

  operation& append(op_kind kind, std::uint32_t stream, std::uint32_t atom) {
    auto& op = out_.operations.emplace_back();
    op.kind = kind;
    op.stream = stream;
    op.atom = atom;
    return op;
  }
  void record(std::uint32_t stream, std::uint32_t event, std::uint32_t atom) {
    append(op_kind::record, stream, atom).event = event;
  }
  void wait(std::uint32_t stream, std::uint32_t event, std::uint32_t atom) {
    append(op_kind::wait, stream, atom).event = event;
  }
  void on_slot(op_kind kind, std::uint32_t stream, std::uint32_t first, std::uint32_t ring, std::uint32_t atom) {
    auto& op = append(kind, stream, atom);
    op.event = first;
    op.event_ring = ring;
    op.event_step = steps_[atom];
  }

  void load() {
    for (std::uint32_t b = 0; b < s_.frame.buffers.size(); ++b)
      append(op_kind::allocate, no_handle, no_index).buffer = b;
    for (std::uint32_t i = 0; i < p_.atoms.size(); ++i) {
      const auto& d = s_.devices[p_.placements[i].home];
      const auto& w = s_.layout.weights[i];
      if (w.size == 0 || d.load == no_handle) continue;  // nothing of its own, or it stays on the disk
      auto& op = append(op_kind::read, d.load, i);
      op.stored = {i, 0, w.size};
      op.to = {d.arena, w.offset, w.size};
    }
  }

  void round(phase ph) {
    const auto n = static_cast<std::uint32_t>(p_.atoms.size());
    if (n == 0) return;
    for (std::uint32_t u = 0; u < p_.ties.size(); ++u)
      if (p_.ties[u].size > 0 && s_.layout.shared[u].holder != p_.ties[u].atom)
        borrowed_.emplace_back(p_.ties[u].atom, u);
    std::sort(borrowed_.begin(), borrowed_.end());
    steps_.assign(n, 0);
    unmoved_.assign(p_.devices.size(), no_handle);
    for (std::uint32_t i = 0; i < n; ++i)
      if (const auto& at = p_.placements[i]; at.streamed(ph)) steps_[i] = out_.copies[s_.devices[at.runs(ph)].ring]++;
    if (ph == phase::decode)  // the prompt's last states may still be leaving
      for (std::uint32_t i = 0; i < n; ++i)
        if (s_.events[i].moved != no_handle) unmoved_[p_.placements[i].prompt] = s_.events[i].moved;
    for (std::uint32_t i = 0; i < n; ++i) {
      if (p_.placements[i].streamed(ph)) copy_weights(i, ph);
      wait_before(i, ph);
      launch(i, ph);
      record_after(i, ph);
      if (hops(p_, i, ph)) send(i, ph);
      if (ph == phase::prefill && s_.events[i].moved != no_handle) move_state(i);
    }
    out_.last_stream = compute_of(n - 1, ph);
  }

  const detail::device_scheme& device_of(std::uint32_t i, phase ph) const {
    return s_.devices[p_.placements[i].runs(ph)];
  }
  std::uint32_t compute_of(std::uint32_t i, phase ph) const { return device_of(i, ph).compute; }
  program_range in_slot(std::uint32_t i, phase ph, bytes offset, bytes size) const {
    const auto ring = device_of(i, ph).ring;
    return {s_.frame.rings[ring].buffer, offset, size, ring, steps_[i]};
  }

  /// Fills the slot of atom i. What lies with another atom on the home is copied from there, behind the atom's own
  /// bytes. Weights of no bytes keep their copy (it has a set-up cost), unless there is no memory to name.
  void copy_weights(std::uint32_t i, phase ph) {
    const auto& d = device_of(i, ph);
    const auto& ring = s_.frame.rings[d.ring];
    const auto& w = s_.layout.weights[i];
    const auto home = p_.placements[i].home;
    const auto source = s_.devices[home].arena;
    on_slot(op_kind::wait, d.copy_in, ring.freed, d.ring, i);
    if (p_.devices[home].kind == device_kind::disk) {
      if (ring.buffer != no_handle) {
        auto& op = append(op_kind::read, d.copy_in, i);
        op.stored = {i, 0, w.whole};
        op.to = in_slot(i, ph, 0, w.whole);
      }
    } else if (ring.buffer != no_handle && source != no_handle) {
      const auto copy = [&](bytes from, bytes to, bytes size) {
        auto& op = append(op_kind::copy, d.copy_in, i);
        op.from = {source, from, size};
        op.to = in_slot(i, ph, to, size);
      };
      if (w.size > 0 || w.whole == 0) copy(w.offset, 0, w.size);
      bytes filled = w.size;
      for (auto b = std::lower_bound(borrowed_.begin(), borrowed_.end(), borrowing{i, 0});
           b != borrowed_.end() && b->first == i; ++b) {
        copy(s_.layout.shared[b->second].offset, filled, p_.ties[b->second].size);
        filled += p_.ties[b->second].size;
      }
    }
    on_slot(op_kind::record, d.copy_in, ring.copied, d.ring, i);
  }

  void wait_before(std::uint32_t i, phase ph) {
    const auto& d = device_of(i, ph);
    const auto& e = s_.events[i];
    if (i == 0 && !options_.pipelined) wait(d.compute, detail::token_event, i);
    // A state on its way out still lies in the workspace.
    if (auto& leaving = unmoved_[p_.placements[i].runs(ph)]; leaving != no_handle) {
      wait(d.compute, leaving, i);
      leaving = no_handle;
    }
    if (ph == phase::decode && e.moved != no_handle) wait(d.compute, e.moved, i);
    if (i > 0 && hops(p_, i - 1, ph)) wait(d.compute, s_.events[i - 1].arrived, i);
    // The activation of the round before may still be on its way.
    if (hops(p_, i, ph)) wait(d.compute, e.arrived, i);
    if (p_.placements[i].streamed(ph)) on_slot(op_kind::wait, d.compute, s_.frame.rings[d.ring].copied, d.ring, i);
  }

  void launch(std::uint32_t i, phase ph) {
    const auto& d = device_of(i, ph);
    const auto& a = p_.atoms[i];
    const auto& w = s_.layout.weights[i];
    auto& op = append(op_kind::launch, d.compute, i);
    auto& m = op.memory;
    m.weights = p_.placements[i].streamed(ph) ? in_slot(i, ph, 0, w.whole) : program_range{d.arena, w.offset, w.size};
    m.state = state_of(i, ph);
    m.workspace = workspace_of(i, ph);
    if (i > 0) m.in = hops(p_, i - 1, ph) ? end_of(i - 1, ph, &detail::boundary::in) : activation_on(i, i - 1, ph);
    m.out = hops(p_, i, ph) ? end_of(i, ph, &detail::boundary::out) : activation_on(i, i, ph);
    for (auto* r : {&m.weights, &m.state, &m.workspace, &m.in, &m.out})
      if (r->buffer == no_handle) *r = {};
    op.flops = a.in(ph).flops;
    op.touched = a.in(ph).touched;
    op.compute = a.compute;
  }

  /// The prompt leaves its state elsewhere if decode runs on another device: as much of it as moves.
  program_range state_of(std::uint32_t i, phase ph) const {
    const auto& at = p_.placements[i];
    if (at.runs(ph) == at.execution) return {device_of(i, ph).arena, s_.layout.states[i], p_.atoms[i].state};
    return {device_of(i, ph).state.buffer, device_of(i, ph).state.offset, detail::moved_state(p_, i)};
  }
  program_range workspace_of(std::uint32_t i, phase ph) const {
    const auto* part = s_.layout.part_of(p_.placements[i].runs(ph));
    return {device_of(i, ph).arena, part->workspace_offset(), part->workspace};
  }
  program_range end_of(std::uint32_t i, phase ph, detail::region detail::boundary::* which) const {
    const auto& at = s_.boundaries[i][detail::number_of(ph)].*which;
    return {at.buffer, at.offset, detail::message_size(p_, i, ph)};
  }
  /// The activation after atom `of` where it stays on its device: at the start of the workspace, where those that
  /// arrive lie too. None if the plan charges no workspace for it.
  program_range activation_on(std::uint32_t i, std::uint32_t of, phase ph) const {
    auto at = workspace_of(i, ph);
    const auto size = detail::message_size(p_, of, ph);
    if (size > at.size) return {};
    at.size = size;
    return at;
  }

  void record_after(std::uint32_t i, phase ph) {
    const auto& d = device_of(i, ph);
    const auto& e = s_.events[i];
    if (p_.placements[i].streamed(ph)) on_slot(op_kind::record, d.compute, s_.frame.rings[d.ring].freed, d.ring, i);
    if (i > 0 && hops(p_, i - 1, ph)) record(d.compute, s_.events[i - 1].consumed, i);
    if (hops(p_, i, ph)) record(d.compute, e.done, i);
    if (ph == phase::prefill && e.left != no_handle) record(d.compute, e.left, i);
    if (i + 1 == p_.atoms.size() && !options_.pipelined) record(d.compute, detail::token_event, i);
  }

  void send(std::uint32_t i, phase ph) {
    const auto& e = s_.events[i];
    const auto& at = s_.boundaries[i][detail::number_of(ph)];
    const auto size = detail::message_size(p_, i, ph);
    const auto stream = s_.message_stream(p_.placements[i].runs(ph), p_.placements[i + 1].runs(ph));
    wait(stream, e.done, i);
    wait(stream, e.consumed, i);
    auto& op = append(op_kind::copy, stream, i);
    op.from = {at.out.buffer, at.out.offset, size};
    op.to = {at.in.buffer, at.in.offset, size};
    op.transfer = transfer_kind::message;
    record(stream, e.arrived, i);
  }

  void move_state(std::uint32_t i) {
    const auto& at = p_.placements[i];
    const auto& d = s_.devices[at.prompt];
    const auto& e = s_.events[i];
    const auto size = detail::moved_state(p_, i);
    wait(d.copy_out, e.left, i);
    auto& op = append(op_kind::copy, d.copy_out, i);
    op.from = {d.state.buffer, d.state.offset, size};
    op.to = {s_.devices[at.execution].arena, s_.layout.states[i], size};
    record(d.copy_out, e.moved, i);
    unmoved_[at.prompt] = e.moved;
  }

  const plan& p_;
  detail::scheme& s_;
  compile_options options_;
  std::pmr::vector<std::uint32_t> steps_;    ///< per atom: its step in the round of its device
  std::pmr::vector<std::uint32_t> unmoved_;  ///< per device: event of the state that leaves it
  std::pmr::vector<borrowing> borrowed_;
  program out_;
};

}  // namespace

result<program> compile(const plan& p, program_phase phase, const compile_options& options,
                        std::pmr::memory_resource* memory) {
  if (const auto found = check(p, memory); !found.empty())
    return fail(errc::invalid_plan, found.front().subject,
                text<416>(found.front().detail).append("; run check and make the plan again"), found.front().needed,
                found.front().available);
  if (!p.priced)
    return fail(errc::invalid_plan, "plan",
                "has no times; cost the model and give the devices rates, then place again");
  auto s = detail::make_scheme(p, options, memory);
  if (!s) return s.propagate();
  return writer(p, *s, options, memory).run(phase);
}

}  // namespace berth
