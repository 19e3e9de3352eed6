// SPDX-License-Identifier: Apache-2.0
// What is wrong with a program is found: every kind of damage is done to programs that hold.
#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <iterator>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "exec_programs.hpp"

namespace {

using namespace berth;
using exec_test::compile_phases;
using exec_test::first_of;
using exec_test::programs;

/// What a wait guards, told from who records its event.
std::string kind_of(const programs& all, const program& g, const operation& wait) {
  if (wait.event_ring != no_handle) return wait.event == g.frame.rings[wait.event_ring].copied ? "copied" : "freed";
  if (wait.event == 0) return "token";
  const auto role = g.frame.streams[wait.stream].role;
  for (const auto* h : all.list())
    for (const auto& o : h->operations) {
      if (o.kind != op_kind::record || o.event_ring != no_handle || o.event != wait.event) continue;
      if (role == stream_role::message) return o.atom == wait.atom ? "done" : "consumed";
      if (role == stream_role::copy_out) return "left";
      if (g.frame.streams[o.stream].role == stream_role::copy_out)
        return o.atom == wait.atom && g.phase == program_phase::decode ? "moved, used" : "moved, workspace";
      return o.atom == wait.atom ? "arrived, sent again" : "arrived, read";
    }
  return "unknown";
}

/// Waits removed one by one, and how many of the removals were found.
struct removals {
  std::map<std::string, std::pair<std::size_t, std::size_t>> by_kind;

  void of(const plan& p, programs& all, bool pipelined, const std::string& what) {
    for (auto* g : {&all.prefill, &all.decode})
      for (std::size_t k = 0; k < g->operations.size(); ++k) {
        if (g->operations[k].kind != op_kind::wait) continue;
        const auto wait = g->operations[k];
        const auto kind = kind_of(all, *g, wait);
        const auto at = g->operations.begin() + static_cast<std::ptrdiff_t>(k);
        g->operations.erase(at);
        const bool found = !all.faults(p, pipelined).empty();
        g->operations.insert(g->operations.begin() + static_cast<std::ptrdiff_t>(k), wait);
        auto& [caught, tried] = by_kind[kind];
        ++tried;
        caught += found ? 1 : 0;
        // These nothing else implies; a slot's first use in the prompt has nothing to wait for.
        const bool needed = kind == "copied" || kind == "done" || kind == "arrived, read" || kind == "left" ||
                            (kind == "freed" && g == &all.decode);
        if (needed) BOOST_TEST(found, what << ": a removed wait, " << kind << ", is not found");
      }
    BOOST_TEST(all.faults(p, pipelined).empty());
  }
};

/// A kind of damage: true if it could be done to these programs.
using damage = std::function<bool(const plan&, programs&)>;

operation* find(program& g, const std::function<bool(const operation&)>& which, std::size_t nth = 0) {
  for (auto& o : g.operations)
    if (which(o) && nth-- == 0) return &o;
  return nullptr;
}
bool is_launch(const operation& o) { return o.kind == op_kind::launch; }
bool is_second_launch(const operation& o) { return is_launch(o) && o.atom == 1; }
bool is_read(const operation& o) { return o.kind == op_kind::read && o.to.size > 0; }
bool is_message(const operation& o) { return o.kind == op_kind::copy && o.transfer == transfer_kind::message; }
bool fills_slot(const operation& o) {
  return (o.kind == op_kind::copy || o.kind == op_kind::read) && o.to.ring != no_handle && o.to.size > 0;
}
bool moves_state(const operation& o) {
  return o.kind == op_kind::copy && o.transfer == transfer_kind::copy && o.to.ring == no_handle;
}

/// Changes the first operation of a kind in the chosen program.
damage change(program programs::* which, bool (*kind)(const operation&), void (*harm)(operation&)) {
  return [=](const plan&, programs& all) {
    auto* o = find(all.*which, kind);
    if (o == nullptr) return false;
    harm(*o);
    return true;
  };
}
damage repeat(program programs::* which, bool (*kind)(const operation&)) {
  return [=](const plan&, programs& all) {
    auto& list = (all.*which).operations;
    const auto at = std::find_if(list.begin(), list.end(), kind);
    if (at == list.end()) return false;
    const auto copy = *at;
    list.insert(at, copy);
    return true;
  };
}
damage drop(program programs::* which, bool (*kind)(const operation&)) {
  return [=](const plan&, programs& all) {
    auto& list = (all.*which).operations;
    const auto at = std::find_if(list.begin(), list.end(), kind);
    if (at == list.end()) return false;
    list.erase(at);
    return true;
  };
}
/// The same change of the frame in all three programs.
damage reframe(bool (*harm)(program_frame&)) {
  return [=](const plan&, programs& all) {
    bool done = false;
    for (auto* g : all.list()) done = harm(g->frame);
    return done;
  };
}

bool to_another_slot(const plan&, programs& all) {
  auto* o = find(all.decode, fills_slot);
  if (o == nullptr || all.decode.copies[o->to.ring] < 2) return false;
  o->to.step = (o->to.step + 1) % all.decode.copies[o->to.ring];
  return true;
}
/// The whole step moves: copy, its events and its reader agree with each other, but not with who is in the slot.
bool swap_steps(const plan&, programs& all) {
  auto *a = find(all.decode, fills_slot), *b = find(all.decode, fills_slot, 1);
  if (a == nullptr || b == nullptr || a->to.ring != b->to.ring || a->to.step == b->to.step) return false;
  std::swap(a->to.step, b->to.step);
  return true;
}
bool swap_launches(const plan& p, programs& all) {
  if (p.atoms.size() < 2) return false;
  auto *a = find(all.decode, is_launch, p.atoms.size() / 2 - 1), *b = find(all.decode, is_launch, p.atoms.size() / 2);
  std::swap(*a, *b);
  return true;
}
bool launch_elsewhere(const plan&, programs& all) {
  auto* o = find(all.decode, is_launch);
  for (std::uint32_t s = 0; s < all.decode.frame.streams.size(); ++s)
    if (s != o->stream && all.decode.frame.streams[s].role == stream_role::compute) {
      o->stream = s;
      return true;
    }
  return false;
}
bool stale_ring_event(const plan&, programs& all) {
  // With all copies of a round in other slots, an older event is older weights.
  for (auto& o : all.decode.operations)
    if (o.kind == op_kind::wait && o.event_ring != no_handle &&
        all.decode.frame.streams[o.stream].role == stream_role::compute && all.decode.copies[o.event_ring] >= 2 &&
        o.event_step > 0 && all.decode.frame.rings[o.event_ring].slots >= 2) {
      --o.event_step;
      return true;
    }
  return false;
}
bool wait_for_nothing(const plan&, programs& all) {
  for (auto* g : all.list()) ++g->frame.events;
  operation o;
  o.kind = op_kind::wait;
  o.stream = 0;
  o.event = all.load.frame.events - 1;
  if (all.load.frame.streams.empty()) return false;
  all.decode.operations.push_back(o);
  return true;
}
bool shrink_arena(program_frame& f) {
  if (f.buffers.empty()) return false;
  --f.buffers.front().size;
  return true;
}
bool empty_messages(program_frame& f) {
  if (f.buffers.empty() || f.buffers.back().role != buffer_role::messages) return false;
  f.buffers.back().size = 0;
  return true;
}
bool grow_arena(program_frame& f) {
  if (f.buffers.empty()) return false;
  ++f.buffers.front().size;
  return true;
}
bool move_stream(program_frame& f) {
  if (f.buffers.size() < 2 || f.streams.empty()) return false;
  const auto other = f.buffers[0].device == f.streams[0].device ? f.buffers[1].device : f.buffers[0].device;
  if (other == f.streams[0].device) return false;
  f.streams[0].device = other;
  return true;
}
bool move_buffer(program_frame& f) {
  if (f.buffers.size() < 2 || f.buffers[0].device == f.buffers[1].device) return false;
  std::swap(f.buffers[0].device, f.buffers[1].device);
  return true;
}
bool move_ring(program_frame& f) {
  if (f.rings.empty()) return false;
  ++f.rings[0].offset;
  return true;
}
bool fewer_slots(program_frame& f) {
  if (f.rings.empty() || f.rings[0].slots < 2) return false;
  --f.rings[0].slots;
  return true;
}

std::vector<std::pair<const char*, damage>> all_damage() {
  constexpr auto load = &programs::load, prefill = &programs::prefill, decode = &programs::decode;
  return {
      {"a copy to another slot", to_another_slot},
      {"two copies in each other's slots", swap_steps},
      {"a copy twice", repeat(decode, fills_slot)},
      {"a copy missing", drop(prefill, fills_slot)},
      {"a copy from elsewhere", change(decode, fills_slot,
                                       [](operation& o) {
                                         o.from.offset ^= 1;
                                         o.stored.offset ^= 1;
                                       })},
      {"a copy too short", change(decode, fills_slot,
                                  [](operation& o) {
                                    --o.to.size;
                                    --o.from.size;
                                    --o.stored.size;
                                  })},
      {"a read twice", repeat(load, is_read)},
      {"a read missing", drop(load, is_read)},
      {"a read of another file", change(load, is_read, [](operation& o) { o.stored.file = o.stored.file == 0; })},
      {"a read of other bytes", change(load, is_read, [](operation& o) { ++o.stored.offset; })},
      {"a read to another place", change(load, is_read, [](operation& o) { o.to.offset ^= 1; })},
      {"two launches swapped", swap_launches},
      {"a launch twice", repeat(decode, is_launch)},
      {"a launch missing", drop(prefill, is_launch)},
      {"a launch elsewhere", launch_elsewhere},
      {"a launch of other costs", change(prefill, is_launch, [](operation& o) { o.flops += 1; })},
      {"a launch of other bytes", change(decode, is_launch, [](operation& o) { o.touched /= 2; })},
      {"a launch of another dtype", change(decode, is_launch, [](operation& o) { o.compute = dtype::f64; })},
      {"a launch of part of its weights", change(decode, is_launch, [](operation& o) { --o.memory.weights.size; })},
      {"a launch with another state", change(decode, is_launch, [](operation& o) { ++o.memory.state.offset; })},
      {"a launch with less workspace", change(decode, is_launch, [](operation& o) { --o.memory.workspace.size; })},
      {"a launch that reads elsewhere", change(decode, is_second_launch, [](operation& o) { ++o.memory.in.offset; })},
      {"a launch that writes elsewhere", change(prefill, is_launch, [](operation& o) { ++o.memory.out.offset; })},
      {"a launch of shifted weights", change(decode, is_launch, [](operation& o) { o.memory.weights.offset ^= 1; })},
      {"a message twice", repeat(decode, is_message)},
      {"a message missing", drop(decode, is_message)},
      {"a message too short", change(prefill, is_message,
                                     [](operation& o) {
                                       --o.from.size;
                                       --o.to.size;
                                     })},
      {"a message to its own device", change(decode, is_message, [](operation& o) { o.to.buffer = o.from.buffer; })},
      {"a message that a copy engine takes",
       change(decode, is_message, [](operation& o) { o.transfer = transfer_kind::copy; })},
      {"a state to another place", change(prefill, moves_state, [](operation& o) { ++o.to.offset; })},
      {"a state missing", drop(prefill, moves_state)},
      {"a state too short", change(prefill, moves_state,
                                   [](operation& o) {
                                     --o.from.size;
                                     --o.to.size;
                                   })},
      {"an allocation missing", drop(load, [](const operation& o) { return o.kind == op_kind::allocate; })},
      {"an allocation twice", repeat(load, [](const operation& o) { return o.kind == op_kind::allocate; })},
      {"a copy's event of another slot", stale_ring_event},
      {"a wait for what never comes", wait_for_nothing},
      {"an arena shrunk", reframe(shrink_arena)},
      {"messages without memory", reframe(empty_messages)},
      {"an arena grown", reframe(grow_arena)},
      {"a stream on another device", reframe(move_stream)},
      {"a buffer on another device", reframe(move_buffer)},
      {"a ring shifted", reframe(move_ring)},
      {"a ring with fewer slots", reframe(fewer_slots)},
      {"a frame of another phase", [](const plan&, programs& all) { return ++all.decode.frame.events > 0; }},
      {"another end", [](const plan&, programs& all) { return (all.decode.last_stream = no_handle) == no_handle; }},
      {"phases exchanged", [](const plan&, programs& all) { return (std::swap(all.prefill, all.decode), true); }},
  };
}

}  // namespace

BOOST_AUTO_TEST_SUITE(exec_verify)

BOOST_AUTO_TEST_CASE(a_wait_that_is_missing_is_found) {
  removals tried;
  for (const auto& s : exec_test::shapes())
    for (const bool pipelined : {false, true})
      for (const std::uint32_t slots : {1u, 2u, 4u}) {
        const auto p = exec_test::plan_of(s, slots);
        auto all = *compile_phases(p, {memory_kind::pinned, pipelined});
        tried.of(p, all, pipelined, std::string(s.name) + (pipelined ? ", pipelined" : ""));
      }
  for (const auto& [kind, counts] : tried.by_kind) {
    std::printf("verify: waits removed, %s: %zu of %zu found\n", kind.c_str(), counts.first, counts.second);
    BOOST_TEST(counts.first > 0u, kind);
  }
  BOOST_TEST(tried.by_kind.size() == 10u);
}

BOOST_AUTO_TEST_CASE(every_kind_of_damage_is_found_in_every_kind_of_plan) {
  for (const auto& [name, harm] : all_damage()) {
    std::size_t done = 0;
    for (const auto& s : exec_test::shapes())
      for (const bool pipelined : {false, true}) {
        const auto p = exec_test::plan_of(s, 3);
        auto all = *compile_phases(p, {memory_kind::pinned, pipelined});
        if (!harm(p, all)) continue;
        ++done;
        BOOST_TEST(!all.faults(p, pipelined).empty(), name << " in " << s.name << (pipelined ? ", pipelined" : ""));
      }
    BOOST_TEST(done > 0u, name << " was never done");
  }
}

BOOST_AUTO_TEST_CASE(damage_to_programs_of_random_plans_is_found) {
  const auto harms = all_damage();
  std::size_t done = 0, missed = 0;
  for (std::uint64_t seed = 1; seed <= plan_test::cases(300); ++seed) {
    const auto t = plan_test::random_triple(seed, {.least_atoms = 2});
    const auto p = place_fn{exec_test::Drawn{seed}}(t.model, t.topology, t.options(false));
    if (!p || !p->priced) continue;
    const bool pipelined = seed % 2 == 0;
    // Atoms of no bytes or alike phases leave nothing to damage.
    if (std::any_of(p->atoms.begin(), p->atoms.end(), [](const atom& a) { return a.weights == 0; })) continue;
    for (const auto& [name, harm] : harms) {
      auto all = compile_phases(*p, {memory_kind::pinned, pipelined});
      if (!all) break;
      if (!harm(*p, *all)) continue;
      ++done;
      const bool found = !all->faults(*p, pipelined).empty();
      missed += found ? 0 : 1;
      BOOST_TEST(found, "seed " << seed << ": " << name);
    }
  }
  std::printf("verify: %zu damaged programs of random plans, %zu missed\n", done, missed);
  BOOST_TEST(done > 0u);
}

BOOST_AUTO_TEST_CASE(faults_name_the_atom_and_say_what_is_wrong) {
  const auto p = exec_test::plan_of(exec_test::shapes()[4]);
  auto all = *compile_phases(p);
  std::erase_if(all.decode.operations,
                [](const operation& o) { return o.kind == op_kind::wait && o.event_ring != no_handle && o.atom == 3; });
  const auto found = all.faults(p);
  BOOST_REQUIRE(!found.empty());
  BOOST_TEST((found.front().code == errc::invalid_program));
  BOOST_TEST(found.front().subject.view() == "a3");
  BOOST_TEST(found.size() <= 64u);
}

BOOST_AUTO_TEST_CASE(programs_of_another_plan_are_refused) {
  const auto all_shapes = exec_test::shapes();
  for (std::size_t a = 0; a < all_shapes.size(); ++a)
    for (std::size_t b = 0; b < all_shapes.size(); ++b) {
      if (a == b) continue;
      const auto p = exec_test::plan_of(all_shapes[a]), q = exec_test::plan_of(all_shapes[b]);
      const auto of_q = *compile_phases(q);
      BOOST_TEST(!of_q.faults(p).empty(), all_shapes[b].name << " as " << all_shapes[a].name);
    }
}

BOOST_AUTO_TEST_CASE(programs_that_make_no_sense_are_refused_and_not_run) {
  const auto p = exec_test::plan_of(exec_test::shapes()[5]);
  BOOST_TEST(!verify(p, {}).empty());
  const std::array<const program*, 3> none{};
  BOOST_TEST(!verify(p, none).empty());
  std::uint64_t found = 0, tried = 0;
  for (std::uint64_t seed = 1; seed <= plan_test::cases(2000); ++seed) {
    plan_test::dice d(seed);
    auto all = *compile_phases(p);
    auto* g = all.list()[d.pick(0, 2)];
    auto& o = g->operations[d.pick(0, g->operations.size() - 1)];
    const std::array<std::uint32_t*, 11> numbers{&o.stream,     &o.buffer,     &o.atom,        &o.event,
                                                 &o.event_ring, &o.event_step, &o.from.buffer, &o.from.ring,
                                                 &o.to.buffer,  &o.to.ring,    &o.to.step};
    auto& number = *numbers[d.pick(0, numbers.size() - 1)];
    number = static_cast<std::uint32_t>(d.one_in(2) ? d.pick(0, 1u << 31) : number ^ d.pick(1, 3));
    o.kind = d.one_in(4) ? static_cast<op_kind>(d.pick(0, 6)) : o.kind;
    ++tried;
    found += all.faults(p).empty() ? 0 : 1;  // must not crash; some numbers mean nothing to an operation
  }
  BOOST_TEST(found * 4 > tried);
}

BOOST_AUTO_TEST_SUITE_END()
