// SPDX-License-Identifier: Apache-2.0
// A plan is made, compiled, proved and run on the simulated machine in a program without exceptions and RTTI; after
// set-up stepping allocates nothing.
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <string_view>
#include <utility>

#include "check.hpp"

import berth;
import berth.sim;

#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "the embedded preset has no exceptions and no RTTI"
#endif

namespace {

/// Counts what goes through it.
class counting_resource final : public std::pmr::memory_resource {
 public:
  std::size_t allocations = 0;

 private:
  void* do_allocate(std::size_t size, std::size_t alignment) override {
    ++allocations;
    return std::pmr::new_delete_resource()->allocate(size, alignment);
  }
  void do_deallocate(void* p, std::size_t size, std::size_t alignment) override {
    std::pmr::new_delete_resource()->deallocate(p, size, alignment);
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

}  // namespace

int main() {
  berth::model chain;
  constexpr std::array<std::string_view, 6> names{"embed", "layers.0", "layers.1", "layers.2", "layers.3", "head"};
  for (const auto name : names) {
    berth::atom a;
    a.name = name;
    a.weights = 3 * berth::GiB;
    a.work[0] = {3e12, 3.3e9, 4e6};
    a.work[1] = {6e9, 3.3e9, 8192};
    chain.add(a);
  }
  const auto box = berth::preset("1x3060");
  CHECK(box);
  berth::place_options options;
  options.workload = {4096, 1, 512, 8, berth::objective::latency};
  counting_resource memory;
  const auto plan = berth::Place<berth::Auto>(chain, *box, options, &memory);
  CHECK(plan);
  const auto programs = berth::compile_all(*plan, {}, &memory);
  CHECK(programs);

  berth::sim::machine_options room;
  room.bounds = {32, 512, 4096, {32, 16}};
  room.buffers = 32;
  room.places = 256;
  berth::sim::machine machine(plan->topology(), room, &memory);
  berth::frame_handles handles(&memory);
  auto bound = berth::bind(machine, programs->load.frame, &memory);
  CHECK(bound);
  handles = *std::move(bound);
  berth::runner load(machine, programs->load, handles, {}, &memory);
  CHECK(load.run());
  berth::runner_options rounds;
  rounds.rounds = 8;
  berth::runner decode(machine, programs->decode, handles, rounds, &memory);
  const auto before = memory.allocations;
  for (;;) {
    const auto p = decode.step();
    CHECK(p);
    if (!p || p->state == berth::run_state::finished) break;
    if (p->state == berth::run_state::waiting) CHECK(berth::advance_to_next(machine));
  }
  CHECK(memory.allocations == before);
  CHECK(machine.now() > 0);

  // Too much is an error, not the end of the program.
  const auto refused = machine.allocate(0, berth::TiB, berth::memory_kind::plain);
  CHECK(!refused);
  CHECK(refused.error().code == berth::errc::out_of_memory);
  return embedded::failures == 0 ? 0 : 1;
}
