// SPDX-License-Identifier: Apache-2.0
// Plans of every kind and their programs. Include last: it ends in imports.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory_resource>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plan_random.hpp"

import berth.exec;

namespace exec_test {

/// The three programs of a plan.
struct programs {
  berth::program load, prefill, decode;

  std::array<const berth::program*, 3> list() const { return {&load, &prefill, &decode}; }
  std::array<berth::program*, 3> list() { return {&load, &prefill, &decode}; }
  std::pmr::vector<berth::error> faults(const berth::plan& p, bool pipelined = false) const {
    const auto all = list();
    return berth::verify(p, all, pipelined);
  }
};

inline berth::result<programs> compile_phases(const berth::plan& p, const berth::compile_options& options = {}) {
  auto load = berth::compile(p, berth::program_phase::load, options);
  if (!load) return load.propagate();
  auto prefill = berth::compile(p, berth::program_phase::prefill, options);
  if (!prefill) return prefill.propagate();
  auto decode = berth::compile(p, berth::program_phase::decode, options);
  if (!decode) return decode.propagate();
  return programs{std::move(*load), std::move(*prefill), std::move(*decode)};
}

inline std::string first_of(std::span<const berth::error> found) {
  if (found.empty()) return "nothing";
  return std::string(found.front().subject.view()) + ": " + std::string(found.front().detail.view());
}

/// Home, executing device and, if another, the device of the prompt, by id.
struct seat_names {
  const char* home;
  const char* runs;
  const char* prompt = nullptr;
};

/// Places atoms as told.
struct Told {
  std::vector<seat_names> at;

  std::string_view name() const { return "told"; }
  std::size_t scratch_cells(const berth::problem_view&) const { return 0; }
  berth::result<berth::done> solve(const berth::problem_view& p, std::span<berth::placement> out,
                                   std::span<std::uint64_t>) const {
    const auto seat = [&](const char* id) {
      return id == nullptr ? berth::none : berth::find_seat(p, berth::device_id(id));
    };
    for (std::size_t i = 0; i < out.size(); ++i) {
      const auto& a = at[i % at.size()];
      out[i] = {seat(a.home), seat(a.runs), seat(a.prompt)};
    }
    return berth::done{};
  }
};

/// Draws a place for each atom among all that the rules allow, mostly that of the atom before.
struct Drawn {
  std::uint64_t seed = 0;

  std::string_view name() const { return "drawn"; }
  std::size_t scratch_cells(const berth::problem_view&) const { return 0; }
  berth::result<berth::done> solve(const berth::problem_view& p, std::span<berth::placement> out,
                                   std::span<std::uint64_t>) const {
    std::vector<berth::placement> modes;
    const auto k = static_cast<berth::seat_index>(p.seats.size());
    const auto usable = [&](berth::seat_index a, berth::seat_index b) { return p.link(a, b).usable(); };
    for (berth::seat_index home = 0; home < k; ++home)
      for (berth::seat_index runs = 0; runs < k; ++runs)
        for (berth::seat_index prompt = 0; prompt < k; ++prompt) {
          if (!p.seats[runs].executes() || !p.seats[prompt].executes()) continue;
          const bool streams = home != runs || home != prompt;
          if (streams && (p.seats[home].kind == berth::device_kind::gpu || p.staging_slots == 0)) continue;
          if (prompt != runs && (p.seats[runs].kind != berth::device_kind::cpu || !usable(prompt, runs))) continue;
          if ((home != runs && !usable(home, runs)) || (home != prompt && !usable(home, prompt))) continue;
          modes.push_back({home, runs, prompt == runs ? berth::none : prompt});
        }
    if (modes.empty()) return berth::fail(berth::errc::does_not_fit, "model", "no mode");
    plan_test::dice d(seed * 977 + 5);
    const auto stay = d.pick(1, 4);
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = i > 0 && !d.one_in(stay) ? out[i - 1] : modes[d.pick(0, modes.size() - 1)];
    return berth::done{};
  }
};

/// GPUs "0" .. with 24 GB, a CPU and a disk, all linked.
inline berth::topology machine(int gpus, berth::bytes granularity = 1) {
  using namespace berth;
  topology t;
  t.name = "machine";
  for (int g = 0; g < gpus; ++g) {
    device d;
    d.id = device_id(g);
    d.memory = d.free = 24'000'000'000;
    d.granularity = granularity;
    d.peak_flops = {5e13, 1e14, 0, 0};
    d.peak_bandwidth = 1e12;
    t.add(d);
  }
  device cpu;
  cpu.id = "cpu";
  cpu.kind = device_kind::cpu;
  cpu.memory = cpu.free = 64'000'000'000;
  cpu.peak_flops = {1e12, 0, 0, 0};
  cpu.peak_bandwidth = 5e10;
  const auto cpu_at = t.add(cpu);
  device disk;
  disk.id = "disk";
  disk.kind = device_kind::disk;
  disk.memory = disk.free = 1'000'000'000'000;
  const auto disk_at = t.add(disk);
  for (device_index a = 0; a < t.devices.size(); ++a)
    for (device_index b = 0; b < t.devices.size(); ++b) {
      if (a == b || b == disk_at || (a == disk_at && b != cpu_at)) continue;
      const std::array<segment_index, 1> own{
          t.add(segment{text<48>("link ").append(a).append(" ").append(b), segment_kind::pcie, 2e10})};
      t.connect({a, b, 1e-4, 1e-6, 2e10, 0, 0}, own);
    }
  t.sort_routes();
  return t;
}

struct chain_shape {
  std::size_t atoms = 6;
  bool tied = false;
  berth::bytes workspace = 1'000'000;
};
inline berth::model chain(const chain_shape& s) {
  using namespace berth;
  model m;
  for (std::size_t i = 0; i < s.atoms; ++i) {
    const auto name = "a" + std::to_string(i);
    atom a;
    a.name = name;
    a.weights = 100'000'003 + 1'000 * (i % 3);
    if (s.tied && (i == 0 || i + 1 == s.atoms)) a.weights = 50'000'001;
    a.padding = round_up(a.weights, 256) - a.weights;
    a.state = 1'000'000 + i % 7;
    a.workspace = s.workspace;
    a.work[0] = {1e12, 2e8, 81920.5};
    a.work[1] = {1e9, 1e8, 8192};
    m.add(a);
  }
  if (s.tied) m.set_ties({{0, 0, 50'000'001}, {0, static_cast<std::uint32_t>(s.atoms - 1), 50'000'001}});
  return m;
}
inline berth::place_options options(std::uint32_t slots = 2) {
  berth::place_options o;
  o.workload = {.context = 1000, .batch = 1, .prompt = 300, .generate = 50, .objective = berth::objective::latency};
  o.use_disk = true;
  o.staging_slots = slots;
  o.certify = false;
  return o;
}

/// Plans of every kind that a plan can be, by name.
struct shape {
  const char* name;
  std::vector<seat_names> at;
  bool tied = false;
};
inline std::vector<shape> shapes() {
  const seat_names g0{"0", "0"}, g1{"1", "1"}, cpu{"cpu", "cpu"}, streamed{"cpu", "0"}, elsewhere{"cpu", "1"};
  const seat_names stored{"disk", "0"}, stored_cpu{"disk", "cpu"}, prompt{"cpu", "cpu", "0"};
  const seat_names stored_prompt{"disk", "cpu", "1"};
  return {{"one GPU", {g0}},
          {"two GPUs", {g0, g0, g0, g1, g1, g1}},
          {"to and fro", {g0, g1}},
          {"CPU alone", {cpu}},
          {"all streamed", {streamed}},
          {"some streamed", {g0, streamed, g0, streamed, streamed, g0}},
          {"streamed to two GPUs", {streamed, streamed, streamed, elsewhere, g1, elsewhere}},
          {"some on the CPU", {g0, g0, cpu, cpu, g1, g1}},
          {"from the disk", {stored, g0, stored, stored, g0, stored}},
          {"from the disk to the CPU", {g0, stored_cpu, stored_cpu, g0, stored, stored}},
          {"prompt on the GPU", {prompt, prompt, g0, prompt, prompt, g0}},
          {"prompt on the other GPU", {g0, stored_prompt, stored_prompt, g1, cpu, prompt}},
          {"everything", {g0, streamed, cpu, prompt, stored, elsewhere}},
          {"tied on one device", {g0}, true},
          {"tied on two devices", {g0, g0, g0, g1, g1, g1}, true},
          {"tied, streamed", {streamed}, true},
          {"tied, one end on the CPU", {cpu, g0, g0, g0, g0, streamed}, true},
          {"tied, from the disk", {stored}, true},
          {"tied, prompt on the GPU", {prompt}, true}};
}

/// The plan of a shape; fails the process on a plan that cannot be made.
inline berth::plan plan_of(const shape& s, std::uint32_t slots = 2, chain_shape c = {}, berth::bytes granularity = 1) {
  c.tied = s.tied;
  auto p = berth::place_fn{Told{s.at}}(chain(c), machine(2, granularity), options(slots));
  if (!p) {
    std::printf("%s: %s\n", s.name, first_of(std::span(&p.error(), 1)).c_str());
    std::abort();
  }
  return std::move(*p);
}

}  // namespace exec_test
