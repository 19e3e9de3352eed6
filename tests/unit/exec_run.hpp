// SPDX-License-Identifier: Apache-2.0
// Hand-made plans and runs on a small machine, with answers that a person can check. Include before the imports of the
// test file, which must import berth.exec.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

import berth;
import berth.exec;

/// GPUs "0" and "1", a CPU and a disk; 1 byte per picosecond on every segment, so that sizes are times.
/// Segments: 0 "in 0", 1 "in 1", 2 "dram" (twice as fast), 3 "out 0", 4 "ssd".
inline berth::topology small_machine() {
  using namespace berth;
  topology t;
  t.name = "two cards";
  for (int i = 0; i < 2; ++i) {
    device d;
    d.id = device_id(i);
    d.kind = device_kind::gpu;
    d.model = "RTX 4090";
    d.memory = d.free = 1000;
    t.add(d);
  }
  device cpu;
  cpu.id = device_id("cpu");
  cpu.kind = device_kind::cpu;
  cpu.memory = cpu.free = 10'000;
  cpu.memory_segment = 2;
  t.add(cpu);
  device disk;
  disk.id = device_id("disk");
  disk.kind = device_kind::disk;
  disk.memory = disk.free = 100'000;
  t.add(disk);
  t.add(segment{"in 0", segment_kind::pcie, 1e12});
  t.add(segment{"in 1", segment_kind::pcie, 1e12});
  t.add(segment{"dram", segment_kind::dram, 2e12});
  t.add(segment{"out 0", segment_kind::pcie, 1e12});
  t.add(segment{"ssd", segment_kind::disk, 1e12});
  const auto connect = [&](device_index from, device_index to, std::vector<segment_index> over) {
    t.connect({from, to, 0, 0, 1e12, 0, 0}, over);
  };
  connect(0, 2, {3, 2});
  connect(2, 0, {2, 0});
  connect(2, 1, {2, 1});
  connect(3, 2, {4, 2});
  t.sort_routes();
  return t;
}

/// Atoms "a0", "a1", ... of 100 bytes each, all on device 0 unless a test says otherwise.
inline berth::plan small_plan(std::size_t atoms) {
  using namespace berth;
  plan p;
  const auto t = small_machine();
  p.topology_name = t.name;
  p.devices.assign(t.devices.begin(), t.devices.end());
  p.segments.assign(t.segments.begin(), t.segments.end());
  p.routes.assign(t.routes.begin(), t.routes.end());
  p.hops.assign(t.hops.begin(), t.hops.end());
  p.model_id = "small";
  p.strategy = "manual";
  p.workload.batch = 2;
  p.workload.generate = 10;
  p.reserve_names(8 * atoms);
  for (std::size_t i = 0; i < atoms; ++i) {
    atom a;
    a.name = p.keep_name("a" + std::to_string(i));
    a.weights = 100;
    p.atoms.push_back(a);
    p.loads.push_back(100);
    p.placements.push_back({0, 0, no_index});
  }
  for (device_index d = 0; d < 3; ++d) {
    device_use u;
    u.device = d;
    u.budget = d < 2 ? 1000 : 10'000;
    u.reserve = 100;
    u.weights = d == 0 ? 100 * atoms : 0;
    u.state = 7;
    p.uses.push_back(u);
  }
  return p;
}

/// A run under construction: tags are given by the caller, ends must ascend.
struct small_run {
  berth::trace trace{4096};
  berth::run_marks marks;

  void add(berth::activity_kind kind, berth::device_index device, berth::device_index from, berth::op_tag tag,
           berth::picoseconds start, berth::picoseconds end, berth::bytes size = 0) {
    trace.add({kind, device, from, {}, tag, start, end, size});
  }
  void launch(berth::device_index d, berth::op_tag tag, berth::picoseconds start, berth::picoseconds end) {
    add(berth::activity_kind::launch, d, berth::no_index, tag, start, end);
  }
  void copy(berth::device_index from, berth::device_index to, berth::op_tag tag, berth::picoseconds start,
            berth::picoseconds end, berth::bytes size) {
    add(berth::activity_kind::copy, to, from, tag, start, end, size);
  }
};

/// Load 100 ps, prompt 50 ps, then `rounds` rounds of 40 ps on device 0: a copy of 30 bytes into it (tag 2), and in the
/// last 20 ps a launch (tag 3); the copy and the launch overlap for 10 ps.
inline small_run streamed_run(std::uint32_t rounds) {
  using namespace berth;
  small_run r;
  r.marks.load_end = 100;
  r.marks.prefill_end = 150;
  r.marks.sizes = {1, 1, 2};
  for (const std::uint32_t atom : {0u, 0u, 1u, 1u}) r.marks.operations.push_back({atom, 0});
  r.add(activity_kind::allocate, 0, no_index, no_tag, 0, 0, 500);
  r.copy(2, 0, 0, 0, 100, 100);
  r.launch(0, 1, 100, 150);
  for (std::uint32_t i = 0; i < rounds; ++i) {
    const auto at = static_cast<picoseconds>(150 + 40 * i);
    r.copy(2, 0, 2, at, at + 30, 30);
    r.launch(0, 3, at + 20, at + 40);
    r.marks.round_ends.push_back(at + 40);
  }
  return r;
}
