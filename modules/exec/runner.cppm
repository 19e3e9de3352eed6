// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <vector>

export module berth.exec:runner;

import berth.base;
import berth.topology;
import :handles;
import :requests;
import :machine;
import :program;

export namespace berth {

/// What a frame's streams, events and buffers are on one machine, and where its rings stand. Shared by the programs of
/// a plan, one after the other.
struct frame_handles {
  explicit frame_handles(std::pmr::memory_resource* memory)
      : streams(memory), events(memory), buffers(memory), heads(memory) {}

  std::pmr::vector<stream_id> streams;
  std::pmr::vector<event_id> events;
  std::pmr::vector<buffer_id> buffers;  ///< `no_handle` until allocated
  std::pmr::vector<std::uint32_t> heads;
};

/// Makes streams and events; memory is allocated by the load program. Errors: those of the machine.
template <Machine M>
result<frame_handles> bind(M& machine, const program_frame& frame, std::pmr::memory_resource* memory) {
  frame_handles out(memory);
  for (const auto& s : frame.streams) {
    const auto made = machine.make_stream(s.device);
    if (!made) return made.propagate();
    out.streams.push_back(*made);
  }
  for (std::uint32_t e = 0; e < frame.events; ++e) {
    const auto made = machine.make_event();
    if (!made) return made.propagate();
    out.events.push_back(*made);
  }
  out.buffers.resize(frame.buffers.size());
  out.heads.resize(frame.rings.size());
  return out;
}

/// Gives the callable of a launch; null: launches do nothing (and cost what they cost).
struct work_source {
  void* context = nullptr;
  work (*get)(void* context, program_phase phase, std::uint32_t atom) = nullptr;

  work operator()(program_phase phase, std::uint32_t atom) const {
    return get == nullptr ? work{} : get(context, phase, atom);
  }
};

struct runner_options {
  std::uint64_t rounds = 1;
  work_source work{};
  bool verify = false;        ///< compare what was read with what is stored; reads of a round are then waited for
  std::uint32_t retries = 2;  ///< of a copy that fails and of a read that arrives wrong
  bool drain = true;          ///< finished means that everything has completed, not only that it was submitted
  /// Rounds that may be submitted ahead of what has completed; 0: as many as keep streams busy. All `rounds` where
  /// nothing may be asked of the machine in between, as when a graph is recorded.
  std::uint64_t ahead = 0;
  op_tag first_tag = 0;  ///< operation i is traced as first_tag + i
  std::uint32_t operations_per_step = 4096;
};

enum class run_state : std::uint8_t { running, waiting, finished };
/// What one step came to. `waiting`: for `event`; nothing can be submitted before it is ready.
struct progress {
  run_state state = run_state::running;
  event_id event;
};

/// Drives a program on a machine: submits operations in order, at most a few rounds ahead of what has completed, and
/// never blocks in `step`. One thread, no globals; allocates at construction only. An error is final: submitting stops,
/// every later call returns it. The frame's handles stay with the caller.
template <Machine M>
class runner {
 public:
  /// The program and the handles must outlive the runner. Errors of making events: from the first `step`.
  runner(M& machine, const program& what, frame_handles& handles, const runner_options& options,
         std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : machine_(machine), program_(what), handles_(handles), options_(options), ends_(memory), drains_(memory) {
    ends_.resize(window());
    drains_.resize(handles.streams.size());
    for (auto* list : {&ends_, &drains_})
      for (auto& e : *list) e = new_event();
    check_event_ = new_event();
  }

  /// Does what can be done now without waiting: O(`operations_per_step`).
  result<progress> step() {
    if (failed()) return failure{error_};
    auto p = advance();
    if (!p) error_ = p.error();
    return p;
  }

  /// Steps until everything has completed, waiting where needed. Error `stalled` if what it waits for never comes.
  result<done> run() {
    for (;;) {
      const auto p = step();
      if (!p) return p.propagate();
      if (p->state == run_state::finished) return done{};
      if (p->state != run_state::waiting) continue;
      if (const auto ok = machine_.synchronize(p->event); !ok) {
        error_ = ok.error();
        return ok;
      }
    }
  }

  std::uint64_t rounds_submitted() const { return round_; }

  /// `n` more rounds behind those that were asked for; a finished run goes on. Nothing is allocated: for loops that
  /// decide after every token. An error stays.
  void add_rounds(std::uint64_t n) {
    options_.rounds += n;
    if (stage_ == stage::finished) {
      stage_ = stage::submitting;
      drained_ = 0;
    }
  }

 private:
  enum class stage : std::uint8_t { submitting, draining, checking, finished };

  bool failed() const { return error_.code != errc{}; }

  /// Rounds that may be under way: copies run ahead by the slots of their ring, and independent rounds fill all
  /// devices.
  std::size_t window() const {
    std::size_t most = 2;
    for (const auto& s : program_.frame.streams) most += s.role == stream_role::compute ? 1 : 0;
    for (std::size_t r = 0; r < program_.frame.rings.size(); ++r)
      if (const std::size_t copies = program_.copies[r]; copies > 0) {
        const auto ahead = (program_.frame.rings[r].slots + copies - 1) / copies + 1;
        most = ahead > most ? ahead : most;
      }
    return options_.ahead > 0 ? static_cast<std::size_t>(options_.ahead) : most;
  }

  event_id new_event() {
    const auto e = machine_.make_event();
    if (e) return *e;
    error_ = e.error();
    return {};
  }

  result<progress> advance() {
    if (check_op_ != no_handle) return check_one();
    switch (stage_) {
      case stage::submitting:
        return submit_some();
      case stage::draining:
        return drain();
      case stage::checking:
        return check_next();
      case stage::finished:
        break;
    }
    return progress{run_state::finished, {}};
  }

  result<progress> submit_some() {
    for (std::uint32_t n = 0; n < options_.operations_per_step; ++n) {
      if (round_ == options_.rounds || program_.operations.empty()) return begin_draining();
      if (next_ == 0 && round_ >= ends_.size()) {
        const auto e = ends_[static_cast<std::size_t>(round_ % ends_.size())];
        const auto ready = machine_.ready(e);
        if (!ready) return ready.propagate();
        if (!*ready) return progress{run_state::waiting, e};
      }
      const auto op = next_++;
      if (const auto ok = submit(op); !ok) return ok.propagate();
      if (next_ == program_.operations.size())
        if (const auto ok = end_round(); !ok) return ok.propagate();
      if (must_check(op)) return begin_check(op);
    }
    return progress{};
  }

  result<done> end_round() {
    if (program_.last_stream != no_handle) {
      const auto e = ends_[static_cast<std::size_t>(round_ % ends_.size())];
      if (const auto ok = machine_.record(handles_.streams[program_.last_stream], e); !ok) return ok;
    }
    for (std::size_t r = 0; r < handles_.heads.size(); ++r)
      handles_.heads[r] = (handles_.heads[r] + program_.copies[r]) % program_.frame.rings[r].slots;
    next_ = 0;
    ++round_;
    return done{};
  }

  result<progress> begin_draining() {
    if (!options_.drain) {
      stage_ = stage::finished;
      return progress{run_state::finished, {}};
    }
    for (std::size_t s = 0; s < drains_.size(); ++s)
      if (const auto ok = machine_.record(handles_.streams[s], drains_[s]); !ok) return ok.propagate();
    stage_ = stage::draining;
    return progress{};
  }

  result<progress> drain() {
    for (; drained_ < drains_.size(); ++drained_) {
      const auto ready = machine_.ready(drains_[drained_]);
      if (!ready) return ready.propagate();
      if (!*ready) return progress{run_state::waiting, drains_[drained_]};
    }
    stage_ = options_.verify && program_.phase == program_phase::load ? stage::checking : stage::finished;
    return progress{stage_ == stage::finished ? run_state::finished : run_state::running, {}};
  }

  // Verification. A load's reads are compared when all of them have arrived; a round's one by one, since their slots
  // are used again.
  bool must_check(std::size_t op) const {
    return options_.verify && program_.phase != program_phase::load && program_.operations[op].kind == op_kind::read;
  }
  result<progress> begin_check(std::size_t op) {
    check_op_ = static_cast<std::uint32_t>(op);
    check_head_ = checked_head(program_.operations[op]);
    attempts_ = 0;
    const auto stream = handles_.streams[program_.operations[op].stream];
    if (const auto ok = machine_.record(stream, check_event_); !ok) return ok.propagate();
    return progress{};
  }
  /// The head that the operation was submitted with: a round's end moves it on.
  std::uint32_t checked_head(const operation& op) const {
    if (op.to.ring == no_handle) return 0;
    const auto slots = program_.frame.rings[op.to.ring].slots;
    const auto head = handles_.heads[op.to.ring];
    return next_ == 0 ? (head + slots - program_.copies[op.to.ring] % slots) % slots : head;
  }
  result<progress> check_one() {
    const auto& op = program_.operations[check_op_];
    const auto ready = machine_.ready(check_event_);
    if (!ready) return ready.propagate();
    if (!*ready) return progress{run_state::waiting, check_event_};
    const auto right = arrived_right(op);
    if (!right) return right.propagate();
    if (*right) {
      check_op_ = no_handle;
      return progress{};
    }
    if (attempts_++ >= options_.retries)
      return fail(errc::corrupted, text<48>("atom ").append(op.atom).view(),
                  "what was read is not what is stored, also after reading it again", op.to.size, 0);
    if (const auto ok = issue_read(op, check_op_); !ok) return ok.propagate();
    if (const auto ok = machine_.record(handles_.streams[op.stream], check_event_); !ok) return ok.propagate();
    return progress{};
  }
  result<progress> check_next() {
    for (; next_check_ < program_.operations.size(); ++next_check_) {
      const auto& op = program_.operations[next_check_];
      if (op.kind != op_kind::read) continue;
      const auto right = arrived_right(op);
      if (!right) return right.propagate();
      if (*right) continue;
      next_ = 1;  // nothing of this program is in a ring
      return begin_check(next_check_++);
    }
    stage_ = stage::finished;
    return progress{run_state::finished, {}};
  }
  result<bool> arrived_right(const operation& op) {
    const auto stored = machine_.checksum(op.stored);
    if (!stored) return stored.propagate();
    const auto here = machine_.checksum(range_of(op.to, check_head_));
    if (!here) return here.propagate();
    return *stored == *here;
  }

  result<done> submit(std::size_t index) {
    const auto& op = program_.operations[index];
    switch (op.kind) {
      case op_kind::allocate:
        return allocate(op);
      case op_kind::free:
        return machine_.deallocate(stream_of(op), handles_.buffers[op.buffer]);
      case op_kind::copy:
        return issue_copy(op, index);
      case op_kind::read:
        return issue_read(op, index);
      case op_kind::launch:
        return machine_.launch(stream_of(op), {options_.work(program_.phase, op.atom), op.flops, op.touched, op.compute,
                                               0, 1, tag_of(index), memory_of(op.memory)});
      case op_kind::record:
        return machine_.record(stream_of(op), event_of(op));
      case op_kind::wait:
        return machine_.wait(stream_of(op), event_of(op));
    }
    return fail(errc::invalid_program, "operation", "unknown kind");
  }
  result<done> allocate(const operation& op) {
    const auto& b = program_.frame.buffers[op.buffer];
    const auto made = machine_.allocate(b.device, b.size, b.kind);
    if (!made) return made.propagate();
    handles_.buffers[op.buffer] = *made;
    return done{};
  }
  template <class Issue>
  result<done> with_retries(Issue issue) {
    for (std::uint32_t attempt = 0;; ++attempt) {
      auto ok = issue();
      if (ok || ok.error().code != errc::copy_failed || attempt >= options_.retries) return ok;
    }
  }
  result<done> issue_copy(const operation& op, std::size_t index) {
    const copy_request r{range_of(op.from), range_of(op.to), op.transfer, 0, tag_of(index)};
    return with_retries([&] { return machine_.copy(stream_of(op), r); });
  }
  result<done> issue_read(const operation& op, std::size_t index) {
    const bool again = check_op_ != no_handle;
    const read_request r{op.stored, again ? range_of(op.to, check_head_) : range_of(op.to), 0, tag_of(index)};
    return with_retries([&] { return machine_.read(stream_of(op), r); });
  }

  op_tag tag_of(std::size_t index) const { return options_.first_tag + static_cast<op_tag>(index); }
  stream_id stream_of(const operation& op) const { return handles_.streams[op.stream]; }
  event_id event_of(const operation& op) const {
    std::uint32_t e = op.event;
    if (op.event_ring != no_handle)
      e += (handles_.heads[op.event_ring] + op.event_step) % program_.frame.rings[op.event_ring].slots;
    return handles_.events[e];
  }
  work_memory<buffer_range> memory_of(const work_memory<program_range>& m) const {
    const auto range = [this](const program_range& r) { return r.buffer == no_handle ? buffer_range{} : range_of(r); };
    return {range(m.weights), range(m.state), range(m.workspace), range(m.in), range(m.out)};
  }
  buffer_range range_of(const program_range& r) const {
    return range_of(r, r.ring == no_handle ? 0 : handles_.heads[r.ring]);
  }
  buffer_range range_of(const program_range& r, std::uint32_t head) const {
    bytes offset = r.offset;
    if (r.ring != no_handle) {
      const auto& ring = program_.frame.rings[r.ring];
      offset += ring.offset + (head + r.step) % ring.slots * ring.slot_size;
    }
    return {handles_.buffers[r.buffer], offset, r.size};
  }

  M& machine_;
  const program& program_;
  frame_handles& handles_;
  runner_options options_;
  std::pmr::vector<event_id> ends_;    ///< of the last rounds
  std::pmr::vector<event_id> drains_;  ///< per stream: all of it has completed
  event_id check_event_;
  error error_{errc{}, {}, {}, 0, 0};
  stage stage_ = stage::submitting;
  std::uint64_t round_ = 0;
  std::size_t next_ = 0;
  std::size_t drained_ = 0;
  std::size_t next_check_ = 0;
  std::uint32_t check_op_ = no_handle;
  std::uint32_t check_head_ = 0;
  std::uint32_t attempts_ = 0;
};

}  // namespace berth
