// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
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

namespace berth::detail {
namespace {

constexpr bytes region_step = 256;
constexpr double most_message_bytes = 0x1p62;

class scheme_builder {
 public:
  scheme_builder(const plan& p, const compile_options& options, std::pmr::memory_resource* memory)
      : p_(p), options_(options), memory_(memory), out_(memory) {}

  result<scheme> run() {
    if (auto r = refuse_shares(); !r) return r.propagate();
    if (auto r = refuse_ways(); !r) return r.propagate();
    out_.layout = lay_out(p_, memory_);
    for (std::size_t i = 0; i < p_.atoms.size(); ++i)
      if (const auto& w = out_.layout.weights[i]; w.size > w.padded)
        return fail(errc::invalid_plan, p_.atoms[i].name, "its shared storages take more padding than it has");
    out_.devices.resize(p_.devices.size());
    out_.message.assign(p_.devices.size() * p_.devices.size(), no_handle);
    note_uses();
    place_arenas();
    if (auto r = place_regions(); !r) return r.propagate();
    place_rings();
    place_messages_buffers();
    make_streams();
    make_events();
    return std::move(out_);
  }

 private:
  static bytes charged(bool padded, bytes amount) { return padded ? round_up(amount, region_step) : amount; }

  /// `check` looks at each shared storage alone.
  result<done> refuse_shares() const {
    if (p_.staging_slots > most_staging_slots)
      return fail(errc::capacity, "plan", "has more than 65536 staging slots", p_.staging_slots, most_staging_slots);
    std::pmr::vector<bytes> weights(memory_), loads(p_.loads, memory_);
    for (const auto& a : p_.atoms) weights.push_back(a.weights);
    for (std::size_t u = 0; u < p_.ties.size(); ++u) {
      const auto& use = p_.ties[u];
      if (use.size > weights[use.atom] || charged(p_.padded, use.size) > loads[use.atom])
        return fail(errc::invalid_plan, p_.atoms[use.atom].name, "shares more bytes than its weights have");
      weights[use.atom] -= use.size;
      loads[use.atom] -= charged(p_.padded, use.size);
      if (u > 0 && p_.ties[u - 1].storage == use.storage && p_.ties[u - 1].size != use.size)
        return fail(errc::invalid_plan, p_.atoms[use.atom].name, "shares a storage that has another size elsewhere");
    }
    return done{};
  }

  bool routed(device_index from, device_index to) const { return p_.topology().route(from, to) != nullptr; }

  /// Messages and states need a route; `check` looks at weights only, a time of `forever` says the rest.
  result<done> refuse_ways() const {
    for (std::size_t i = 0; i < p_.atoms.size(); ++i) {
      const auto& at = p_.placements[i];
      for (const auto ph : all_phases) {
        if (!(p_.atoms[i].in(ph).out < most_message_bytes))
          return fail(errc::invalid_plan, p_.atoms[i].name, "sends an activation that is larger than any memory");
        if (hops(p_, i, ph) && !routed(at.runs(ph), p_.placements[i + 1].runs(ph)))
          return no_way(i, at.runs(ph), p_.placements[i + 1].runs(ph), "its activation");
      }
      if (moved_state(p_, i) > 0 && !routed(at.prompt, at.execution))
        return no_way(i, at.prompt, at.execution, "the state of its prompt");
    }
    return done{};
  }
  failure no_way(std::size_t i, device_index from, device_index to, std::string_view what) const {
    return fail(errc::invalid_plan, p_.atoms[i].name,
                text<416>("no route leads from ")
                    .append(p_.devices[from].id)
                    .append(" to ")
                    .append(p_.devices[to].id)
                    .append(" for ")
                    .append(what)
                    .append("; place both ends on one device or on linked ones"));
  }

  void note_uses() {
    for (std::size_t i = 0; i < p_.atoms.size(); ++i) {
      const auto& at = p_.placements[i];
      if (p_.devices[at.home].executes() && out_.layout.weights[i].size > 0) out_.devices[at.home].loads = true;
      if (at.streamed()) out_.devices[at.home].streams_out = true;
      for (const auto ph : all_phases) {
        auto& d = out_.devices[at.runs(ph)];
        d.runs = true;
        if (at.streamed(ph)) d.streams_in = true;
        if (!hops(p_, i, ph)) continue;
        for (auto* end : {&d, &out_.devices[p_.placements[i + 1].runs(ph)]}) {
          end->has_messages = true;
          end->largest_message = std::max(end->largest_message, message_size(p_, i, ph));
        }
      }
      if (const auto moved = moved_state(p_, i); moved > 0) {
        auto& d = out_.devices[at.prompt];
        d.moves_state = true;
        d.largest_state = std::max(d.largest_state, moved);
      }
    }
  }

  void place_arenas() {
    for (const auto& part : out_.layout.devices) {
      const auto kind = p_.devices[part.device].kind;
      if (part.total == 0 || kind == device_kind::disk) continue;
      auto& d = out_.devices[part.device];
      d.arena = static_cast<std::uint32_t>(out_.frame.buffers.size());
      const auto memory = kind == device_kind::cpu && d.streams_out ? options_.host_memory : memory_kind::plain;
      out_.frame.buffers.push_back({part.device, buffer_role::arena, part.total, memory});
    }
  }

  /// Numbers of the buffers for messages come after those of the arenas, in the order of uses, so that regions can be
  /// placed before sizes are known.
  result<done> place_regions() {
    auto next = static_cast<std::uint32_t>(out_.frame.buffers.size());
    for (const auto& part : out_.layout.devices) {
      auto& d = out_.devices[part.device];
      // An activation of no bytes is sent too, from somewhere.
      const auto one = charged(p_.padded, std::max<bytes>(d.largest_message, 1));
      const bytes both = d.has_messages && !options_.pipelined ? 2 * one : 0;
      const bool inside = both <= part.workspace;
      if (!inside) d.extra = both;
      if (!inside || (d.has_messages && options_.pipelined) || d.largest_state > 0) d.messages = next++;
      d.message = {inside ? d.arena : d.messages, inside ? part.workspace_offset() : 0};
      // Beside the workspace, which is scratch of the atom that makes the state.
      d.state = {d.messages, d.extra};
      d.extra += charged(p_.padded, d.largest_state);
    }
    out_.boundaries.resize(p_.atoms.size());
    for (std::size_t i = 0; i < p_.atoms.size(); ++i)
      if (auto r = place_boundary(i); !r) return r;
    return done{};
  }

  result<done> place_boundary(std::size_t i) {
    for (const auto ph : all_phases) {
      if (!hops(p_, i, ph)) continue;
      auto& at = out_.boundaries[i][number_of(ph)];
      const auto from = p_.placements[i].runs(ph), to = p_.placements[i + 1].runs(ph);
      if (!options_.pipelined) {
        at.out = out_.devices[from].message;
        at.in = out_.devices[to].message;
        at.out.offset += charged(p_.padded, std::max<bytes>(out_.devices[from].largest_message, 1));
        continue;
      }
      const auto out = in_flight(i, i, ph, &boundary::out);
      if (!out) return out.propagate();
      const auto in = in_flight(i, i + 1, ph, &boundary::in);
      if (!in) return in.propagate();
      at = {*out, *in};
    }
    return done{};
  }

  /// One end of boundary i in a region of its own, beside atom `end`; both phases share it where they use one device.
  result<region> in_flight(std::size_t i, std::size_t end, phase ph, region boundary::* which) {
    const auto& at = p_.placements[end];
    const bool shared =
        hops(p_, i, phase::prefill) && hops(p_, i, phase::decode) && at.runs(phase::prefill) == at.runs(phase::decode);
    if (shared && ph == phase::decode) return out_.boundaries[i][number_of(phase::prefill)].*which;
    auto size = std::max<bytes>(message_size(p_, i, ph), 1);
    if (shared) size = std::max(size, message_size(p_, i, phase::decode));
    auto& d = out_.devices[at.runs(ph)];
    const region fresh{d.messages, d.extra};
    const auto sum = checked_add(d.extra, charged(p_.padded, size));
    if (!sum) return fail(errc::invalid_plan, p_.atoms[i].name, "the activations in flight exceed any memory");
    d.extra = *sum;
    return fresh;
  }

  void place_messages_buffers() {
    for (const auto& part : out_.layout.devices) {
      const auto& d = out_.devices[part.device];
      if (d.messages == no_handle) continue;
      // Kernels of other devices write there.
      const bool host = p_.devices[part.device].kind == device_kind::cpu;
      out_.frame.buffers.push_back(
          {part.device, buffer_role::messages, d.extra, host ? memory_kind::pinned : memory_kind::plain});
    }
  }

  void place_rings() {
    for (const auto& part : out_.layout.devices) {
      auto& d = out_.devices[part.device];
      if (!d.streams_in) continue;
      d.ring = static_cast<std::uint32_t>(out_.frame.rings.size());
      out_.frame.rings.push_back(
          {part.device, p_.staging_slots, d.arena, part.staging_offset(), part.slot_size, no_handle, no_handle});
    }
  }

  std::uint32_t add_stream(device_index d, stream_role role, device_index peer = no_index) {
    out_.frame.streams.push_back({d, role, peer});
    return static_cast<std::uint32_t>(out_.frame.streams.size() - 1);
  }

  void make_streams() {
    const auto n = p_.devices.size();
    std::pmr::vector<std::uint8_t> talks(n * n, memory_);
    for (std::size_t i = 0; i < p_.atoms.size(); ++i)
      for (const auto ph : all_phases)
        if (hops(p_, i, ph)) talks[p_.placements[i].runs(ph) * n + p_.placements[i + 1].runs(ph)] = 1;
    for (const auto& part : out_.layout.devices) {
      auto& d = out_.devices[part.device];
      if (d.runs) d.compute = add_stream(part.device, stream_role::compute);
      if (d.streams_in) d.copy_in = add_stream(part.device, stream_role::copy_in);
      if (d.moves_state) d.copy_out = add_stream(part.device, stream_role::copy_out);
      if (d.loads) d.load = add_stream(part.device, stream_role::load);
      for (const auto& other : out_.layout.devices) {
        const auto pair = part.device * n + other.device;
        if (talks[pair] != 0) out_.message[pair] = add_stream(part.device, stream_role::message, other.device);
      }
    }
  }

  void make_events() {
    auto& next = out_.frame.events;
    next = token_event + 1;
    for (auto& r : out_.frame.rings) {
      r.copied = next;
      r.freed = next + r.slots;
      next += 2 * r.slots;
    }
    out_.events.resize(p_.atoms.size());
    for (std::size_t i = 0; i < p_.atoms.size(); ++i) {
      auto& e = out_.events[i];
      if (hops(p_, i)) {
        e.done = next++;
        e.arrived = next++;
        e.consumed = next++;
      }
      if (moved_state(p_, i) > 0) {
        e.left = next++;
        e.moved = next++;
      }
    }
  }

  const plan& p_;
  compile_options options_;
  std::pmr::memory_resource* memory_;
  scheme out_;
};

}  // namespace

result<scheme> make_scheme(const plan& p, const compile_options& options, std::pmr::memory_resource* memory) {
  return scheme_builder(p, options, memory).run();
}

}  // namespace berth::detail
