// SPDX-License-Identifier: Apache-2.0
// How long planning takes: interval optima, Auto and its bounds, prices of plans, schedules and graphs.
//   berth_bench_planner [PART]   (PART: only sections whose title contains it)
// Times are the least of several runs, so that other work on the machine disturbs them little; ratios are taken within
// one run of the program.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory_resource>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sections.hpp"

import berth;

namespace {

using berth::bytes;

/// Seconds of one call: the least of at least three, and of half a second of them where calls are short.
template <class F>
double seconds(F&& f) {
  using clock = std::chrono::steady_clock;
  double least = berth::forever, sum = 0;
  for (int calls = 0; calls < 3 || (sum < 0.5 && calls < 2000); ++calls) {
    const auto begin = clock::now();
    static_cast<void>(f());
    const double t = std::chrono::duration<double>(clock::now() - begin).count();
    least = std::min(least, t);
    sum += t;
  }
  return least;
}

/// The same sequence on every machine (splitmix64).
class sequence {
 public:
  explicit sequence(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  /// In [low, high).
  double within(double low, double high) { return low + (high - low) * (double(next() >> 11) * 0x1p-53); }

 private:
  std::uint64_t state_;
};

/// Shape of a decoder for a workload of one sequence, 512 prompt and 128 generated tokens.
struct decoder {
  std::size_t atoms = 0;
  double block = 0;     ///< bytes of a block's weights, 16 bits per parameter
  double table = 0;     ///< bytes of the embedding and of the head
  double hidden = 0;    ///< elements
  double kv_token = 0;  ///< bytes of KV cache per token and block
  double spread = 0;    ///< blocks differ by up to this share
  double active = 1;    ///< share of a block's weights that a token touches
  std::uint64_t seed = 1;
};

constexpr double prompt = 512, generated = 128;

berth::atom atom_of(std::string_view name, berth::atom_kind kind, double weights, double read, const decoder& d) {
  berth::atom a;
  a.name = name;
  a.kind = kind;
  a.weights = static_cast<bytes>(weights);
  a.workspace = static_cast<bytes>(2 * prompt * 6 * d.hidden);
  const double state = kind == berth::atom_kind::block ? d.kv_token * (prompt + generated) : 0;
  a.state = static_cast<bytes>(state);
  a.work[0] = {read * prompt, weights + d.kv_token * prompt, 2 * d.hidden * prompt};
  a.work[1] = {read, read + state, 2 * d.hidden};
  return a;
}

berth::model chain_of(const decoder& d) {
  berth::model m;
  sequence random(d.seed);
  m.add(atom_of("embed", berth::atom_kind::embedding, d.table, 2 * d.hidden, d));
  for (std::size_t i = 0; i + 3 < d.atoms; ++i) {
    const double weights = d.block * random.within(1 - d.spread, 1 + d.spread);
    m.add(atom_of("layers." + std::to_string(i), berth::atom_kind::block, weights, weights * d.active, d));
  }
  m.add(atom_of("norm", berth::atom_kind::norm, 2 * d.hidden, 2 * d.hidden, d));
  m.add(atom_of("head", berth::atom_kind::head, d.table, d.table, d));
  return m;
}

/// Llama 3 8B, 70B and one of 123 blocks, by their dimensions.
decoder llama(std::size_t atoms, double spread = 0) {
  if (atoms <= 40) return {atoms, 436e6, 1.05e9, 4096, 4096, spread};
  if (atoms <= 90) return {atoms, 1.71e9, 2.1e9, 8192, 4096, spread};
  return {atoms, 6.4e9, 4.2e9, 16384, 4096, spread};
}

/// GPUs in `kinds` kinds with links between all, memories that add up to `room` bytes.
berth::topology machine_of(std::size_t devices, std::size_t kinds, double room) {
  berth::topology t;
  t.name = "generated";
  sequence random(7);
  std::vector<std::array<double, 4>> kind;
  for (std::size_t k = 0; k < kinds; ++k)
    kind.push_back(
        {random.within(0.6, 1.4), random.within(5e13, 3e14), random.within(4e11, 3e12), random.within(2e-6, 8e-6)});
  double shares = 0;
  for (std::size_t d = 0; d < devices; ++d) shares += kind[d % kinds][0];
  for (std::size_t d = 0; d < devices; ++d) {
    const auto& [share, flops, bandwidth, overhead] = kind[d % kinds];
    berth::device out;
    out.id = berth::device_id(static_cast<int>(d));
    out.kind = berth::device_kind::gpu;
    out.api = berth::accelerator_api::cuda;
    out.memory = out.free = static_cast<bytes>(room * share / shares);
    out.peak_flops.fill(flops);
    out.peak_bandwidth = bandwidth;
    out.overhead = overhead;
    t.add(out);
  }
  for (std::size_t a = 0; a < kinds * kinds; ++a)
    kind.push_back({random.within(1e-4, 4e-4), random.within(1e10, 6e10)});
  for (std::uint32_t from = 0; from < devices; ++from)
    for (std::uint32_t to = 0; to < devices; ++to) {
      if (from == to) continue;
      const auto& cost = kind[kinds + from % kinds * kinds + to % kinds];
      berth::route r;
      r.from = from;
      r.to = to;
      r.latency = r.setup = cost[0];
      r.bandwidth = cost[1];
      const auto own = t.add(
          berth::segment{berth::text<48>("link ").append(std::uint64_t{from}).append(" ").append(std::uint64_t{to}),
                         berth::segment_kind::fabric, cost[1]});
      t.connect(r, std::array{own});
    }
  t.sort_routes();
  return t;
}

double bytes_of(const berth::model& m) {
  double sum = 0;
  for (const auto& a : m.atoms()) sum += double(a.weights + a.state);
  return sum;
}

berth::place_options options_for(berth::objective o, std::uint32_t slots) {
  berth::place_options options;
  options.workload = {static_cast<std::uint64_t>(prompt + generated), 1, static_cast<std::uint64_t>(prompt),
                      static_cast<std::uint64_t>(generated), o};
  options.staging_slots = slots;
  return options;
}

/// A problem with all it refers to. Not movable: the problem points into the model and the topology.
struct scene {
  berth::model model;
  berth::topology machine;
  berth::place_options options;
  std::optional<berth::planning_problem> owned;

  scene(berth::model m, berth::topology t, berth::place_options o)
      : model(std::move(m)), machine(std::move(t)), options(o) {
    auto made = berth::planning_problem::make(model, machine, options, std::pmr::get_default_resource());
    if (made) owned.emplace(std::move(*made));
  }
  scene(const scene&) = delete;
  scene& operator=(const scene&) = delete;
  berth::problem_view view() const { return owned->view(); }
};

constexpr std::array both{berth::objective::latency, berth::objective::throughput};
constexpr std::string_view word(berth::objective o) {
  return o == berth::objective::latency ? "latency" : "throughput";
}

struct interval_times {
  double value = 0, ties = 0;
  bool solved = false;
};

template <class Objective>
double value_alone(const berth::problem_view& p, std::vector<std::uint64_t>& scratch) {
  return seconds([&] {
    berth::interval_planner<Objective> planner(p, scratch);
    return planner.solve();
  });
}

/// The optimum alone, and the plan that all tie rules choose, in memory that is there already.
interval_times time_intervals(const scene& s) {
  const auto p = s.view();
  const berth::place_fn<berth::Intervals> place;
  std::vector<std::uint64_t> scratch(place.strategy.scratch_cells(p));
  std::vector<berth::placement> out(p.loads.size());
  interval_times t;
  if (!place.into(p, out, scratch)) return t;
  t.solved = true;
  t.value = p.workload.objective == berth::objective::latency ? value_alone<berth::additive_objective>(p, scratch)
                                                              : value_alone<berth::bottleneck_objective>(p, scratch);
  t.ties = seconds([&] { return place.into(p, out, scratch); });
  return t;
}

struct interval_case {
  std::size_t atoms, devices, kinds;
  double least = 0;  ///< target for the value in ms, 0: none
  double ties = 0;
};

/// `before`: value of the row above, 0 where rows are not to be compared.
void interval_row(const decoder& d, const interval_case& c, berth::objective o, double& before) {
  auto m = chain_of(d);
  const double room = 1.5 * bytes_of(m);
  const scene s(std::move(m), machine_of(c.devices, c.kinds, room), options_for(o, 0));
  const auto t = time_intervals(s);
  std::printf("%6zu %8zu %6zu  %-10s", c.atoms, c.devices, c.kinds, word(o).data());
  if (!t.solved) {
    std::printf("  no plan\n");
    return;
  }
  std::printf(" %10.3f %10.3f %10.1fx", 1e3 * t.value, 1e3 * t.ties, t.ties / t.value);
  if (before > 0) std::printf(" %10.2fx", t.value / before);
  before = c.least > 0 ? 0 : t.value;
  if (c.least > 0) std::printf("   target %g ms", c.least);
  if (c.ties > 0) std::printf(", with ties %g ms", c.ties);
  std::printf("\n");
}

void interval_table(const char* title, const std::vector<interval_case>& cases, double active = 1) {
  std::printf("%s\n%6s %8s %6s  %-10s %10s %10s %11s %11s\n", title, "atoms", "devices", "kinds", "objective",
              "value ms", "ties ms", "ties/value", "/ row above");
  for (const auto o : both) {
    double before = 0;
    for (const auto& c : cases) {
      auto d = llama(c.atoms, 0.2);
      d.active = active;
      interval_row(d, c, o, before);
    }
  }
  std::printf("\n");
}

void intervals() {
  interval_table("interval optimum: targets", {{126, 8, 8, 10, 30}, {32, 4, 4, 1, 0}});
  interval_table("interval optimum: devices", {{126, 4, 4}, {126, 6, 6}, {126, 8, 8}, {126, 10, 10}});
  interval_table("interval optimum: two kinds of 8", {{126, 16, 2}});
  interval_table("interval optimum: atoms",
                 {{32, 4, 4}, {64, 4, 4}, {128, 4, 4}, {256, 4, 4}, {512, 4, 4}, {1024, 4, 4}});
  interval_table("interval optimum: mixture of experts, one atom per expert", {{15000, 4, 2}}, 0.03);
}

/// All of Place<Auto>, certificate included; without it; and the bound alone.
void auto_row(const char* what, const scene& s) {
  using berth::Auto;
  const auto p = berth::Place<Auto>(s.model, s.machine, s.options);
  std::printf("%-44s %-10s", what, word(s.options.workload.objective).data());
  if (!p) {
    std::printf("  %s\n", std::string(p.error().detail.view()).c_str());
    return;
  }
  auto plain = s.options;
  plain.certify = false;
  const double all = seconds([&] { return berth::Place<Auto>(s.model, s.machine, s.options); });
  const double alone = seconds([&] { return berth::Place<Auto>(s.model, s.machine, plain); });
  const double bound = seconds([&] { return berth::bound_of(s.view(), p->times.value); });
  std::printf(" %10.1f %10.1f %10.1f %8.2f %%  %s\n", 1e3 * all, 1e3 * alone, 1e3 * bound, 100 * p->certificate.gap(),
              std::string(p->certificate.bound_name.view()).c_str());
}

berth::topology capped(std::string_view name, bytes gpu, bytes cpu) {
  auto t = *berth::preset(name);
  for (auto& d : t.devices) {
    if (d.kind == berth::device_kind::gpu && gpu > 0) d.free = std::min(d.free, gpu);
    if (d.kind == berth::device_kind::cpu && cpu > 0) d.free = std::min(d.free, cpu);
  }
  return t;
}

void whole_auto() {
  std::printf("auto\n%-44s %-10s %10s %10s %10s %10s\n", "", "objective", "all ms", "plan ms", "bound ms", "gap");
  for (const auto o : both) {
    auto_row("35 atoms, 2 GPUs of 6 GiB + CPU, streaming",
             scene(chain_of(llama(35)), capped("2x4090", 6 * berth::GiB, 0), options_for(o, 2)));
    auto_row("83 atoms, 8 equal GPUs + CPU", scene(chain_of(llama(83)), capped("8x4090", 0, 0), options_for(o, 2)));
    auto_row("83 atoms, 8 equal GPUs of 12 GiB + CPU",
             scene(chain_of(llama(83)), capped("8x4090", 12 * berth::GiB, 0), options_for(o, 2)));
    for (const double spread : {0.0, 0.2}) {
      auto m = chain_of(llama(126, spread));
      const double room = 1.5 * bytes_of(m);
      auto_row(spread > 0 ? "126 atoms that differ, 8 different GPUs" : "126 atoms, 8 different GPUs",
               scene(std::move(m), machine_of(8, 8, room), options_for(o, 0)));
    }
  }
  std::printf("\n");
}

/// Every `every`-th atom lives on the CPU and is streamed, the others are resident; in equal parts on `gpus` GPUs.
std::vector<berth::placement> striped(const berth::problem_view& p, std::uint32_t gpus, std::size_t every) {
  const auto cpu = berth::find_seat(p, berth::device_kind::cpu);
  std::vector<berth::placement> out;
  for (std::size_t i = 0; i < p.loads.size(); ++i) {
    const auto s = static_cast<berth::seat_index>(i * gpus / p.loads.size());
    out.push_back({every > 0 && i % every == 0 ? cpu : s, s});
  }
  return out;
}

void evaluations() {
  std::printf("plans priced, 80 atoms (target 20000/s)\n%-44s %12s %12s\n", "", "latency/s", "throughput/s");
  struct shape {
    const char* name;
    std::uint32_t gpus;
    std::size_t every;
  };
  for (const auto& c :
       {shape{"resident on 2 GPUs", 2, 0}, shape{"every 2nd atom streamed to 1 GPU", 1, 2},
        shape{"every atom streamed to 1 GPU", 1, 1}, shape{"every 2nd atom streamed to 2 GPUs", 2, 2}}) {
    std::printf("%-44s", c.name);
    for (const auto o : both) {
      const scene s(chain_of(llama(80)), capped("2x4090", 0, 0), options_for(o, 2));
      const auto p = s.view();
      const auto out = striped(p, c.gpus, c.every);
      std::vector<std::uint64_t> scratch(berth::evaluator::cells(p));
      const berth::evaluator e(p, scratch);
      double sum = 0;
      constexpr int times = 100;
      const double t = seconds([&] {
        for (int k = 0; k < times; ++k) sum += e.value(out);
      });
      std::printf(" %12.0f", sum < berth::forever ? times / t : 0);
    }
    std::printf("\n");
  }
  std::printf("\n");
}

void balance() {
  std::printf("balance, 80 atoms, with all tie rules\n%-44s %12s\n", "", "ms");
  for (const std::size_t kinds : {1u, 2u, 8u}) {
    auto m = chain_of(llama(80, 0.2));
    const double room = 1.5 * bytes_of(m);
    const scene s(std::move(m), machine_of(8, kinds, room), options_for(berth::objective::memory, 2));
    const auto p = s.view();
    const berth::place_fn<berth::Balanced> place;
    std::vector<std::uint64_t> scratch(place.strategy.scratch_cells(p));
    std::vector<berth::placement> out(p.loads.size());
    const double t = seconds([&] { return place.into(p, out, scratch); });
    std::printf("%-44s %12.3f\n", ("8 GPUs of " + std::to_string(kinds) + " sizes").c_str(), 1e3 * t);
  }
  std::printf("\n");
}

/// A device that must stream two fifths of 80 blocks.
berth::residency_problem residency_of(std::vector<berth::residency_atom>& atoms, double spread) {
  sequence random(11);
  bytes sum = 0, largest = 0;
  for (auto& a : atoms) {
    a.weights = static_cast<bytes>(436e6 * random.within(1 - spread, 1 + spread));
    a.state = 2'600'000;
    a.workspace = 25'000'000;
    a.compute = static_cast<berth::picoseconds>(double(a.weights) / 1008e9 * 1e12);
    a.copy = static_cast<berth::picoseconds>(double(a.weights) / 25e9 * 1e12);
    sum += a.weights;
    largest = std::max(largest, a.weights);
  }
  return {atoms, sum * 3 / 5 + 2 * largest + 80 * 2'600'000 + 25'000'000, 2};
}

void schedules() {
  std::printf("schedules of streaming, 80 atoms, 2 slots\n%-44s %12s\n", "", "us");
  sequence random(5);
  constexpr std::uint32_t m = 80, slots = 2;
  std::vector<berth::ring_item> items;
  for (std::uint32_t j = 0; j < m; ++j) {
    const auto t = [&](double most) { return static_cast<berth::picoseconds>(random.within(most / 2, most) * 1e12); };
    items.push_back({t(20e-3), t(15e-3), t(10e-3)});
  }
  std::vector<berth::picoseconds> ended(berth::ring_cells(m, slots));
  berth::picoseconds period = 0;
  const double ring = seconds([&] { period = berth::ring_period(items, slots, ended); });
  std::printf("%-44s %12.2f\n", "ring_period", 1e6 * ring);
  std::vector<berth::event_arc> arcs;
  for (std::uint32_t j = 0; j < m; ++j) {
    const std::uint32_t next = (j + 1) % m, wraps = j + 1 == m ? 1 : 0, freed = (j + slots) % m;
    const auto s = [](berth::picoseconds t) { return double(t) * 1e-12; };
    arcs.push_back({2 * j, 2 * next, s(items[next].copy), wraps});
    arcs.push_back({2 * j + 1, 2 * next + 1, s(items[j].resident_after + items[next].compute), wraps});
    arcs.push_back({2 * j, 2 * j + 1, s(items[j].compute), 0});
    arcs.push_back({2 * j + 1, 2 * freed, s(items[freed].copy), (j + slots) / m});
  }
  std::vector<double> values(berth::cycle_values(2 * m));
  std::vector<std::uint32_t> marks(berth::cycle_marks(2 * m, arcs.size()));
  double ratio = 0;
  const double cycle = seconds([&] { ratio = berth::max_cycle_ratio(arcs, 2 * m, values, marks); });
  std::printf("%-44s %12.2f   %s\n", "max_cycle_ratio of the same round", 1e6 * cycle,
              std::abs(ratio / (double(period) * 1e-12) - 1) < 1e-9 ? "the same period" : "ANOTHER PERIOD");
  for (const double spread : {0.0, 0.4}) {
    std::vector<berth::residency_atom> atoms(m);
    const auto p = residency_of(atoms, spread);
    std::vector<std::uint8_t> streamed(m);
    std::vector<std::uint64_t> scratch(berth::residency_search_cells(m));
    bool proven = false;
    const double t = seconds([&] {
      const auto r = berth::choose_residents(p, streamed, scratch);
      proven = r && r->proven;
    });
    std::printf("%-44s %12.2f   %s\n",
                spread > 0 ? "choose_residents, sizes within 40 %" : "choose_residents, equal sizes", 1e6 * t,
                proven ? "proven" : "not proven");
  }
  std::printf("\n");
}

/// Blocks of attention with parallel heads and an MLP with a gate, `layers` of them: 12 nodes each.
berth::dag_problem graph_of(std::uint32_t layers) {
  berth::dag_problem p;
  sequence random(3);
  const auto add = [&](double time, std::initializer_list<std::uint32_t> inputs) {
    berth::dag_node n;
    n.id = static_cast<std::int64_t>(p.nodes.size());
    n.accelerator_time = time * random.within(0.8, 1.2);
    n.cpu_time = 20 * n.accelerator_time;
    n.size = static_cast<bytes>(1e6 * time);
    n.output_cost = random.within(0.5, 2);
    const auto at = static_cast<std::uint32_t>(p.nodes.size());
    p.nodes.push_back(n);
    for (const auto i : inputs) p.edges.push_back({i, at});
    return at;
  };
  auto last = add(1, {});
  for (std::uint32_t l = 0; l < layers; ++l) {
    const auto norm = add(1, {last});
    const auto q = add(8, {norm}), k = add(2, {norm}), v = add(2, {norm});
    const auto scores = add(4, {q, k});
    const auto mixed = add(4, {scores, v});
    const auto out = add(8, {mixed, last});
    const auto gate_in = add(1, {out});
    const auto gate = add(14, {gate_in}), up = add(14, {gate_in});
    const auto product = add(1, {gate, up});
    last = add(14, {product, out});
  }
  p.accelerators = 6;
  p.cpus = 1;
  for (const auto& n : p.nodes) p.accelerator_memory += n.size;
  p.accelerator_memory /= 4;
  return p;
}

void graphs() {
  std::printf("split of a graph on 6 accelerators and a CPU\n%-44s %12s %10s\n", "", "ms", "gap");
  for (const std::uint32_t layers : {8u, 16u, 32u}) {
    const auto p = graph_of(layers);
    const auto split = berth::split_dag(p);
    if (!split) continue;
    const double t = seconds([&] { return berth::split_dag(p); });
    std::printf("%-44s %12.1f %8.2f %%   %s\n", (std::to_string(p.nodes.size()) + " nodes").c_str(), 1e3 * t,
                100 * (1 - split->lower_bound / split->loads.maximum), split->proven ? "proven" : "not proven");
  }
  std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  bench::print_heading("berth_bench_planner");
  std::printf("least of several runs, one thread; workload: 1 sequence, prompt 512, 128 generated tokens\n\n");
  bench::run_sections(argc, argv,
                      {{"intervals", intervals},
                       {"auto", whole_auto},
                       {"prices", evaluations},
                       {"balance", balance},
                       {"schedules", schedules},
                       {"graphs", graphs}});
}
