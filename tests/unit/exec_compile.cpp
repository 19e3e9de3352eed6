// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory_resource>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "exec_programs.hpp"

namespace {

using namespace berth;
using exec_test::chain_shape;
using exec_test::compile_phases;
using exec_test::first_of;

std::size_t count(const program& g, op_kind k) {
  return static_cast<std::size_t>(
      std::count_if(g.operations.begin(), g.operations.end(), [&](const operation& o) { return o.kind == k; }));
}
std::size_t streams(const program& g, stream_role r) {
  return static_cast<std::size_t>(std::count_if(g.frame.streams.begin(), g.frame.streams.end(),
                                                [&](const program_stream& s) { return s.role == r; }));
}
bytes copied(const program& g, transfer_kind kind, bool to_slot) {
  bytes sum = 0;
  for (const auto& o : g.operations)
    if ((o.kind == op_kind::copy || o.kind == op_kind::read) && o.transfer == kind &&
        (o.to.ring != no_handle) == to_slot)
      sum += o.to.size;
  return sum;
}

/// What holds for the programs of any plan.
void examine(const plan& p, const compile_options& options) {
  const auto all = compile_phases(p, options);
  BOOST_REQUIRE_MESSAGE(all.has_value(), (all ? "" : first_of(std::span(&all.error(), 1))));
  const auto found = all->faults(p, options.pipelined);
  BOOST_TEST(found.empty(), first_of(found));
  BOOST_TEST((all->load.frame == all->prefill.frame));
  BOOST_TEST((all->load.frame == all->decode.frame));
  for (const auto& u : p.uses) {
    bytes arenas = 0;
    for (const auto& b : all->load.frame.buffers)
      if (b.device == u.device && b.role == buffer_role::arena) arenas += b.size;
    if (p.devices[u.device].executes()) BOOST_TEST(arenas == u.used());
  }
  const auto again = compile(p, program_phase::decode, options);
  BOOST_REQUIRE(again.has_value());
  BOOST_TEST((*again == all->decode));
  BOOST_TEST(count(all->decode, op_kind::launch) == p.atoms.size());
  BOOST_TEST(count(all->prefill, op_kind::launch) == p.atoms.size());
}

void examine_layout(const plan& p) {
  const auto l = lay_out(p);
  BOOST_REQUIRE_EQUAL(l.devices.size(), p.uses.size());
  for (std::size_t k = 0; k < p.uses.size(); ++k) {
    const auto &part = l.devices[k], &again = *l.part_of(p.uses[k].device);
    const auto& u = p.uses[k];
    BOOST_TEST(&part == &again);
    BOOST_TEST(part.total == u.used());
    BOOST_TEST(part.states == u.state);
    const bytes sum = part.weights + part.states + part.workspace + part.staging;
    BOOST_TEST(round_up(sum, p.padded ? p.devices[u.device].granularity : 1) == u.used());
    bytes exact = 0;
    for (std::size_t i = 0; i < p.atoms.size(); ++i)
      if (p.placements[i].home == u.device) exact += l.weights[i].size;
    BOOST_TEST(exact == u.weights);
    BOOST_TEST(part.slot_size * p.staging_slots == u.staging);
  }
  // Regions of one arena do not overlap.
  for (std::size_t i = 1; i < p.atoms.size(); ++i)
    for (std::size_t k = 0; k < i; ++k)
      if (p.placements[i].home == p.placements[k].home)
        BOOST_TEST(l.weights[k].offset + l.weights[k].padded <= l.weights[i].offset);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(exec_compile)

BOOST_AUTO_TEST_CASE(programs_of_every_kind_of_plan_are_proved) {
  for (const auto& s : exec_test::shapes())
    for (const bool pipelined : {false, true})
      for (const std::uint32_t slots : {1u, 2u, 3u, 5u})
        for (const bytes granularity : {bytes{1}, 2 * MiB})
          for (const bytes workspace : {bytes{0}, bytes{100'000}, bytes{1'000'000}}) {
            const auto p = exec_test::plan_of(s, slots, {.workspace = workspace}, granularity);
            BOOST_TEST_CONTEXT(s.name << ", " << slots << " slots, workspace " << workspace << ", granularity "
                                      << granularity << (pipelined ? ", pipelined" : "")) {
              examine(p, {memory_kind::pinned, pipelined});
              examine_layout(p);
            }
          }
}

BOOST_AUTO_TEST_CASE(programs_of_presets_and_real_shapes_are_proved) {
  const workload w{.context = 4096, .batch = 1, .prompt = 512, .generate = 64, .objective = objective::latency};
  for (const auto& config : {plan_test::llama_3_8b(), plan_test::llama_32_1b(), plan_test::mixtral_8x7b()}) {
    const plan_test::shaped_model shaped(config, w);
    for (const auto* name : {"1x4090", "2x4090", "1x3090", "8xa100-80g"})
      for (const bytes room : {bytes{0}, 6 * GiB}) {
        const auto t = *preset(name);
        auto o = exec_test::options();
        o.workload = w;
        std::vector<device_bytes> limits;
        if (room > 0)
          for (const auto& d : t.devices)
            if (d.kind == device_kind::gpu) limits.push_back({d.id, room});
        o.max_memory = limits;
        const auto p = Place<Auto>(shaped.chain, t.view(), o);
        if (!p) continue;
        BOOST_TEST_CONTEXT(config.type << " on " << name << ", " << room) {
          examine(*p, {});
          examine(*p, {memory_kind::plain, true});
          examine_layout(*p);
        }
      }
  }
}

BOOST_AUTO_TEST_CASE(programs_of_random_plans_are_proved) {
  std::size_t proved = 0, streamed = 0, prompts = 0, tied = 0, refused = 0;
  for (std::uint64_t seed = 1; seed <= plan_test::cases(1500); ++seed) {
    const auto t = plan_test::random_triple(seed, {.most_atoms = seed % 10 == 0 ? 40u : 12u});
    auto p = seed % 3 == 0 ? Place<Auto>(t.model, t.topology, t.options(false))
                           : place_fn{exec_test::Drawn{seed}}(t.model, t.topology, t.options(false));
    if (!p || !p->priced) continue;
    BOOST_TEST_CONTEXT("seed " << seed) {
      const compile_options options{memory_kind::pinned, seed % 2 == 0};
      if (const auto r = compile(*p, program_phase::load, options); !r) {
        // Links are missing; or one tensor was declared to share a part of itself, which no alignment allows.
        const auto why = r.error().detail.view();
        BOOST_TEST((why.find("no route") != why.npos || (p->padded && why.find("more padding") != why.npos)), why);
        ++refused;
        continue;
      }
      examine(*p, options);
      examine_layout(*p);
      ++proved;
      streamed += p->streams() ? 1 : 0;
      tied += p->ties.empty() ? 0 : 1;
      prompts += std::any_of(p->placements.begin(), p->placements.end(),
                             [](const atom_placement& a) { return a.prompt != no_index; })
                     ? 1
                     : 0;
    }
  }
  std::printf("compile: %zu random plans proved, %zu stream, %zu with prompts elsewhere, %zu tied; %zu refused\n",
              proved, streamed, prompts, tied, refused);
  BOOST_TEST(proved >= std::min<std::size_t>(200, plan_test::cases(200)));
}

BOOST_AUTO_TEST_CASE(a_resident_plan_launches_and_sends_and_copies_nothing) {
  const auto p = exec_test::plan_of(exec_test::shapes()[1]);
  const auto all = *compile_phases(p);
  const auto& g = all.decode;
  BOOST_TEST(g.frame.rings.empty());
  BOOST_TEST(streams(g, stream_role::compute) == 2u);
  BOOST_TEST(streams(g, stream_role::message) == 1u);
  BOOST_TEST(streams(g, stream_role::load) == 2u);
  BOOST_TEST(streams(g, stream_role::copy_in) == 0u);
  BOOST_TEST(count(all.load, op_kind::read) == 6u);
  BOOST_TEST(count(g, op_kind::copy) == 1u);
  BOOST_TEST(copied(g, transfer_kind::message, false) == 8192u);
  BOOST_TEST(copied(all.prefill, transfer_kind::message, false) == 81921u);  // 81920.5 B, rounded up
  BOOST_TEST(g.last_stream != no_handle);
  BOOST_TEST(all.load.last_stream == no_handle);
}

BOOST_AUTO_TEST_CASE(a_round_moves_each_streamed_atom_once) {
  for (const auto& s : exec_test::shapes()) {
    const auto p = exec_test::plan_of(s);
    const auto all = *compile_phases(p);
    for (const auto ph : all_phases) {
      bytes expected = 0;
      for (std::size_t i = 0; i < p.atoms.size(); ++i)
        if (p.placements[i].streamed(ph)) expected += p.atoms[i].weights;
      BOOST_TEST(copied(ph == phase::prefill ? all.prefill : all.decode, transfer_kind::copy, true) == expected,
                 s.name);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_prompt_elsewhere_moves_its_share_of_the_state) {
  const auto p = exec_test::plan_of({"prompts", {{"cpu", "cpu", "0"}}});
  const auto all = *compile_phases(p);
  bytes expected = 0;
  for (const auto& a : p.atoms) expected += static_cast<bytes>(0.3 * static_cast<double>(a.state) + 0.5);
  BOOST_TEST(copied(all.prefill, transfer_kind::copy, false) == expected);
  BOOST_TEST(copied(all.decode, transfer_kind::copy, false) == 0u);
  BOOST_TEST(streams(all.decode, stream_role::copy_out) == 1u);
}

BOOST_AUTO_TEST_CASE(tied_weights_are_loaded_once_per_device) {
  const auto reads = [](const char* name) {
    bytes sum = 0;
    for (const auto& s : exec_test::shapes())
      if (s.name == std::string_view(name)) {
        const auto p = exec_test::plan_of(s);
        const auto all = *compile_phases(p);
        for (const auto& o : all.load.operations)
          if (o.kind == op_kind::read) sum += o.to.size;
        for (const auto& a : p.atoms) sum -= a.weights;
      }
    return static_cast<std::int64_t>(sum);
  };
  BOOST_TEST(reads("tied on one device") == -50'000'001);
  BOOST_TEST(reads("tied on two devices") == 0);
  BOOST_TEST(reads("tied, streamed") == -50'000'001);
}

BOOST_AUTO_TEST_CASE(host_memory_is_as_asked_where_weights_stream_from_it) {
  const auto kind_of = [](const char* home, const char* runs, memory_kind asked) {
    const auto p = exec_test::plan_of({"one", {{home, runs}}});
    const auto g = *compile(p, program_phase::load, {asked, false});
    for (const auto& b : g.frame.buffers)
      if (p.devices[b.device].kind == device_kind::cpu) return b.kind;
    return memory_kind::plain;
  };
  BOOST_TEST((kind_of("cpu", "0", memory_kind::pinned) == memory_kind::pinned));
  BOOST_TEST((kind_of("cpu", "0", memory_kind::plain) == memory_kind::plain));
  BOOST_TEST((kind_of("cpu", "cpu", memory_kind::pinned) == memory_kind::plain));
}

BOOST_AUTO_TEST_CASE(what_cannot_be_carried_out_is_refused) {
  auto p = exec_test::plan_of(exec_test::shapes()[1]);
  p.uses[0].state += 1;
  BOOST_TEST((compile(p, program_phase::load).error().code == errc::invalid_plan));
  model bare;
  bare.add("a", atom_kind::block, 1000, 24);
  const auto unpriced = place_fn{exec_test::Told{{{"0", "0"}}}}(bare, exec_test::machine(1), exec_test::options());
  BOOST_REQUIRE(unpriced.has_value());
  BOOST_TEST((compile(*unpriced, program_phase::load).error().code == errc::invalid_plan));
  // Two GPUs without a link.
  auto t = exec_test::machine(2);
  std::erase_if(t.routes, [](const route& r) { return r.from + r.to == 1; });
  const auto cut = place_fn{exec_test::Told{{{"0", "0"}, {"1", "1"}}}}(exec_test::chain({}), t, exec_test::options());
  BOOST_REQUIRE(cut.has_value());
  const auto r = compile(*cut, program_phase::decode);
  BOOST_REQUIRE(!r.has_value());
  BOOST_TEST((r.error().code == errc::invalid_plan));
  BOOST_TEST((r.error().detail.view().find("no route") != std::string_view::npos));
}

BOOST_AUTO_TEST_CASE(only_the_memory_given_is_used) {
  const auto p = exec_test::plan_of(exec_test::shapes()[12]);
  std::vector<std::byte> room(8 << 20);
  std::pmr::monotonic_buffer_resource memory(room.data(), room.size(), std::pmr::null_memory_resource());
  auto* const before = std::pmr::set_default_resource(std::pmr::null_memory_resource());
  const auto g = compile(p, program_phase::decode, {}, &memory);
  std::pmr::set_default_resource(before);
  BOOST_TEST(g.has_value());
}

BOOST_AUTO_TEST_CASE(long_chains_compile_and_are_proved_in_a_moment) {
  const auto p = exec_test::plan_of({"long", {{"0", "0"}, {"cpu", "1"}, {"cpu", "cpu", "0"}}}, 7, {.atoms = 150});
  examine(p, {});
  auto o = exec_test::options(3);
  auto t = exec_test::machine(2);
  for (auto& d : t.devices) d.memory = d.free = TiB * 64;
  const auto big = place_fn{exec_test::Told{{{"0", "0"}, {"cpu", "1"}, {"cpu", "cpu", "0"}, {"cpu", "1"}}}}(
      exec_test::chain({.atoms = 15'000}), t, o);
  BOOST_REQUIRE(big.has_value());
  using clock = std::chrono::steady_clock;
  const auto start = clock::now();
  const auto all = compile_phases(*big);
  const auto middle = clock::now();
  BOOST_REQUIRE(all.has_value());
  const auto found = all->faults(*big);
  const auto end = clock::now();
  BOOST_TEST(found.empty(), first_of(found));
  const auto ms = [](auto d) { return std::chrono::duration<double, std::milli>(d).count(); };
  std::printf("compile: 15000 atoms, %zu operations a round: compiled in %.1f ms, proved in %.1f ms\n",
              all->decode.operations.size(), ms(middle - start), ms(end - middle));
}

BOOST_AUTO_TEST_SUITE_END()
