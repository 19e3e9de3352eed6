// SPDX-License-Identifier: Apache-2.0
// What users of today's tools complain about, each as a promise on the shape of a real model.
#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plan_random.hpp"

namespace {

using namespace berth;
using plan_test::decoder_config;
using plan_test::shaped_model;

constexpr workload chat{.context = 4096, .batch = 1, .prompt = 512, .generate = 128, .objective = objective::latency};
workload with_context(std::uint64_t tokens) {
  auto w = chat;
  w.context = tokens;
  return w;
}

topology machine(std::string_view name) {
  auto t = preset(name);
  BOOST_REQUIRE(t.has_value());
  return *std::move(t);
}

/// Options that own the lists that they show.
struct request {
  std::vector<device_bytes> limits, reserve;
  workload work;
  std::uint32_t slots = 2;

  operator place_options() const {
    place_options o;
    o.workload = work;
    o.max_memory = limits;
    o.reserve = reserve;
    o.staging_slots = slots;
    return o;
  }
};

plan sound(result<plan> p) {
  BOOST_REQUIRE_MESSAGE(p.has_value(), (p ? "" : std::string(p.error().detail.view())));
  const auto found = check(*p);
  for (const auto& e : found) BOOST_ERROR(e.subject.view() << ": " << e.detail.view());
  return *std::move(p);
}

template <class S>
plan planned(const shaped_model& m, const topology& t, const request& r, const place_fn<S>& place = Place<S>) {
  return sound(place(m.chain, t, r));
}

std::set<std::string> devices_of(const plan& p) {
  std::set<std::string> ids;
  for (const auto& at : p.placements) {
    ids.insert(std::string(p.devices[at.home].id.view()));
    ids.insert(std::string(p.devices[at.execution].id.view()));
    ids.insert(std::string(p.devices[at.runs(phase::prefill)].id.view()));
  }
  return ids;
}

bool on_gpus_only(const plan& p) {
  const auto ids = devices_of(p);
  return !ids.contains("cpu") && !ids.contains("disk");
}

/// Runs `see(plan)` for the plans of all strategies that use several devices.
template <class See>
void each_strategy(const shaped_model& m, const topology& t, const request& r, See see) {
  const auto one = [&](const auto& place) { BOOST_TEST_CONTEXT(place.strategy.name()) see(planned(m, t, r, place)); };
  one(Place<Auto>);
  one(Place<Balanced>);
  one(Place<BalancedLow0>);
  one(Place<Sequential>);
}

bytes total_of(const shaped_model& m) { return total_weights(m.chain.view()); }

std::size_t resident_on_gpus(const plan& p) {
  std::size_t n = 0;
  for (const auto& at : p.placements) n += p.devices[at.home].kind == device_kind::gpu ? 1 : 0;
  return n;
}

/// One GPU and a CPU with rates of our own.
topology slow_gpu(double gpu_rate, double cpu_rate, double link_rate) {
  auto t = machine("1x3090");
  for (auto& d : t.devices) {
    if (d.kind == device_kind::gpu) {
      d.peak_bandwidth = gpu_rate / d.bandwidth_efficiency;
      for (auto& f : d.peak_flops) f = 20 * gpu_rate;
    }
    if (d.kind == device_kind::cpu) {
      d.peak_bandwidth = cpu_rate / d.bandwidth_efficiency;
      d.peak_flops = {20 * cpu_rate, 0, 0, 0};
    }
  }
  for (auto& r : t.routes) r.bandwidth = std::min(r.bandwidth, link_rate);
  for (auto& s : t.segments)
    if (s.kind == segment_kind::dram) s.capacity = std::max(cpu_rate, s.capacity);
  return t;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(plan_complaints)

BOOST_AUTO_TEST_CASE(nothing_spills_while_gpu_memory_is_free) {
  const auto t = machine("2x4090");
  for (const std::uint64_t context : {0u, 1024u}) {
    const shaped_model m(plan_test::llama_3_8b(), with_context(context));
    const request r{{{device_id(0), 12 * GiB}, {device_id(1), 4 * GiB}, {"cpu", 50 * GiB}}, {}, with_context(context)};
    BOOST_TEST_CONTEXT("context " << context)
    each_strategy(m, t, r, [](const plan& p) { BOOST_TEST(on_gpus_only(p)); });
  }
}

BOOST_AUTO_TEST_CASE(the_70b_model_on_two_80_gib_cards_does_not_spill_with_balanced_low_0) {
  const shaped_model m(plan_test::llama_3_70b(), chat);
  const auto t = machine("2xa100-80g");
  each_strategy(m, t, {{}, {}, chat}, [](const plan& p) { BOOST_TEST(on_gpus_only(p)); });
  const auto p = planned<BalancedLow0>(m, t, {{}, {}, chat});
  BOOST_TEST(p.use_of(device_id(0))->used() < p.use_of(device_id(1))->used());
  // The first card is as empty as the second allows: no further block would fit there.
  const auto block = p.loads[1] + p.atoms[1].state;
  BOOST_TEST(p.use_of(device_id(1))->free() < block);
}

BOOST_AUTO_TEST_CASE(small_models_on_eight_cards_are_spread_or_honestly_left_on_fewer) {
  const auto t = machine("8xa100-80g");
  for (const auto& config : {plan_test::gemma_2_2b(), plan_test::llama_32_1b()}) {
    const shaped_model m(config, chat);
    bytes biggest = 0, sum = 0;
    for (const auto& a : m.chain.atoms()) {
      biggest = std::max(biggest, a.weights + a.padding + a.state + a.workspace);
      sum += a.weights + a.state;
    }
    BOOST_TEST_CONTEXT(config.type << " hidden " << config.hidden) {
      const auto p = planned<Balanced>(m, t, {{}, {}, chat});
      bytes most = 0;
      std::size_t used = 0;
      for (const auto& u : p.uses) {
        most = std::max(most, u.used());
        used += u.used() > 0 ? 1 : 0;
      }
      // Even, or bound by the one atom (the embedding) that cannot be divided; arenas round to 2 MiB.
      BOOST_TEST(most <= std::max(biggest, sum / 8 + biggest) + 2 * MiB);
      BOOST_TEST((used == 8u || most <= biggest + 2 * MiB + biggest / 8), used << " GPUs, at most " << most);
      // One stream gains nothing from a second card; several streams do.
      auto w = chat;
      const auto alone = planned<Auto>(m, t, {{}, {}, w});
      BOOST_TEST(devices_of(alone).size() == 1u);
      BOOST_TEST(alone.certificate.gap() <= 1e-6);
      w.objective = objective::throughput;
      const auto several = planned<Auto>(m, t, {{}, {}, w});
      BOOST_TEST(devices_of(several).size() > 1u);
      BOOST_TEST(several.times.period < alone.times.period);
    }
  }
}

BOOST_AUTO_TEST_CASE(device_ids_may_have_gaps) {
  auto t = machine("4x3090");
  constexpr std::array<int, 4> ids{1, 3, 4, 9};
  for (std::size_t g = 0; g < ids.size(); ++g) t.devices[g].id = device_id(ids[g]);
  const shaped_model m(plan_test::llama_3_8b(), chat);
  // Two of the cards only, named in no order.
  const request r{{{device_id(9), 12 * GiB}, {device_id(3), 12 * GiB}}, {}, chat};
  each_strategy(m, t, r, [](const plan& p) { BOOST_TEST((devices_of(p) == std::set<std::string>{"3", "9"})); });
  each_strategy(m, t, {{}, {}, chat}, [](const plan& p) {
    for (const auto& id : devices_of(p)) BOOST_TEST((id == "1" || id == "3" || id == "4" || id == "9"), id);
  });
}

BOOST_AUTO_TEST_CASE(a_gpu_slower_than_the_cpu_is_left_unused) {
  const shaped_model m(plan_test::llama_32_1b(), chat);
  const auto t = slow_gpu(10e9, 80e9, 2e9);
  const auto p = planned<Auto>(m, t, {{}, {}, chat});
  BOOST_TEST((devices_of(p) == std::set<std::string>{"cpu"}));
  BOOST_TEST(p.use_of(device_id(0))->used() == 0u);
  const auto forced = planned<Sequential>(m, t, {{}, {}, chat});
  BOOST_TEST(p.times.value < forced.times.value);
}

BOOST_AUTO_TEST_CASE(the_cache_grows_with_the_context_until_layers_must_move) {
  const auto t = machine("1x4090");
  std::size_t before = ~std::size_t{0};
  bytes state = 0;
  bool all_fit = false, some_moved = false;
  for (const std::uint64_t context : {2048u, 8192u, 16384u, 32768u, 65536u, 131072u}) {
    const auto w = with_context(context);
    const shaped_model m(plan_test::llama_3_8b(), w);
    const auto p = planned<Auto>(m, t, {{{device_id(0), 20 * GiB}, {"cpu", 50 * GiB}}, {}, w});
    BOOST_TEST_CONTEXT("context " << context) {
      const auto now = resident_on_gpus(p);
      BOOST_TEST(now <= before);
      before = now;
      bytes kept = 0;
      for (const auto& u : p.uses) kept += u.state;
      BOOST_TEST(kept == context * 131072);  // 32 layers x 2 x 8 heads x 128 x 2 B
      BOOST_TEST(kept > state);
      state = kept;
      all_fit = all_fit || now == p.atoms.size();
      some_moved = some_moved || now < p.atoms.size();
    }
  }
  BOOST_TEST(all_fit);
  BOOST_TEST(some_moved);
}

BOOST_AUTO_TEST_CASE(there_is_no_reserve_when_nothing_is_offloaded) {
  const auto t = machine("1x4090");
  const shaped_model m(plan_test::llama_3_8b(), chat);
  const auto roomy = sound(place_fn{Single{0}}(m.chain, t, request{{}, {}, chat}));
  const auto needed = roomy.use_of(device_id(0))->used();
  const request exact{{{device_id(0), needed}, {"cpu", 50 * GiB}}, {}, chat};
  each_strategy(m, t, exact, [&](const plan& p) {
    BOOST_TEST(on_gpus_only(p));
    BOOST_TEST(p.use_of(device_id(0))->staging == 0u);
    BOOST_TEST(p.use_of(device_id(0))->free() == 0u);
  });
  const request less{{{device_id(0), needed - 2 * MiB}, {"cpu", 50 * GiB}}, {}, chat};
  each_strategy(m, t, less, [&](const plan& p) { BOOST_TEST(!on_gpus_only(p)); });
}

BOOST_AUTO_TEST_CASE(maps_are_deterministic) {
  const auto t = machine("1x5090+2x3090");
  const shaped_model m(plan_test::mixtral_8x7b(), chat), again(plan_test::mixtral_8x7b(), chat);
  const request r{{{device_id(0), 30 * GiB}, {device_id(1), 22 * GiB}, {"cpu", 60 * GiB}}, {}, chat};
  auto turned = r;
  std::reverse(turned.limits.begin(), turned.limits.end());
  const auto same = [&](const auto& place) {
    BOOST_TEST_CONTEXT(place.strategy.name()) {
      const auto text = json::write(write_plan(planned(m, t, r, place)));
      BOOST_TEST(text == json::write(write_plan(planned(again, t, r, place))));
      BOOST_TEST(text == json::write(write_plan(planned(m, t, turned, place))));
    }
  };
  same(Place<Auto>);
  same(Place<Balanced>);
  same(Place<BalancedLow0>);
  same(Place<Sequential>);
}

BOOST_AUTO_TEST_CASE(head_room_and_reserve_are_honoured_per_device) {
  const auto t = machine("2x4090");
  const shaped_model m(plan_test::llama_3_8b(), chat);
  const request r{{{device_id(0), 14 * GiB}, {device_id(1), 14 * GiB}, {"cpu", 50 * GiB}},
                  {{device_id(0), 5 * GiB}, {device_id(1), GiB}},
                  chat};
  each_strategy(m, t, r, [](const plan& p) {
    BOOST_TEST(p.use_of(device_id(0))->used() <= 9 * GiB);
    BOOST_TEST(p.use_of(device_id(0))->reserve == 5 * GiB);
    BOOST_TEST(p.use_of(device_id(1))->used() <= 13 * GiB);
    BOOST_TEST(on_gpus_only(p));
  });
  // The memory objective leaves as much as possible on the fullest card.
  auto w = chat;
  w.objective = objective::memory;
  const auto p = planned<Auto>(m, t, {r.limits, {}, w});
  const auto least = std::min(p.use_of(device_id(0))->free(), p.use_of(device_id(1))->free());
  each_strategy(m, t, {r.limits, {}, chat}, [&](const plan& other) {
    if (other.use_of(device_id(0))->used() == 0 || other.use_of(device_id(1))->used() == 0) return;
    BOOST_TEST(std::min(other.use_of(device_id(0))->free(), other.use_of(device_id(1))->free()) <= least);
  });
}

BOOST_AUTO_TEST_CASE(ties_are_charged_once_together_and_twice_apart) {
  const shaped_model m(plan_test::llama_32_1b(), chat);
  BOOST_REQUIRE(m.chain.view().ties.size() == 2u);
  const bytes tied = m.chain.view().ties[0].size, total = total_of(m);
  BOOST_TEST(tied == 128256u * 2048 * 2);
  const auto t = machine("2x4090");
  const auto weights = [](const plan& p) {
    bytes sum = 0;
    for (const auto& u : p.uses) sum += u.weights;
    return sum;
  };
  BOOST_TEST(weights(sound(place_fn{Single{0}}(m.chain, t, request{{}, {}, chat}))) == total);
  each_strategy(m, t, {{}, {}, chat}, [&](const plan& p) {
    const bool together = p.placements.front().home == p.placements.back().home;
    const bool head_is_last = p.atoms.back().name == "lm_head";
    if (head_is_last) BOOST_TEST(weights(p) == total + (together ? 0 : tied));
  });
}

BOOST_AUTO_TEST_CASE(every_tensor_buffers_included_has_a_device) {
  const shaped_model m(plan_test::llama_3_8b(), chat);
  const auto p = planned<Balanced>(m, machine("2x4090"), {{}, {}, chat});
  std::size_t seen = 0;
  for (const auto list : {m.loaded.tree().parameters(), m.loaded.tree().buffers()})
    for (const auto& tensor : list) {
      ++seen;
      BOOST_TEST(!p.device_of(tensor.name).empty(), tensor.name);
    }
  BOOST_TEST(!m.loaded.tree().buffers().empty());
  BOOST_TEST(seen > 0u);
}

BOOST_AUTO_TEST_CASE(copies_behind_computes_cost_less_than_both) {
  const auto t = machine("1x4090");
  const shaped_model m(plan_test::llama_3_8b(), chat);
  std::vector<std::string> names;
  for (int i = 3; i < 32; i += 4) names.push_back("model.layers." + std::to_string(i));
  std::vector<map_entry> map{{"", 0}};
  for (const auto& n : names) map.push_back({n, "cpu"});
  const auto p = planned(m, t, {{{device_id(0), 14 * GiB}, {"cpu", 50 * GiB}}, {}, chat}, place_fn{Manual{map}});
  BOOST_TEST(p.streams());
  const planning_problem problem(p, std::pmr::get_default_resource());
  const auto v = problem.view();
  for (const auto ph : all_phases) {
    double copies = 0, computes = 0;
    for (std::size_t i = 0; i < v.atoms.size(); ++i) {
      const auto& at = problem.placements()[i];
      computes += atom_seconds(v, i, at.runs(ph), ph);
      if (at.streamed(ph)) copies += weight_copy_seconds(v, i, at.home, at.runs(ph));
    }
    const double time = ph == phase::decode ? p.times.decode : p.times.prefill;
    BOOST_TEST(time >= std::max(copies, computes) * (1 - 1e-9));
    BOOST_TEST(time < (copies + computes) * 0.95);
  }
}

BOOST_AUTO_TEST_CASE(the_cpu_computes_its_layers_when_that_is_faster) {
  const shaped_model m(plan_test::llama_3_8b(), chat);
  const request r{{{device_id(0), 12 * GiB}, {"cpu", 50 * GiB}}, {}, chat};
  // Memory of the CPU serves five times what the link carries.
  const auto p = planned<Auto>(m, slow_gpu(800e9, 60e9, 12e9), r);
  std::size_t computed = 0, streamed = 0;
  for (const auto& at : p.placements) {
    computed += p.devices[at.execution].kind == device_kind::cpu ? 1 : 0;
    streamed += at.streamed(phase::decode) ? 1 : 0;
  }
  BOOST_TEST(computed > 0u);
  BOOST_TEST(computed > streamed);
  // And streams them where the link is the faster of the two.
  const auto other = planned<Auto>(m, slow_gpu(800e9, 8e9, 50e9), r);
  BOOST_TEST(other.streams());
}

BOOST_AUTO_TEST_CASE(the_largest_context_and_batch_that_fit_are_found_by_bisection) {
  const auto t = machine("1x4090");
  const std::vector<device_bytes> limits{{device_id(0), 20 * GiB}};
  const auto largest = [&](std::uint64_t low, std::uint64_t high, const auto& work) {
    const auto fits = [&](std::uint64_t n) {
      const auto w = work(n);
      const shaped_model m(plan_test::llama_3_8b(), w);
      const auto p = Place<Auto>(m.chain, t, request{limits, {}, w});
      if (!p) BOOST_TEST((p.error().code == errc::does_not_fit));
      if (!p) BOOST_TEST(p.error().needed > p.error().available);
      return p.has_value();
    };
    BOOST_REQUIRE(fits(low));
    BOOST_REQUIRE(!fits(high));
    while (high - low > 1) {
      const auto middle = low + (high - low) / 2;
      (fits(middle) ? low : high) = middle;
    }
    return low;
  };
  const auto context = largest(1024, 131072, [](std::uint64_t n) { return with_context(n); });
  const shaped_model m(plan_test::llama_3_8b(), with_context(1024));
  bytes workspace = 0;
  for (const auto& a : m.chain.atoms()) workspace = std::max(workspace, a.workspace);
  const auto room = (20 * GiB - total_of(m) - workspace) / 131072;
  BOOST_TEST(context <= room);
  BOOST_TEST(context + 16 >= room);  // 2 MiB of rounding are 16 tokens
  const auto batch = largest(1, 64, [](std::uint64_t n) {
    auto w = chat;
    w.batch = n;
    return w;
  });
  BOOST_TEST(batch * 4096 <= context);
  BOOST_TEST(batch >= 8u);
}

BOOST_AUTO_TEST_CASE(uneven_cards_and_uneven_layers_are_loaded_evenly) {
  const auto t = machine("1x5090+2x3090");
  for (const auto& config : {plan_test::llama_3_8b(), plan_test::gemma_2_2b()}) {
    const shaped_model m(config, chat);
    const auto p = planned<Balanced>(m, t, {{}, {}, chat});
    bytes biggest = 0, all = 0, limits = 0;
    for (std::size_t i = 0; i < p.atoms.size(); ++i) {
      biggest = std::max(biggest, p.loads[i] + p.atoms[i].state + p.atoms[i].workspace);
      all += p.loads[i] + p.atoms[i].state;
    }
    double most = 0, smallest = 1e300;
    for (const auto& u : p.uses)
      if (p.devices[u.device].kind == device_kind::gpu) {
        limits += u.available();
        smallest = std::min(smallest, static_cast<double>(u.available()));
        most = std::max(most, static_cast<double>(u.used()) / static_cast<double>(u.available()));
      }
    BOOST_TEST(on_gpus_only(p));
    const double even = static_cast<double>(all) / static_cast<double>(limits);
    BOOST_TEST(most <= even + 1.05 * static_cast<double>(biggest) / smallest);
  }
}

BOOST_AUTO_TEST_CASE(int8_that_fits_beats_bf16_that_streams) {
  const auto t = machine("1x4090");
  auto small = plan_test::llama_3_8b();
  small.more = R"(,"quantization_config":{"quant_method":"bitsandbytes","load_in_8bit":true})";
  const shaped_model wide(plan_test::llama_3_8b(), chat), narrow(small, chat);
  BOOST_TEST(total_of(narrow) < total_of(wide) * 6 / 10);
  const request r{{{device_id(0), 10 * GiB}, {"cpu", 50 * GiB}}, {}, chat};
  const auto streams = planned<Auto>(wide, t, r), fits = planned<Auto>(narrow, t, r);
  BOOST_TEST(!on_gpus_only(streams));
  BOOST_TEST(on_gpus_only(fits));
  BOOST_TEST(fits.times.decode * 3 < streams.times.decode);
  BOOST_TEST(fits.times.value < streams.times.value);
}

BOOST_AUTO_TEST_CASE(auto_spills_only_if_that_is_faster_or_nothing_else_fits) {
  for (const auto* name : {"1x4090", "2x4090", "2x3090-nvlink", "4x3090", "1x5090+2x3090", "8xa100-80g"})
    for (const auto& config : {plan_test::llama_3_8b(), plan_test::llama_32_1b(), plan_test::gemma_2_2b()}) {
      const shaped_model m(config, chat);
      const auto t = machine(name);
      const auto p = planned<Auto>(m, t, {{}, {}, chat});
      BOOST_TEST_CONTEXT(name << " " << config.type << " " << config.hidden) {
        BOOST_TEST(!p.streams());
        const auto filled = planned<Sequential>(m, t, {{}, {}, chat});
        if (!on_gpus_only(p)) BOOST_TEST(p.times.value < filled.times.value);
      }
    }
}

BOOST_AUTO_TEST_CASE(experts_that_do_not_fit_still_leave_every_gpu_full) {
  // Mixtral in bf16 is 87 GiB: two cards of 24 GiB hold half of it, the rest belongs to the CPU.
  const shaped_model m(plan_test::mixtral_8x7b(), chat);
  auto t = machine("2x3090");
  for (auto& d : t.devices)
    if (d.kind == device_kind::cpu) d.memory = d.free = 128 * GiB;
  const auto p = planned<Auto>(m, t, {{}, {}, chat});
  const auto block = p.loads[1] + p.atoms[1].state;
  for (const auto id : {0, 1}) BOOST_TEST(p.use_of(device_id(id))->free() < block);
  const auto filled = planned<Sequential>(m, t, {{}, {}, chat});
  BOOST_TEST(p.times.value < filled.times.value);
}

BOOST_AUTO_TEST_CASE(a_model_that_fits_nowhere_is_refused_with_the_bytes_short) {
  const shaped_model m(plan_test::llama_3_70b(), chat);
  const auto t = machine("2x4090");
  const request r{{{device_id(0), 20 * GiB}, {device_id(1), 20 * GiB}}, {}, chat};
  const auto p = Place<Auto>(m.chain, t, r);
  BOOST_REQUIRE(!p.has_value());
  BOOST_TEST((p.error().code == errc::does_not_fit));
  // With the budget that the error names for that device it fits.
  const std::string why(p.error().detail.view());
  BOOST_TEST(p.error().available == 20 * GiB);
  auto larger = r;
  auto roomy = t;
  for (auto& d : roomy.devices)
    if (d.id.view() == p.error().subject.view()) d.memory = d.free = p.error().needed;
  for (auto& l : larger.limits)
    if (l.id.view() == p.error().subject.view()) l.amount = p.error().needed;
  BOOST_TEST(on_gpus_only(planned<Auto>(m, roomy, larger)));
  BOOST_TEST(why.find("cpu=SIZE") != std::string::npos, why);
}

BOOST_AUTO_TEST_SUITE_END()
