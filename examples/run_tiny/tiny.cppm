// SPDX-License-Identifier: Apache-2.0
// From a checkpoint to tokens: what a program that embeds berth writes around its own kernels. The steps are functions,
// so that each can be replaced: open, chain_of, Place (berth), prepare, generate.
module;

#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "forward.hpp"

export module tiny;

import berth;
import berth.formats;
import berth.runtime;

export namespace tiny {

using tiny::gpu_forward;
using tiny::sequence;
using tiny::shape;

/// A checkpoint of a family that the forward pass knows.
struct opened {
  berth::loaded_model model;
  tiny::shape shape;
};
/// Reads headers and config.json, no weights. Errors: those of `load_model`; `unsupported` names what the forward pass
/// cannot do (family, activation, windows, scaled rotary angles).
berth::result<opened> open(const std::string& path);

/// The chain of the model as it will be stored, costed for activations and caches in f32.
berth::result<berth::model> chain_of(const opened& m, const berth::precision& how, const berth::workload& w);

struct launch;

/// A plan with everything that a run of it needs beside a machine: programs, images, callables and the sequence. Stays
/// where it is: programs and callables point into it.
class prepared {
 public:
  prepared(const opened& m, berth::plan p, berth::compiled_plan programs, berth::weight_images images, bool keep_logits,
           std::pmr::memory_resource* shared);
  ~prepared();
  prepared(const prepared&) = delete;
  prepared& operator=(const prepared&) = delete;

  const berth::plan& plan() const { return plan_; }
  const berth::compiled_plan& programs() const { return programs_; }
  const berth::weight_images& images() const { return images_; }

  /// Gives the callables of launches. With `gpu` those that are called with a stream enqueue kernels.
  berth::work_source work(const gpu_forward* gpu = nullptr);
  /// Begins a new sequence. The prompt must have as many tokens as the plan's workload says; error `invalid_argument`.
  berth::result<berth::done> begin(std::span<const std::int32_t> prompt);
  /// Rounds of decode that complete the workload: the prompt's pass gives the first token.
  std::uint64_t rounds() const { return plan_.workload.generate > 0 ? plan_.workload.generate - 1 : 0; }

  /// What was generated so far. Only when no launch is under way.
  std::span<const std::int32_t> generated() const;
  /// Of every pass so far, if kept: the last position's, `vocabulary` each.
  std::span<const float> logits() const;

 private:
  friend berth::result<berth::done> bind(prepared& p);

  tiny::shape shape_;
  berth::plan plan_;
  berth::compiled_plan programs_;
  berth::weight_images images_;
  std::vector<launch> launches_;  ///< by phase, then atom
  std::pmr::vector<std::int32_t> tokens_;
  std::pmr::vector<float> logits_;
  std::pmr::vector<tiny::sequence> sequence_;  ///< one
};

/// Compiles and proves the plan, finds every tensor, binds every launch. `how` as the chain was made. Errors: those of
/// `compile_all` and `make_images`; `unsupported` for plans of finer atoms than blocks, of several sequences and of
/// weights that the forward pass cannot read; `capacity` if a workspace is too small. What all devices write to comes
/// from `shared`: pinned memory for kernels.
berth::result<std::unique_ptr<prepared>> prepare(const opened& m, berth::plan p, const berth::precision& how,
                                                 bool keep_logits = false,
                                                 std::pmr::memory_resource* shared = std::pmr::get_default_resource());

/// Loads the weights, generates the workload's tokens, frees everything. The prompt has been given to `begin`; `work`
/// is `p.work()`. `loaded_at`, if asked for: the machine's time when all weights were in place.
template <berth::Machine M>
berth::result<berth::done> generate(M& machine, prepared& p, const berth::materialise_options& options,
                                    berth::work_source work, berth::picoseconds* loaded_at = nullptr) {
  auto loaded = berth::materialise(machine, p.plan(), p.programs(), p.images(), options);
  if (!loaded) return loaded.propagate();
  if (loaded_at != nullptr) *loaded_at = machine.now();
  berth::execution_options run;
  run.rounds = p.rounds();
  run.work = work;
  berth::execution execution(machine, p.programs(), std::move(loaded->handles), run);
  return execution.run();
}

/// The same with a machine whose storage serves the images (`image_storage`): the load program reads them, more slowly.
template <berth::Machine M>
berth::result<berth::done> generate_from_storage(M& machine, prepared& p, berth::work_source work) {
  berth::execution_options run;
  run.rounds = p.rounds();
  run.work = work;
  berth::execution execution(machine, p.programs(), run);
  return execution.run();
}

}  // namespace tiny
