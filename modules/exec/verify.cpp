// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <numeric>
#include <span>
#include <string_view>
#include <vector>

module berth.exec;

import berth.base;
import berth.model;
import berth.topology;
import berth.plan;
import :demand;
import :shadow;

namespace berth {
namespace {

using detail::content;
using detail::content_kind;
using detail::moment;
using detail::piece;

/// Runs programs on shadow memory. Operations are carried out in the order of submission; whether two of them may
/// overlap in time is decided by vector clocks alone.
class symbolic_run {
 public:
  symbolic_run(const plan& p, std::span<const program* const> programs, const detail::demand& d, bool pipelined,
               detail::findings& found, std::pmr::memory_resource* memory)
      : p_(p),
        programs_(programs),
        frame_(programs[0]->frame),
        d_(d),
        pipelined_(pipelined),
        found_(found),
        clocks_(frame_.streams.size() * frame_.streams.size(), memory),
        marks_(frame_.events * frame_.streams.size(), memory),
        recorded_(frame_.events, memory),
        heads_(frame_.rings.size(), memory),
        buffers_(memory),
        pieces_(memory),
        wanted_(memory) {
    buffers_.reserve(frame_.buffers.size());
    for (const auto& b : frame_.buffers) buffers_.emplace_back(b.size, memory);
  }

  void run() {
    for (const auto& o : programs_[0]->operations) step(o);
    everything_over();
    pass(*programs_[1], phase::prefill);
    const auto rounds = rounds_needed();
    for (std::uint32_t r = 0; r < rounds && !found_.full(); ++r) pass(*programs_[2], phase::decode);
  }

 private:
  std::size_t streams() const { return frame_.streams.size(); }
  std::span<std::uint64_t> clock(std::uint32_t s) { return std::span(clocks_).subspan(s * streams(), streams()); }
  std::span<std::uint64_t> mark(std::uint32_t e) { return std::span(marks_).subspan(e * streams(), streams()); }
  static void join(std::span<std::uint64_t> into, std::span<const std::uint64_t> other) {
    for (std::size_t i = 0; i < into.size(); ++i) into[i] = std::max(into[i], other[i]);
  }
  moment tick(std::uint32_t stream) { return {stream, ++clock(stream)[stream]}; }

  /// What a runner does between loading and the prompt.
  void everything_over() {
    for (std::uint32_t s = 1; s < streams(); ++s) join(clock(0), clock(s));
    for (std::uint32_t s = 1; s < streams(); ++s) join(clock(s), clock(0));
  }

  /// Rounds until each ring has come round to where it began, and two more.
  std::uint32_t rounds_needed() const {
    std::uint32_t rounds = 1;
    for (std::size_t r = 0; r < frame_.rings.size(); ++r)
      if (const auto copies = programs_[2]->copies[r]; copies > 0)
        rounds = std::max(rounds, frame_.rings[r].slots / std::gcd(frame_.rings[r].slots, copies));
    return rounds + 2;
  }

  void pass(const program& g, phase ph) {
    phase_ = ph;
    ++round_;
    for (const auto& o : g.operations) {
      if (found_.full()) return;
      step(o);
    }
    for (std::size_t r = 0; r < heads_.size(); ++r)
      heads_[r] = static_cast<std::uint32_t>((std::uint64_t{heads_[r]} + g.copies[r]) % frame_.rings[r].slots);
  }

  std::uint32_t slot(std::uint32_t ring, std::uint32_t step) const {
    return static_cast<std::uint32_t>((std::uint64_t{heads_[ring]} + step) % frame_.rings[ring].slots);
  }
  std::uint32_t event_of(const operation& o) const {
    return o.event_ring == no_handle ? o.event : o.event + slot(o.event_ring, o.event_step);
  }
  bytes start_of(const program_range& r) const {
    if (r.ring == no_handle) return r.offset;
    return frame_.rings[r.ring].offset + slot(r.ring, r.step) * frame_.rings[r.ring].slot_size + r.offset;
  }

  void step(const operation& o) {
    switch (o.kind) {
      case op_kind::allocate:
      case op_kind::free:
        return;  // counted by the survey
      case op_kind::record: {
        const auto e = event_of(o);
        tick(o.stream);
        std::copy(clock(o.stream).begin(), clock(o.stream).end(), mark(e).begin());
        recorded_[e] = 1;
        return;
      }
      case op_kind::wait:
        if (const auto e = event_of(o); recorded_[e] != 0) join(clock(o.stream), mark(e));
        return;
      case op_kind::read:
        return write(o, o.to, 0, o.to.size, tick(o.stream), {content_kind::weights, o.stored.file, 0, o.stored.offset});
      case op_kind::copy:
        return copy(o);
      case op_kind::launch:
        return launch(o);
    }
  }

  void fault(const operation& o, std::string_view what) {
    found_.add(p_.atoms[o.atom].name, text<192>(what).append(", in ").append(round_ == 0   ? "load"
                                                                             : round_ == 1 ? "prefill"
                                                                                           : "decode"));
  }

  void read(const operation& o, const program_range& r, moment now, std::string_view late) {
    if (!buffers_[r.buffer].read(start_of(r), r.size, now, clock(now.stream))) fault(o, late);
  }
  void write(const operation& o, const program_range& r, bytes from, bytes size, moment now, const content& what) {
    if (round_ == 0 && !buffers_[r.buffer].blank(start_of(r) + from, size)) fault(o, "is loaded over other weights");
    const auto wrong = buffers_[r.buffer].write(start_of(r) + from, size, now, clock(now.stream), what);
    if (wrong.race) fault(o, "overwrites what may still be written or read");
    if (wrong.unread) fault(o, "overwrites what nobody has used yet");
  }

  void copy(const operation& o) {
    const auto now = tick(o.stream);
    read(o, o.from, now, "copies what may not be there yet");
    buffers_[o.from.buffer].look(start_of(o.from), o.from.size, pieces_);
    bytes at = 0;
    for (const auto& part : pieces_) {
      write(o, o.to, at, part.size, now, part.what);
      at += part.size;
    }
  }

  void launch(const operation& o) {
    const auto now = tick(o.stream);
    const auto k = static_cast<std::size_t>(phase_);
    const auto& a = d_.atoms[o.atom];
    in_order(o, now);
    weights(o, now);
    if (o.atom > 0 && d_.atoms[o.atom - 1].hops[k]) input(o, now, d_.atoms[o.atom - 1].in[k]);
    if (phase_ == phase::decode && a.moved > 0) {
      const program_range state{d_.devices[p_.placements[o.atom].execution].arena, a.state_at, a.moved, no_handle, 0};
      read(o, state, now, "runs before its state is there");
      if (!buffers_[state.buffer].holds(state.offset, state.size, {content_kind::state, o.atom, 0, 0}))
        fault(o, "finds another state than its own");
    }
    if (const auto& leaving = d_.devices[p_.placements[o.atom].runs(phase_)].leaving; leaving.size > 0)
      write(o, leaving, 0, leaving.size, now, {});
    if (phase_ == phase::prefill && a.state_from.size > 0)
      write(o, a.state_from, 0, a.state_from.size, now, {content_kind::state, o.atom, 0, 0});
    if (a.hops[k] && a.out[k].buffer != no_handle)
      write(o, a.out[k], 0, a.out[k].size, now, {content_kind::activation, o.atom, round_, 0});
  }

  /// Atoms of a round run one after the other; rounds of one sequence too.
  void in_order(const operation& o, moment now) {
    if (o.atom != next_) fault(o, "runs out of order");
    const bool first = o.atom == 0;
    if (!(first && pipelined_) && !detail::over(last_, clock(now.stream)))
      fault(o, first ? "begins a round before the last one is over" : "runs before the atom ahead of it is done");
    next_ = o.atom + 1 == p_.atoms.size() ? 0 : o.atom + 1;
    last_ = now;
  }

  /// The range must hold the atom's weights and nothing else, and the storages that they share must be there.
  void weights(const operation& o, moment now) {
    const auto& at = p_.placements[o.atom];
    const auto on = at.runs(phase_);
    const bool streamed = at.home != on;
    const bytes size = streamed ? p_.atoms[o.atom].weights : d_.atoms[o.atom].own;
    if (o.memory.weights.size != size) return fault(o, "runs with a part of its weights");
    if (o.memory.weights.buffer == no_handle) return;
    const auto step = d_.atoms[o.atom].step[static_cast<std::size_t>(phase_)];
    if (streamed && (o.memory.weights.ring != d_.devices[on].ring || o.memory.weights.step != step))
      return fault(o, "runs with weights of another slot");
    if (!streamed && (o.memory.weights.ring != no_handle || o.memory.weights.buffer != d_.devices[on].arena))
      return fault(o, "runs with weights outside the arena of its device");
    read(o, o.memory.weights, now, "runs before its weights are there");
    expect_weights(o.atom, streamed && p_.devices[at.home].kind == device_kind::disk, streamed);
    buffers_[o.memory.weights.buffer].look(start_of(o.memory.weights), size, pieces_);
    const auto same = [](const piece& x, const piece& y) { return x.size == y.size && x.what == y.what; };
    if (!std::equal(pieces_.begin(), pieces_.end(), wanted_.begin(), wanted_.end(), same))
      fault(o, "runs with other weights than its own");
    if (streamed) return;
    for (const auto& l : d_.loans_of(o.atom)) {
      const auto& held = d_.atoms[l.holder].loaded;
      if (held.buffer == no_handle ||
          !buffers_[held.buffer].holds(held.offset + l.at, l.size, {content_kind::weights, l.holder, 0, l.at}))
        fault(o, "shares a storage that is not there");
    }
  }
  void expect_weights(std::uint32_t atom, bool stored, bool streamed) {
    wanted_.clear();
    const auto add = [this](std::uint32_t file, bytes offset, bytes size) {
      const content what{content_kind::weights, file, 0, offset};
      if (!wanted_.empty() && wanted_.back().what.later(wanted_.back().size) == what)
        wanted_.back().size += size;
      else if (size > 0)
        wanted_.push_back({size, what});
    };
    if (stored) return add(atom, 0, p_.atoms[atom].weights);
    add(atom, 0, d_.atoms[atom].own);
    if (!streamed) return;
    for (const auto& l : d_.loans_of(atom)) add(l.holder, l.at, l.size);
  }

  void input(const operation& o, moment now, const program_range& in) {
    if (in.buffer == no_handle) return;  // the survey has found no message
    read(o, in, now, "runs before its input is there");
    if (!buffers_[in.buffer].holds(in.offset, in.size, {content_kind::activation, o.atom - 1, round_, 0}))
      fault(o, "runs with another input than its own");
  }

  const plan& p_;
  std::span<const program* const> programs_;
  const program_frame& frame_;
  const detail::demand& d_;
  bool pipelined_;
  detail::findings& found_;
  std::pmr::vector<std::uint64_t> clocks_;  ///< per stream: a clock
  std::pmr::vector<std::uint64_t> marks_;   ///< per event: the clock of its latest record
  std::pmr::vector<std::uint8_t> recorded_;
  std::pmr::vector<std::uint32_t> heads_;
  std::pmr::vector<detail::shadow_buffer> buffers_;
  std::pmr::vector<piece> pieces_, wanted_;
  phase phase_ = phase::prefill;
  std::uint64_t round_ = 0;  ///< 0 while loading
  std::uint32_t next_ = 0;
  moment last_;
};

}  // namespace

std::pmr::vector<error> verify(const plan& p, std::span<const program* const> programs, bool pipelined,
                               std::pmr::memory_resource* memory) {
  if (auto wrong = check(p, memory); !wrong.empty()) return wrong;
  std::pmr::unsynchronized_pool_resource pool(memory);  // cells of shadow memory come and go
  detail::findings found(memory);
  auto d = detail::make_demand(p, found, &pool);
  if (found.empty() && detail::survey(p, programs, d, found, &pool))
    symbolic_run(p, programs, d, pipelined, found, &pool).run();
  return found.take();
}

}  // namespace berth
