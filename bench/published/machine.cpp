// SPDX-License-Identifier: Apache-2.0
// Chains with their costs taken apart, machines, and the one function that predicts.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "common.hpp"

import berth.sim;

namespace published {
namespace {

using berth::phase;

[[noreturn]] void stop(std::string_view what, const berth::error& e) {
  const std::string text = std::string(what).append(": ").append(e.subject.view()).append(": ").append(e.detail.view());
  std::fprintf(stderr, "%s\n", text.c_str());
  std::exit(1);
}

/// Bits per weight of a matrix under Q4_K_M: more for the head, and in half of the layers for values and down
/// projections (llama.cpp's `use_more_bits`); values of a 70B model get Q5_K otherwise. Norms stay in f32.
double bits_of_q4_k_m(std::string_view name, const std::vector<std::uint64_t>& shape, std::uint64_t layers) {
  constexpr double q4 = 4.5, q5 = 5.5, q6 = 6.5625;
  if (shape.size() < 2) return 32;
  if (name.starts_with("lm_head")) return q6;
  const bool values = name.find("v_proj") != std::string_view::npos;
  if (!values && name.find("down_proj") == std::string_view::npos) return q4;
  const auto at = name.find("layers.");
  const auto i = std::strtoull(name.data() + at + 7, nullptr, 10), eighth = static_cast<unsigned long long>(layers / 8);
  if (i < eighth || i >= 7 * eighth || (i - eighth) % 3 == 2) return q6;
  return values && layers == 80 ? q5 : q4;
}

berth::model costed(const berth::loaded_model& m, const berth::tensor_sizes& sizes, const berth::workload& w) {
  auto chain = berth::derive_model(m.tree(), sizes);
  const auto& a = m.architecture;
  auto done = berth::cost_model(chain, m.tree(), sizes, {a.hidden, a.vocabulary, a.layers}, w);
  if (!done) stop(m.tree().id, done.error());
  return chain;
}

}  // namespace

costed_chain chain_of(std::string_view name, std::string_view dtype, format stored, const berth::workload& w) {
  auto m = berth::load_model_text(config_of(name, dtype), "config.json");
  if (!m) stop(name, m.error());
  auto sizes = berth::native_sizes(m->tree());
  costed_chain out;
  out.hidden = static_cast<double>(m->architecture.hidden);
  out.layers = m->architecture.layers.size();
  const auto parameters = m->tree().parameters();
  if (stored == format::q4_k_m)
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const auto& t = parameters[i];
      const std::vector<std::uint64_t> shape(t.shape.begin(), t.shape.end());
      sizes.parameters[i] =
          static_cast<berth::bytes>(bits_of_q4_k_m(t.name, shape, out.layers) / 8 * static_cast<double>(t.elements));
    }
  auto bare = w;
  bare.prompt = bare.generate = 0;
  const auto empty = costed(*m, sizes, bare), full = costed(*m, sizes, w);
  for (std::size_t i = 0; i < full.atoms().size(); ++i) {
    const auto &a = full.atoms()[i], &b = empty.atoms()[i];
    const auto &prompt = a.in(phase::prefill), &step = a.in(phase::decode), &still = b.in(phase::decode);
    work o;
    o.name = a.name;
    o.kind = a.kind;
    o.compute = a.compute;
    o.weights = a.weights;
    const bool block = a.kind == berth::atom_kind::block;
    const double per_token = still.flops / static_cast<double>(w.batch);
    o.products = block ? std::min(prompt.flops, per_token * static_cast<double>(w.prompt * w.batch)) : prompt.flops;
    o.attention = prompt.flops - o.products;
    o.read = still.touched;
    if (stored != format::native && block) o.unpacked = static_cast<double>(a.weights) + per_token;  // 2 B an element
    o.state = step.touched - still.touched;
    o.step_flops = step.flops;
    o.out = {prompt.out, step.out};
    for (const auto& u : full.view().ties) o.tied = o.tied || (u.atom == i && a.kind == berth::atom_kind::head);
    out.atoms.push_back(std::move(o));
  }
  return out;
}

berth::topology machine_of(std::size_t gpus, const rates& r) {
  constexpr berth::bytes room = berth::bytes{1} << 44;
  berth::topology t;
  t.name = "published";
  const auto add = [&](berth::device_id id, berth::device_kind kind) {
    berth::device d;
    d.id = id;
    d.kind = kind;
    d.memory = d.free = room;
    if (kind == berth::device_kind::gpu) {
      d.peak_flops = {r.flops, r.flops, 0, 0};
      d.peak_bandwidth = r.bandwidth;
      d.overhead = r.overhead;
    } else if (kind == berth::device_kind::cpu) {
      d.peak_flops = {1e12, 1e12, 0, 0};
      d.peak_bandwidth = 5e10;
    }
    return t.add(d);
  };
  for (std::size_t i = 0; i < gpus; ++i) add(berth::device_id(static_cast<int>(i)), berth::device_kind::gpu);
  const auto cpu = add("cpu", berth::device_kind::cpu), disk = add("disk", berth::device_kind::disk);
  const auto link = [&](berth::device_index from, berth::device_index to, double latency, double rate) {
    berth::route route;
    route.from = from;
    route.to = to;
    route.latency = latency;
    route.bandwidth = rate;
    const auto own =
        t.add(berth::segment{berth::text<48>("link ").append(std::uint64_t{from}).append(" ").append(std::uint64_t{to}),
                             berth::segment_kind::pcie, rate});
    t.connect(route, std::array{own});
  };
  for (berth::device_index a = 0; a < gpus; ++a) {
    for (berth::device_index b = 0; b < gpus; ++b)
      if (a != b) link(a, b, r.hop, r.hop_bandwidth);
    link(cpu, a, 0, r.host_to_device);
    link(a, cpu, 0, r.host_to_device);
  }
  link(disk, cpu, 0, r.disk);
  t.sort_routes();
  return t;
}

namespace {

/// What a run of the plan's programs takes on the simulated machine. `pipelined`: decode rounds are independent.
berth::report simulated(const berth::plan& p, bool pipelined) {
  constexpr std::uint64_t rounds = 24;
  const auto programs = berth::compile_all(p, {berth::memory_kind::pinned, pipelined});
  if (!programs) stop("compile", programs.error());
  berth::sim::machine_options room;
  room.bounds = {128, 4096, 65'536, {128, 16}};
  berth::sim::machine machine(p.topology(), room);
  berth::trace trace(200'000);
  berth::traced traced(machine, trace);
  berth::execution run(traced, *programs, {.rounds = rounds});
  if (const auto ok = run.run(); !ok) stop("simulate", ok.error());
  return berth::make_report(p, trace, berth::marks_of(*programs, trace, pipelined));
}

}  // namespace

berth::plan_times predict(const berth::model& m, const berth::topology& machine, const places& at,
                          const berth::workload& w, std::uint32_t staging_slots, source times) {
  std::vector<berth::map_entry> map;
  for (std::size_t i = 0; i < at.size(); ++i) map.push_back({m.atoms()[i].name, at[i]});
  berth::place_options options;
  options.workload = w;
  options.use_disk = true;
  options.staging_slots = staging_slots;
  options.certify = false;
  auto plan = berth::place_fn{berth::Manual{map}}(m, machine, options);
  if (!plan) stop("plan", plan.error());
  if (times == source::planner) return plan->times;
  const auto alone = simulated(*plan, false);
  berth::plan_times t;
  t.prefill = berth::seconds_from(alone.first_token);
  t.decode = alone.period();
  t.period = w.objective == berth::objective::throughput ? simulated(*plan, true).period() : t.decode;
  return t;
}

}  // namespace published
