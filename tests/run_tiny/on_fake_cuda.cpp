// SPDX-License-Identifier: Apache-2.0
// The promise: the CUDA machine generates what the host machine does, bit for bit, also when decode rounds are recorded
// as a graph. Without a GPU: on the fake runtime, where the CPU's functions stand in for kernels.
#include <array>
#include <boost/test/unit_test.hpp>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "folder.hpp"
#include "random_checkpoint.hpp"

// What imports modules comes last.
#include "fake_cuda.hpp"
#include "plans.hpp"
#include "rehearsal.hpp"

import berth;
import berth.cuda;
import berth.runtime;
import tiny;

namespace {

using namespace tiny_test;
using berth::result;

constexpr std::uint64_t seed = 20261122;
const std::vector<std::int32_t> prompt{3, 141, 59, 26, 5};
constexpr std::uint64_t fresh = 12;

/// Launches on GPUs put the callables on their stream, as they would put kernels; those on the CPU are host functions
/// already.
class kernels {
 public:
  kernels(fake_cuda::runtime& cuda, berth::work_source what) : cuda_(cuda), what_(what) {}

  berth::work_source source() {
    return {this, [](void* self, berth::program_phase phase, std::uint32_t atom) {
              auto& k = *static_cast<kernels*>(self);
              return berth::work{&k.launches_.emplace_back(launch{&k.cuda_, k.what_(phase, atom)}), start};
            }};
  }
  static berth::transform_engine transforms(fake_cuda::runtime& cuda) {
    return {&cuda, [](void* on, const berth::transform& t, const berth::work_call& call) {
              const auto engine = berth::cpu_transforms();
              static_cast<fake_cuda::runtime*>(on)->enqueue(call.native_stream,
                                                            [=] { engine.run(engine.context, t, call); });
            }};
  }

 private:
  struct launch {
    fake_cuda::runtime* cuda;
    berth::work what;
  };
  static void start(void* self, const berth::work_call& call) {
    const auto& l = *static_cast<launch*>(self);
    if (call.native_stream == nullptr) return l.what(call);
    l.cuda->enqueue(call.native_stream, [what = l.what, call] { what(call); });
  }

  fake_cuda::runtime& cuda_;
  berth::work_source what_;
  std::deque<launch> launches_;
};

/// Rounds after which every staging ring is where it was: what a graph must record.
std::uint64_t cycle_of(const berth::program& decode) {
  std::uint64_t cycle = 1;
  for (std::size_t r = 0; r < decode.frame.rings.size(); ++r) {
    const std::uint64_t slots = decode.frame.rings[r].slots;
    cycle = std::lcm(cycle, slots / std::gcd(slots, std::uint64_t{decode.copies[r]}));
  }
  return cycle;
}

template <class M>
result<berth::done> rounds(M& machine, const berth::program& p, berth::frame_handles& handles, berth::work_source work,
                           std::uint64_t n) {
  berth::runner_options o;
  o.rounds = n;
  o.work = work;
  return berth::runner<M>(machine, p, handles, o).run();
}

/// Decode: a cycle as usual, then graphs of a cycle, then what is left.
result<std::uint64_t> decode_by_graph(berth::cuda::machine& machine, const berth::program& decode,
                                      berth::frame_handles& handles, berth::work_source work, std::uint64_t n) {
  const auto cycle = cycle_of(decode);
  if (auto ok = rounds(machine, decode, handles, work, cycle); !ok) return ok.propagate();
  berth::runner_options o;
  o.rounds = o.ahead = cycle;
  o.work = work;
  o.drain = false;
  berth::runner<berth::cuda::machine> recorded(machine, decode, handles, o);
  const auto origin = handles.streams[decode.last_stream];
  if (auto ok = machine.begin_capture(origin); !ok) return ok.propagate();
  for (;;) {
    const auto p = recorded.step();
    if (!p) return p.propagate();
    if (p->state == berth::run_state::finished) break;
    if (p->state == berth::run_state::waiting)
      return berth::fail(berth::errc::stalled, "capture", "the rounds of a graph must not wait");
  }
  auto graph = machine.end_capture();
  if (!graph) return graph.propagate();
  std::uint64_t launched = 0;
  for (auto left = n - cycle; left >= cycle; left -= cycle, ++launched)
    if (auto ok = machine.launch(*graph, origin); !ok) return ok.propagate();
  if (const auto left = (n - cycle) % cycle; left > 0)
    if (auto ok = rounds(machine, decode, handles, work, left); !ok) return ok.propagate();
  for (const auto s : handles.streams)
    if (auto ok = machine.synchronize(s); !ok) return ok.propagate();
  return launched;
}

/// As `rehearse`, on CUDA. `graphs`: how many were launched.
result<outcome> on_cuda(fake_cuda::runtime& cuda, const tiny::opened& m, berth::plan p, const berth::precision& how,
                        const std::string& offload_folder, std::optional<std::uint64_t>* graphs) {
  auto made = tiny::prepare(m, std::move(p), how, true);
  if (!made) return made.propagate();
  auto& run = **made;
  if (auto ok = run.begin(prompt); !ok) return ok.propagate();
  berth::image_storage storage(run.images());
  berth::cuda::machine_options options;
  options.storage = storage.as_storage();
  options.staging.size = 256 * berth::KiB;
  const auto topology = room_beside(run);
  berth::cuda::machine machine(cuda.table(), topology, options);
  berth::materialise_options load;
  load.readers = 0;
  load.staging = staging;
  load.offload_folder = offload_folder;
  load.gpu = kernels::transforms(cuda);
  load.storage = &storage;
  auto loaded = berth::materialise(machine, run.plan(), run.programs(), run.images(), load);
  if (!loaded) return loaded.propagate();
  auto& handles = loaded->handles;
  kernels launches(cuda, run.work());
  if (auto ok = rounds(machine, run.programs().prefill, handles, launches.source(), 1); !ok) return ok.propagate();
  if (graphs != nullptr) {
    auto launched = decode_by_graph(machine, run.programs().decode, handles, launches.source(), run.rounds());
    if (!launched) return launched.propagate();
    *graphs = *launched;
  } else if (auto ok = rounds(machine, run.programs().decode, handles, launches.source(), run.rounds()); !ok) {
    return ok.propagate();
  }
  if (auto ok = berth::release_loaded(machine, run.programs(), handles); !ok) return ok.propagate();
  const auto tokens = run.generated();
  const auto logits = run.logits();
  return outcome{{tokens.begin(), tokens.end()}, {logits.begin(), logits.end()}};
}

std::string words(const berth::error& e) { return std::string(e.subject.view()) + ": " + std::string(e.detail.view()); }

void check_family(std::string_view family, const berth::precision& how) {
  const folder place;
  std::string error;
  BOOST_REQUIRE_MESSAGE(write_random_checkpoint(place.path, family, seed, error), error);
  const auto m = tiny::open(place.path);
  BOOST_REQUIRE(m);
  const berth::workload w{prompt.size() + fresh, 1, prompt.size(), fresh, berth::objective::latency};
  auto one = plan_of(plan_kind::one_gpu, *m, how, w);
  BOOST_REQUIRE(one);
  const auto expected = rehearse(*m, *std::move(one), how, prompt, {});
  BOOST_REQUIRE(expected);
  for (const bool peers : {true, false})
    for (const auto kind : all_kinds)
      for (const bool by_graph : {false, true}) {
        fake_cuda::options options;
        options.peers = peers;
        options.seed = seed;
        fake_cuda::runtime cuda(options);
        auto plan = plan_of(kind, *m, how, w);
        BOOST_REQUIRE(plan);
        std::optional<std::uint64_t> graphs;
        const auto got =
            on_cuda(cuda, *m, *std::move(plan), how, place.path + "/offload", by_graph ? &graphs : nullptr);
        const auto what = std::string(family) + " " + std::string(name_of(kind)) + (by_graph ? " by graph" : "") +
                          (peers ? "" : " without peers") + ", seed " + std::to_string(seed);
        BOOST_CHECK_MESSAGE(got, what << ": " << (got ? "" : words(got.error())));
        if (!got) continue;
        BOOST_CHECK_MESSAGE(got->tokens == expected->tokens, what << ": other tokens");
        BOOST_CHECK_MESSAGE(got->logits == expected->logits, what << ": other logits");
        BOOST_CHECK_MESSAGE(!by_graph || graphs.value_or(0) > 1, what << ": no graph was launched twice");
        for (const auto& misuse : cuda.misuse()) BOOST_CHECK_MESSAGE(false, what << ": misuse of CUDA: " << misuse);
        BOOST_CHECK_EQUAL(cuda.live().total(), 0u);
      }
}

}  // namespace

BOOST_AUTO_TEST_CASE(llama_on_the_cuda_machine_is_llama_on_the_host) { check_family("llama", {}); }
BOOST_AUTO_TEST_CASE(int8_gpt2_on_the_cuda_machine_is_that_on_the_host) {
  berth::precision how;
  how.int8 = true;
  check_family("gpt2", how);
}
BOOST_AUTO_TEST_CASE(mixtral_on_the_cuda_machine_is_mixtral_on_the_host) { check_family("mixtral", {}); }
