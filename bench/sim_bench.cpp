// SPDX-License-Identifier: Apache-2.0
// How fast the simulator is: events per second by segments, by length of the run and by flows at a time; rounds of a
// streamed decode; plans priced, for comparison.
//   berth_bench_sim [PART]   (PART: only sections whose title contains it)
// Processor time of one thread, the least of several runs, so that other work on the machine disturbs little; ratios
// are taken within one run of the program.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sections.hpp"

import berth;
import berth.exec;
import berth.sim;

namespace {

using berth::picoseconds;
namespace sim = berth::sim;

/// Processor seconds of this thread.
double now() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

/// Seconds of one call: the least of at least five, and of a second of them where calls are short.
template <class F>
double seconds(F&& f) {
  double least = berth::forever, sum = 0;
  for (int calls = 0; calls < 5 || (sum < 1 && calls < 2000); ++calls) {
    const double begin = now();
    f();
    const double t = now() - begin;
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

 private:
  std::uint64_t state_;
};

constexpr double link_rate = 25e9;

/// Devices that stream their weights: every atom is copied into one of two slots, waited for and computed. Devices have
/// links of their own and share uplinks in groups.
struct streamed_decode {
  static constexpr std::uint32_t slots = 2, atoms = 40;

  std::uint32_t devices = 1;
  std::vector<double> capacities;
  std::vector<std::array<berth::segment_index, 2>> routes;  ///< of each device: uplink, link
  std::uint32_t hops = 2;
  std::vector<double> sizes;         ///< bytes per atom
  std::vector<picoseconds> compute;  ///< per atom
  std::optional<sim::simulator> machine;
  std::uint64_t items = 0;

  /// `segments` = 1: four devices on one link. Else three devices and links per uplink.
  explicit streamed_decode(std::uint32_t segments) {
    const std::uint32_t group = 3, uplinks = segments == 1 ? 1 : segments / (group + 1);
    devices = segments == 1 ? 4 : segments - uplinks;
    hops = segments == 1 ? 1 : 2;
    capacities.assign(uplinks, 2 * link_rate);
    if (segments > 1) capacities.resize(segments, link_rate);
    for (std::uint32_t d = 0; d < devices; ++d)
      routes.push_back({std::min(d / group, uplinks - 1), segments == 1 ? 0 : uplinks + d});
    if (segments == 1) routes.assign(devices, {0, 0});
    sequence random(1);
    for (std::uint32_t a = 0; a < atoms * devices; ++a) {
      sizes.push_back(double(50'000'000 + random.next() % 100'000'000));
      compute.push_back(static_cast<picoseconds>(1'000'000'000 + random.next() % 8'000'000'000));
    }
    reset();
  }

  void reset() {
    const std::vector<sim::device_model> models(devices, {berth::TiB, 256, 1, 1});
    sim::simulator_bounds bounds;
    bounds.streams = 2 * devices;
    bounds.events = 2 * slots * devices;
    bounds.items = 6 * (atoms + 1) * devices;
    machine.emplace(models, capacities, bounds, std::pmr::get_default_resource());
    for (std::uint32_t s = 0; s < bounds.streams; ++s) static_cast<void>(machine->add_stream(s / 2));
    for (std::uint32_t e = 0; e < bounds.events; ++e) static_cast<void>(machine->add_event());
    items = 0;
  }

  void submit(std::uint32_t d, std::uint32_t a) {
    const std::uint32_t copies = 2 * d, computes = 2 * d + 1, filled = 2 * slots * d + a % slots,
                        freed = filled + slots;
    sim::item_request copy;
    copy.second = {d, sim::engine_kind::copy_in};
    copy.flow_size = sizes[d * atoms + a];
    copy.route = std::span(routes[d]).first(hops);
    copy.latency = 2'800'000;
    sim::item_request launch;
    launch.first = {d, sim::engine_kind::compute};
    launch.least = compute[d * atoms + a];
    static_cast<void>(machine->wait(copies, freed));
    static_cast<void>(machine->submit(copies, copy));
    static_cast<void>(machine->record(copies, filled));
    static_cast<void>(machine->wait(computes, filled));
    static_cast<void>(machine->submit(computes, launch));
    static_cast<void>(machine->record(computes, freed));
    items += 2;
  }
  void run(std::uint64_t rounds) {
    for (std::uint64_t r = 0; r < rounds; ++r) {
      for (std::uint32_t a = 0; a < atoms; ++a)
        for (std::uint32_t d = 0; d < devices; ++d) submit(d, a);
      for (std::uint32_t s = 0; s < 2 * devices; ++s) static_cast<void>(machine->run_until_idle(s));
    }
  }
};

struct rate {
  double events = 0, items = 0;  ///< per second
  std::uint64_t count = 0;       ///< events
};

rate measure(streamed_decode& s, std::uint64_t rounds) {
  rate r;
  const double t = seconds([&] {
    s.reset();
    s.run(rounds);
  });
  r.count = s.machine->events_processed();
  r.events = double(r.count) / t;
  r.items = double(s.items) / t;
  return r;
}

void segments() {
  std::printf(
      "segments: streamed decode, 2 slots, 3 devices per uplink (4 with one segment) (target 5 M events/s with 64 "
      "segments)\n");
  std::printf("%9s %8s %10s %12s %12s %12s\n", "segments", "devices", "events", "M events/s", "M items/s",
              "/ row above");
  double before = 0;
  for (const std::uint32_t n : {1u, 8u, 16u, 32u, 64u, 128u, 256u}) {
    streamed_decode s(n);
    const auto r = measure(s, std::max(1u, 2000 / s.devices));
    std::printf("%9u %8u %10llu %12.2f %12.2f", n, s.devices, static_cast<unsigned long long>(r.count), 1e-6 * r.events,
                1e-6 * r.items);
    if (before > 0) std::printf(" %11.2fx", r.events / before);
    std::printf("\n");
    before = r.events;
  }
  std::printf("\n");
}

void lengths() {
  std::printf("lengths: the same with 64 segments, longer and longer\n%9s %10s %12s %12s\n", "rounds", "events",
              "M events/s", "/ row above");
  streamed_decode s(64);
  double before = 0;
  for (const std::uint64_t rounds : {1u, 4u, 16u, 64u, 256u}) {
    const auto r = measure(s, rounds);
    std::printf("%9llu %10llu %12.2f", static_cast<unsigned long long>(rounds),
                static_cast<unsigned long long>(r.count), 1e-6 * r.events);
    if (before > 0) std::printf(" %11.2fx", r.events / before);
    std::printf("\n");
    before = r.events;
  }
  std::printf("\n");
}

/// `n` flows at a time over one segment, each replaced when it ends: every change concerns all of them.
double changes_per_second(std::uint32_t n) {
  constexpr std::uint32_t changes = 4000;
  const std::array<berth::segment_index, 1> route{0};
  const double t = seconds([&] {
    sim::flow_network net(std::array{link_rate}, {n, 1}, std::pmr::get_default_resource());
    sequence random(2);
    const auto size = [&] { return double(1'000'000 + random.next() % 100'000'000); };
    for (std::uint32_t f = 0; f < n; ++f) static_cast<void>(net.join(size(), route, sim::no_cap, 0));
    net.settle(0);
    for (std::uint32_t i = 0; i < changes; ++i) {
      const auto time = net.next_end();
      sim::flow_network::flow ended = 0;
      while (net.finish_one(time, ended)) static_cast<void>(net.join(size(), route, sim::no_cap, time));
      net.settle(time);
    }
  });
  return changes / t;
}

void flows() {
  std::printf("flows: one segment, all flows in one component; a change is an end and a beginning\n");
  std::printf("%9s %14s %14s %12s\n", "flows", "k changes/s", "ns per flow", "/ row above");
  double before = 0;
  for (std::uint32_t n = 1; n <= 256; n *= 2) {
    const double r = changes_per_second(n);
    std::printf("%9u %14.1f %14.1f", n, 1e-3 * r, 1e9 / r / n);
    if (before > 0) std::printf(" %11.2fx", r / before);
    std::printf("\n");
    before = r;
  }
  std::printf("\n");
}

berth::model eighty_atoms() {
  berth::model m;
  for (int i = 0; i < 80; ++i) {
    berth::atom a;
    a.name = "layers." + std::to_string(i);
    a.kind = berth::atom_kind::block;
    a.weights = 400'000'000;
    a.workspace = 1'000'000;
    a.state = 2'000'000;
    a.work[0] = {4e11, 4e8, 4e6};
    a.work[1] = {8e8, 4e8, 16e3};
    m.add(a);
  }
  return m;
}

/// One GPU that keeps every second atom and streams the others from the CPU.
struct streaming_problem {
  berth::model model = eighty_atoms();
  berth::topology machine;
  berth::place_options options;
  std::optional<berth::planning_problem> problem;
  std::vector<berth::placement> out;

  streaming_problem() {
    if (auto preset = berth::preset("1x4090")) machine = *preset;
    options.workload = {640, 1, 512, 128, berth::objective::latency};
    options.staging_slots = 2;
    auto made = berth::planning_problem::make(model, machine, options, std::pmr::get_default_resource());
    if (!made) return;
    problem.emplace(std::move(*made));
    const auto cpu = berth::find_seat(problem->view(), berth::device_kind::cpu);
    for (std::size_t i = 0; i < 80; ++i) out.push_back({i % 2 == 0 ? cpu : 0, 0});
  }
};

/// The same decode on a simulated machine: 40 copies, 80 launches and their events per round.
class machine_rounds {
 public:
  explicit machine_rounds(const berth::topology& t) : machine_(t, options()) {
    cpu_ = t.view().first(berth::device_kind::cpu).value_or(0);
    for (int i = 0; i < 2; ++i) streams_.push_back(machine_.make_stream(0).value_or(berth::stream_id{}));
    for (int i = 0; i < 4; ++i) events_.push_back(machine_.make_event().value_or(berth::event_id{}));
    from_ = {machine_.allocate(cpu_, bytes_, berth::memory_kind::pinned).value_or(berth::buffer_id{}), 0, bytes_};
    for (int i = 0; i < 2; ++i)
      slots_.push_back(
          {machine_.allocate(0, bytes_, berth::memory_kind::plain).value_or(berth::buffer_id{}), 0, bytes_});
  }
  void round() {
    berth::launch_request launch;
    launch.flops = 8e8;
    launch.touched = 4e8;
    for (std::uint32_t i = 0; i < 80; ++i) {
      const auto slot = i / 2 % 2;
      if (i % 2 == 0) {
        berth::copy_request copy;
        copy.from = from_;
        copy.to = slots_[slot];
        static_cast<void>(machine_.wait(streams_[0], events_[2 + slot]));
        static_cast<void>(machine_.copy(streams_[0], copy));
        static_cast<void>(machine_.record(streams_[0], events_[slot]));
        static_cast<void>(machine_.wait(streams_[1], events_[slot]));
      }
      static_cast<void>(machine_.launch(streams_[1], launch));
      if (i % 2 == 0) static_cast<void>(machine_.record(streams_[1], events_[2 + slot]));
    }
    static_cast<void>(machine_.synchronize(streams_[1]));
  }
  std::uint64_t events() const { return machine_.events_processed(); }

 private:
  static sim::machine_options options() {
    sim::machine_options o;
    o.bounds = {8, 16, 1024, {}};
    o.buffers = 8;
    o.places = 64;
    return o;
  }
  static constexpr berth::bytes bytes_ = 400'000'000;
  berth::device_index cpu_ = 0;
  sim::machine machine_;
  std::vector<berth::stream_id> streams_;
  std::vector<berth::event_id> events_;
  berth::buffer_range from_;
  std::vector<berth::buffer_range> slots_;
};

void plans() {
  std::printf("plans: 80 atoms, every second one streamed to 1 GPU, 2 slots, latency\n");
  const streaming_problem s;
  if (!s.problem) return static_cast<void>(std::printf("no problem\n"));
  const auto p = s.problem->view();
  std::vector<std::uint64_t> scratch(berth::evaluator::cells(p));
  const berth::evaluator e(p, scratch);
  constexpr int times = 100;
  double sum = 0;
  const double priced = seconds([&] {
    for (int k = 0; k < times; ++k) sum += e.value(s.out);
  });
  machine_rounds m(s.machine);
  const auto before = m.events();
  m.round();
  const auto events = m.events() - before;
  const double simulated = seconds([&] {
    for (int k = 0; k < times; ++k) m.round();
  });
  std::printf("%-44s %12.0f   (target 20000)\n", "plans priced by the model, /s",
              sum < berth::forever ? times / priced : 0);
  std::printf("%-44s %12.0f\n", "decode rounds simulated, /s", times / simulated);
  std::printf("%-44s %12llu\n", "events of a round", static_cast<unsigned long long>(events));
  std::printf("%-44s %12.2f\n", "M events/s, with the machine's bookkeeping",
              1e-6 * double(events) * times / simulated);
  std::printf("%-44s %12.1f\n\n", "prices per simulated round", simulated / priced);
}

}  // namespace

int main(int argc, char** argv) {
  bench::print_heading("berth_bench_sim");
  std::printf("\n");
  bench::run_sections(argc, argv, {{"segments", segments}, {"lengths", lengths}, {"flows", flows}, {"plans", plans}});
}
