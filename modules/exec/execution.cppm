// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <utility>
#include <vector>

export module berth.exec:execution;

import berth.base;
import berth.topology;
import berth.plan;
import :handles;
import :requests;
import :machine;
import :program;
import :compile;
import :verify;
import :runner;
import :trace;
import :activity;
import :run_marks;

export namespace berth {

/// The programs of a plan, one per phase.
struct compiled_plan {
  program load, prefill, decode;

  const program& of(program_phase p) const {
    return p == program_phase::load ? load : p == program_phase::prefill ? prefill : decode;
  }
  /// Operation i of a phase is traced under `first_tag(phase) + i`.
  op_tag first_tag(program_phase p) const {
    std::size_t first = 0;
    if (p != program_phase::load) first += load.operations.size();
    if (p == program_phase::decode) first += prefill.operations.size();
    return static_cast<op_tag>(first);
  }
};

/// Compiles all phases and proves them (`verify`). Errors: those of `compile`; `invalid_program` with the first
/// finding, which would be a fault of berth.
inline result<compiled_plan> compile_all(const plan& p, const compile_options& options = {},
                                         std::pmr::memory_resource* memory = std::pmr::get_default_resource()) {
  auto load = compile(p, program_phase::load, options, memory);
  if (!load) return load.propagate();
  auto prefill = compile(p, program_phase::prefill, options, memory);
  if (!prefill) return prefill.propagate();
  auto decode = compile(p, program_phase::decode, options, memory);
  if (!decode) return decode.propagate();
  compiled_plan out{*std::move(load), *std::move(prefill), *std::move(decode)};
  const std::array<const program*, 3> all{&out.load, &out.prefill, &out.decode};
  if (const auto found = verify(p, all, options.pipelined, memory); !found.empty()) return failure{found.front()};
  return out;
}

/// When the parts of a run ended, from its trace. `pipelined` as the programs were compiled.
inline run_marks marks_of(const compiled_plan& programs, const trace& t, bool pipelined = false,
                          std::pmr::memory_resource* memory = std::pmr::get_default_resource()) {
  run_marks m(memory);
  m.pipelined = pipelined;
  const auto last_launch = [](const program& p) {
    auto i = static_cast<std::uint32_t>(p.operations.size());
    while (i > 0 && p.operations[i - 1].kind != op_kind::launch) --i;
    return i - 1;  // wraps to no_tag without a launch
  };
  for (const auto* p : std::array{&programs.load, &programs.prefill, &programs.decode}) m.add(*p);
  const auto prompt = programs.first_tag(program_phase::prefill), decode = programs.first_tag(program_phase::decode);
  const auto prompt_end = prompt + last_launch(programs.prefill), round_end = decode + last_launch(programs.decode);
  for (const auto& a : t.records()) {
    if (a.kind == activity_kind::read && a.tag < prompt && a.end > m.load_end) m.load_end = a.end;
    if (a.kind != activity_kind::launch) continue;
    if (a.tag == prompt_end) m.prefill_end = a.end;
    if (a.tag == round_end) m.round_ends.push_back(a.end);
  }
  return m;
}

struct execution_options {
  std::uint64_t prompts = 1;  ///< passes of prefill (pieces of a prompt, or prompts of several sequences)
  std::uint64_t rounds = 1;   ///< of decode
  work_source work{};
  bool verify_reads = false;
  std::uint32_t retries = 2;
  bool release = true;  ///< free the memory at the end
};

/// Carries a plan out on a machine: load, prompt, decode rounds, release. `step` never blocks. On an error everything
/// that was taken is given back before the error is returned. Allocates at construction and between phases only.
template <Machine M>
class execution {
 public:
  enum class stage : std::uint8_t { load, prefill, decode, release, finished };

  /// Machine and programs must outlive it.
  execution(M& machine, const compiled_plan& programs, const execution_options& options,
            std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : machine_(machine), programs_(programs), options_(options), memory_(memory), handles_(memory) {
    auto bound = bind(machine, programs.load.frame, memory);
    if (bound)
      handles_ = *std::move(bound);
    else
      error_ = bound.error();
  }
  /// Goes on where a load ended: `loaded` holds streams, events and filled memory of the programs' frame on `machine`
  /// (`materialise` of `berth.runtime` makes them), and is taken over.
  execution(M& machine, const compiled_plan& programs, frame_handles loaded, const execution_options& options,
            std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : machine_(machine), programs_(programs), options_(options), memory_(memory), handles_(std::move(loaded)) {
    next_phase();
  }
  execution(const execution&) = delete;
  execution& operator=(const execution&) = delete;

  stage now_in() const { return stage_; }
  const frame_handles& handles() const { return handles_; }

  result<progress> step() {
    if (!error_ && stage_ == stage::release) {
      if (auto ok = release(); !ok) error_ = ok.error();
      stage_ = stage::finished;
    }
    if (error_) return failure{*error_};
    if (stage_ == stage::finished) return progress{run_state::finished, {}};
    if (!runner_) start_phase();
    auto p = runner_->step();
    if (!p) {
      fail_with(p.error());
      return failure{*error_};
    }
    if (p->state == run_state::finished) {
      next_phase();
      return progress{};
    }
    return p;
  }

  /// Steps until everything is over, waiting where needed.
  result<done> run() {
    for (;;) {
      const auto p = step();
      if (!p) return p.propagate();
      if (p->state == run_state::finished) return done{};
      if (p->state != run_state::waiting) continue;
      if (const auto ok = machine_.synchronize(p->event); !ok) {
        fail_with(ok.error());
        return failure{*error_};
      }
    }
  }

  /// Frees what is still allocated, in any stage; nothing of it may be under way unless it failed.
  result<done> release() {
    result<done> first = done{};
    for (std::size_t b = 0; b < handles_.buffers.size(); ++b) {
      auto& buffer = handles_.buffers[b];
      if (buffer == buffer_id{}) continue;
      if (auto ok = free_now(programs_.load.frame.buffers[b].device, buffer); !ok && first) first = ok;
      buffer = {};
    }
    return first;
  }

 private:
  program_phase phase() const {
    return stage_ == stage::load      ? program_phase::load
           : stage_ == stage::prefill ? program_phase::prefill
                                      : program_phase::decode;
  }
  void start_phase() {
    runner_options o;
    o.rounds = stage_ == stage::prefill ? options_.prompts : stage_ == stage::decode ? options_.rounds : 1;
    o.work = options_.work;
    o.verify = options_.verify_reads;
    o.retries = options_.retries;
    // The first copies of decode run behind the prompt.
    o.drain = stage_ != stage::prefill || options_.rounds == 0;
    o.first_tag = programs_.first_tag(phase());
    runner_.emplace(machine_, programs_.of(phase()), handles_, o, memory_);
  }
  void next_phase() {
    runner_.reset();
    if (stage_ == stage::load)
      stage_ = options_.prompts > 0 ? stage::prefill : stage::decode;
    else
      stage_ = stage_ == stage::prefill && options_.rounds > 0 ? stage::decode
               : options_.release                              ? stage::release
                                                               : stage::finished;
  }
  void fail_with(const error& e) {
    error_ = e;
    runner_.reset();
    for (const auto s : handles_.streams) (void)machine_.synchronize(s);  // what hangs or is lost cannot be waited for
    (void)release();
  }
  /// On a stream of its own, since the stream that used the buffer may hang; a device that is lost makes no more of
  /// them.
  result<done> free_now(device_index device, buffer_id buffer) {
    if (release_streams_.size() <= device) release_streams_.resize(device + 1);
    auto& stream = release_streams_[device];
    if (stream == stream_id{}) {
      const auto made = machine_.make_stream(device);
      if (!made && handles_.streams.empty()) return made.propagate();
      stream = made ? *made : handles_.streams.front();
    }
    if (auto ok = machine_.deallocate(stream, buffer); !ok) return ok;
    return machine_.synchronize(stream);
  }

  M& machine_;
  const compiled_plan& programs_;
  execution_options options_;
  std::pmr::memory_resource* memory_;
  frame_handles handles_;
  std::pmr::vector<stream_id> release_streams_{memory_};
  std::optional<runner<M>> runner_;
  std::optional<error> error_;
  stage stage_ = stage::load;
};

}  // namespace berth
