// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "sim_support.hpp"

import berth.base;
import berth.exec;
import berth.sim;
import berth.topology;

namespace {

using namespace berth;
using berth::sim::content_table;
using berth::sim::machine;
using berth::sim::machine_options;

constexpr device_index gpu0 = 0, gpu1 = 1, cpu = 2, disk = 3;
constexpr segment_index dram = 0, uplink = 1;
constexpr double GBs = 1e9;  // one byte per 1000 ps

device gpu(std::string_view id) {
  device d;
  d.id = id;
  d.kind = device_kind::gpu;
  d.api = accelerator_api::cuda;
  d.memory = d.free = 64 * MiB;
  d.granularity = 2 * MiB;
  d.peak_flops.fill(1e12);
  d.peak_bandwidth = 100 * GBs;
  d.overhead = 5e-6;
  return d;
}

/// Two GPUs behind one uplink of 20 GB/s, with links of 16 GB/s each; DRAM of 40 GB/s; a disk of 2 GB/s.
topology small_machine() {
  topology t;
  t.add(gpu("0"));
  t.add(gpu("1"));
  device host;
  host.id = "cpu";
  host.kind = device_kind::cpu;
  host.memory = host.free = GiB;
  host.peak_flops.fill(1e11);
  host.peak_bandwidth = 30 * GBs;
  host.overhead = 1e-6;
  host.memory_segment = dram;
  t.add(host);
  device store;
  store.id = "disk";
  store.kind = device_kind::disk;
  store.memory = store.free = TiB;
  t.add(store);
  t.add(segment{"dram", segment_kind::dram, 40 * GBs});
  t.add(segment{"uplink", segment_kind::pcie, 20 * GBs});
  std::array<segment_index, 2> links{};
  for (std::uint32_t g = 0; g < 2; ++g)
    links[g] = t.add(segment{text<48>("link ").append(std::uint64_t{g}), segment_kind::pcie, 16 * GBs});
  const auto from_disk = t.add(segment{"disk", segment_kind::disk, 2 * GBs});
  route r;
  r.latency = 20e-6;
  r.setup = 3e-6;
  r.bandwidth = 100 * GBs;
  for (const auto g : {gpu0, gpu1}) {
    r.from = cpu;
    r.to = g;
    t.connect(r, std::array{dram, uplink, links[g]});
    r.from = g;
    r.to = cpu;
    t.connect(r, std::array{links[g], uplink, dram});
  }
  r.from = disk;
  r.to = cpu;
  r.bandwidth = 3 * GBs;
  t.connect(r, std::array{from_disk, dram});
  t.sort_routes();
  return t;
}

machine_options audited() {
  machine_options o;
  o.bounds = {64, 256, 4096, {}};
  o.buffers = 256;
  o.places = 1024;
  o.audit = true;
  return o;
}

/// A machine that keeps its activities.
struct scene {
  topology t = small_machine();
  std::vector<activity> seen;
  machine m;

  explicit scene(const machine_options& o = audited(),
                 std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : m(t, o, memory) {
    BOOST_TEST_REQUIRE(validate(t.view()).has_value());
    seen.reserve(4096);
    m.observe({this, [](void* self, const activity& a) { static_cast<scene*>(self)->seen.push_back(a); }});
  }
  scene(const scene&) = delete;
  scene& operator=(const scene&) = delete;

  stream_id stream(device_index d) { return *m.make_stream(d); }
  buffer_range buffer(device_index d, bytes size, memory_kind kind = memory_kind::plain) {
    const auto b = m.allocate(d, size, kind);
    BOOST_TEST_REQUIRE(b.has_value());
    return {*b, 0, size};
  }
  activity only(activity_kind kind) const {
    for (const auto& a : seen)
      if (a.kind == kind) return a;
    return {};
  }
  void finish(stream_id s) {
    BOOST_TEST(m.synchronize(s).has_value());
    BOOST_TEST(!m.broken().has_value());
  }
};

copy_request copy_of(buffer_range from, buffer_range to, op_tag tag = 1, transfer_kind kind = transfer_kind::copy) {
  copy_request r;
  r.from = from;
  r.to = to;
  r.kind = kind;
  r.tag = tag;
  return r;
}
launch_request launch_of(double flops, double touched, op_tag tag = 1) {
  launch_request r;
  r.flops = flops;
  r.touched = touched;
  r.tag = tag;
  return r;
}

constexpr picoseconds us = 1'000'000;

}  // namespace

BOOST_AUTO_TEST_CASE(a_chain_that_stays_takes_its_overheads_and_the_larger_of_both_costs) {
  scene s;
  const auto stream = s.stream(gpu0);
  picoseconds sum = 0;
  std::mt19937_64 random(3);
  for (op_tag i = 0; i < 80; ++i) {
    const double flops = double(random() % 1'000'000'000), touched = double(random() % 100'000'000);
    sum += 5 * us + std::max(work_time(flops, 1e12), work_time(touched, 100 * GBs));
    BOOST_TEST(s.m.launch(stream, launch_of(flops, touched, i)).has_value());
  }
  s.finish(stream);
  BOOST_TEST(s.m.now() == sum);
  BOOST_TEST(s.m.busy(gpu0, berth::sim::engine_kind::compute) == sum);
  BOOST_TEST(s.seen.size() == 80u);
  BOOST_TEST(s.seen[79].end == sum);
  BOOST_TEST(s.seen[79].tag == 79u);
}

BOOST_AUTO_TEST_CASE(pinned_and_pageable_copies_differ_in_setup_and_rate) {
  scene s;
  const auto stream = s.stream(gpu0);
  const auto pinned = s.buffer(cpu, MiB, memory_kind::pinned), plain = s.buffer(cpu, MiB), to = s.buffer(gpu0, MiB);
  BOOST_TEST(s.m.copy(stream, copy_of(pinned, to)).has_value());
  s.finish(stream);
  const auto first = s.m.now();
  BOOST_TEST(first == 3 * us + work_time(MiB, 16 * GBs));
  BOOST_TEST(s.m.copy(stream, copy_of(plain, to)).has_value());
  s.finish(stream);
  BOOST_TEST(s.m.now() == first + 76 * us + work_time(MiB, 8 * GBs));  // half the link
  BOOST_TEST(s.m.carried(uplink) == 2.0 * MiB);
}

BOOST_AUTO_TEST_CASE(a_message_costs_its_latency_and_no_copy_engine) {
  scene s;
  const auto copies = s.stream(gpu0), messages = s.stream(cpu);
  const auto from = s.buffer(cpu, MiB, memory_kind::pinned), to = s.buffer(gpu0, 2 * MiB);
  const auto half = buffer_range{to.buffer, 0, MiB}, rest = buffer_range{to.buffer, MiB, MiB};
  BOOST_TEST(s.m.copy(copies, copy_of(from, half)).has_value());
  BOOST_TEST(s.m.copy(messages, copy_of(from, rest, 2, transfer_kind::message)).has_value());
  s.finish(copies);
  s.finish(messages);
  const auto message = s.only(activity_kind::message), copy = s.only(activity_kind::copy);
  BOOST_TEST(message.start == 0);
  BOOST_TEST(copy.start == 0);
  // The copy is alone at 16 GB/s for 17 us; then both share the link.
  const double left = MiB - 17e-6 * 16 * GBs;
  BOOST_TEST(std::abs(copy.end - (20 * us + work_time(left, 8 * GBs))) <= 2);
  BOOST_TEST(std::abs(message.end - (copy.end + work_time(MiB - left, 16 * GBs))) <= 2);
  BOOST_TEST(s.m.busy(gpu0, berth::sim::engine_kind::copy_in) == copy.end);
}

BOOST_AUTO_TEST_CASE(launches_on_the_cpu_share_the_dram_with_copies) {
  scene alone, both;
  for (auto* s : {&alone, &both}) {
    const auto work = s->stream(cpu), copies = s->stream(gpu0), more = s->stream(gpu1);
    BOOST_TEST(s->m.launch(work, launch_of(0, 60e6)).has_value());
    if (s == &both) {
      const auto from = s->buffer(cpu, 32 * MiB, memory_kind::pinned);
      BOOST_TEST(s->m.copy(copies, copy_of(from, s->buffer(gpu0, 32 * MiB))).has_value());
      BOOST_TEST(s->m.copy(more, copy_of(from, s->buffer(gpu1, 32 * MiB))).has_value());
      s->finish(copies);
      s->finish(more);
    }
    s->finish(work);
  }
  const auto launch = alone.only(activity_kind::launch);
  BOOST_TEST(launch.end == 1 * us + 2000 * us);  // 60 MB at 30 GB/s
  // Two copies of 10 GB/s each (the uplink) leave 20 of 40 GB/s from 3 us on.
  const double before = 2e-6 * 30 * GBs;
  const auto slowed = both.only(activity_kind::launch);
  BOOST_TEST(std::abs(slowed.end - (3 * us + work_time(60e6 - before, 20 * GBs))) <= 2);
}

BOOST_AUTO_TEST_CASE(checksums_follow_the_bytes) {
  scene s;
  const auto host = s.stream(cpu), device = s.stream(gpu0);
  const storage_range stored{1, 4096, MiB}, other{1, 8192, MiB};
  const auto a = s.buffer(cpu, 2 * MiB, memory_kind::pinned), b = s.buffer(gpu0, MiB);
  const buffer_range first{a.buffer, 0, MiB}, second{a.buffer, MiB, MiB};
  BOOST_TEST((s.m.checksum(first).error().code == errc::invalid_argument));
  BOOST_TEST(s.m.read(host, {stored, first, 0, 1}).has_value());
  BOOST_TEST(s.m.read(host, {other, second, 0, 2}).has_value());
  const auto event = *s.m.make_event();
  BOOST_TEST(s.m.record(host, event).has_value());
  BOOST_TEST(s.m.wait(device, event).has_value());
  BOOST_TEST(s.m.copy(device, copy_of(first, b)).has_value());
  BOOST_TEST(!*s.m.ready(event));
  BOOST_TEST(!s.m.checksum(b).has_value());
  s.finish(device);
  BOOST_TEST(*s.m.ready(event));
  const auto want = *s.m.checksum(stored), wrong = *s.m.checksum(other);
  BOOST_TEST(want != wrong);
  BOOST_TEST(*s.m.checksum(first) == want);
  BOOST_TEST(*s.m.checksum(b) == want);
  BOOST_TEST(*s.m.checksum(second) == wrong);
  BOOST_TEST(*s.m.checksum(buffer_range{b.buffer, 0, 100}) == *s.m.checksum(storage_range{1, 4096, 100}));
  BOOST_TEST(s.m.copy(device, copy_of(second, b)).has_value());
  s.finish(device);
  BOOST_TEST(*s.m.checksum(b) == wrong);
}

BOOST_AUTO_TEST_CASE(reads_without_a_route_pass_through_host_memory) {
  scene s;
  const auto stream = s.stream(gpu0);
  const auto to = s.buffer(gpu0, MiB);
  BOOST_TEST(s.m.read(stream, {{0, 0, MiB}, to, 0, 1}).has_value());
  s.finish(stream);
  BOOST_TEST(s.m.now() == 6 * us + work_time(MiB, 2 * GBs));
  BOOST_TEST((s.only(activity_kind::read).from == disk));
  BOOST_TEST(s.m.carried(dram) == 1.0 * MiB);  // a segment of both parts counts once
}

BOOST_AUTO_TEST_CASE(buffers_can_be_shared_between_machines) {
  content_table contents(64, std::pmr::get_default_resource());
  auto options = audited();
  options.shared = &contents;
  scene a(options), b(options);
  const auto stream = a.stream(cpu);
  const auto mine = a.buffer(cpu, MiB, memory_kind::pinned);
  const auto theirs = b.m.import(cpu, MiB, memory_kind::pinned, a.m.export_token(mine.buffer));
  BOOST_TEST_REQUIRE(theirs.has_value());
  BOOST_TEST(b.m.used(cpu) == 0u);
  BOOST_TEST(a.m.read(stream, {{2, 0, MiB}, mine, 0, 1}).has_value());
  a.finish(stream);
  const auto device = b.stream(gpu1);
  const auto to = b.buffer(gpu1, MiB);
  BOOST_TEST(b.m.copy(device, copy_of({*theirs, 0, MiB}, to)).has_value());
  b.finish(device);
  BOOST_TEST(*b.m.checksum(to) == *b.m.checksum(storage_range{2, 0, MiB}));
  BOOST_TEST(b.m.deallocate(device, *theirs).has_value());
  BOOST_TEST(b.m.used(cpu) == 0u);
}

BOOST_AUTO_TEST_CASE(out_of_memory_names_the_device_and_its_largest_allocations_and_the_run_goes_on) {
  scene s;
  const auto stream = s.stream(gpu0);
  const auto large = s.buffer(gpu0, 40 * MiB), medium = s.buffer(gpu0, 15 * MiB);
  const auto refused = s.m.allocate(gpu0, 9 * MiB, memory_kind::plain);
  BOOST_TEST_REQUIRE(!refused.has_value());
  const auto& e = refused.error();
  BOOST_TEST((e.code == errc::out_of_memory));
  BOOST_TEST(e.subject.view() == "0");
  BOOST_TEST(e.needed == 10 * MiB);  // rounded up
  BOOST_TEST(e.available == 8 * MiB);
  BOOST_TEST(std::string(e.detail.view()).find("40.00 MiB, 16.00 MiB") != std::string::npos);
  BOOST_TEST_MESSAGE(e.detail.view());
  BOOST_TEST(s.m.launch(stream, launch_of(1e6, 0)).has_value());
  BOOST_TEST(s.m.deallocate(stream, large.buffer).has_value());
  BOOST_TEST((s.m.deallocate(stream, large.buffer).error().code == errc::invalid_argument));
  BOOST_TEST(!s.m.allocate(gpu0, 9 * MiB, memory_kind::plain).has_value());  // the stream is not there yet
  s.finish(stream);
  BOOST_TEST(s.m.allocate(gpu0, 9 * MiB, memory_kind::plain).has_value());
  BOOST_TEST(s.m.used(gpu0) == 26 * MiB);
  BOOST_TEST(s.m.highest(gpu0) == 56 * MiB);
  BOOST_TEST(s.m.deallocate(stream, medium.buffer).has_value());
}

BOOST_AUTO_TEST_CASE(handles_that_the_machine_did_not_make_are_errors) {
  scene s;
  const auto stream = s.stream(gpu0);
  const auto event = *s.m.make_event();
  const auto buffer = s.buffer(gpu0, MiB), host = s.buffer(cpu, MiB), other = s.buffer(gpu1, MiB);
  const auto code = [](const auto& r) { return r.has_value() ? errc{} : r.error().code; };
  const stream_id no_stream{7};
  const event_id no_event{9};
  const buffer_range outside{buffer.buffer, MiB, 1}, huge{buffer.buffer, 1, max_bytes}, none{{999}, 0, 1};
  BOOST_TEST((code(s.m.make_stream(99)) == errc::unknown_device));
  BOOST_TEST((code(s.m.make_stream(disk)) == errc::unsupported));
  BOOST_TEST((code(s.m.allocate(99, 1, memory_kind::plain)) == errc::unknown_device));
  BOOST_TEST((code(s.m.launch(no_stream, {})) == errc::invalid_argument));
  BOOST_TEST((code(s.m.record(no_stream, event)) == errc::invalid_argument));
  BOOST_TEST((code(s.m.record(stream, no_event)) == errc::invalid_argument));
  BOOST_TEST((code(s.m.wait(stream, no_event)) == errc::invalid_argument));
  BOOST_TEST((code(s.m.ready(no_event)) == errc::invalid_argument));
  BOOST_TEST((code(s.m.synchronize(no_stream)) == errc::invalid_argument));
  BOOST_TEST((code(s.m.deallocate(stream, {77})) == errc::invalid_argument));
  for (const auto& r : {outside, huge, none}) {
    BOOST_TEST((code(s.m.copy(stream, copy_of(host, r))) == errc::invalid_argument));
    BOOST_TEST((code(s.m.read(stream, {{0, 0, r.size}, r, 0, 1})) == errc::invalid_argument));
    BOOST_TEST((code(s.m.checksum(r)) == errc::invalid_argument));
  }
  BOOST_TEST((code(s.m.copy(stream, copy_of({host.buffer, 0, 5}, buffer))) == errc::invalid_argument));
  BOOST_TEST((code(s.m.copy(stream, copy_of(buffer, other))) == errc::unsupported));  // no route
  BOOST_TEST((code(s.m.throttle(99, 1)) == errc::invalid_argument));
  BOOST_TEST((code(s.m.throttle(uplink, 0)) == errc::invalid_argument));
  launch_request negative;
  negative.slowdown = 0;
  BOOST_TEST((code(s.m.launch(stream, negative)) == errc::invalid_argument));
  s.finish(stream);
  BOOST_TEST(s.m.now() == 0);
}

BOOST_AUTO_TEST_CASE(a_throttled_link_slows_what_crosses_it) {
  scene s;
  const auto stream = s.stream(gpu0);
  const auto from = s.buffer(cpu, 20'000'000, memory_kind::pinned), to = s.buffer(gpu0, 20'000'000);
  BOOST_TEST(s.m.copy(stream, copy_of(from, to)).has_value());
  s.m.advance_to(3 * us + 500 * us);                  // 8 MB at 16 GB/s
  BOOST_TEST(s.m.throttle(uplink, 0.1).has_value());  // 2 GB/s
  s.m.advance_to(3 * us + 500 * us + 1000 * us);      // 2 MB more
  BOOST_TEST(s.m.throttle(uplink, 1).has_value());
  s.finish(stream);
  BOOST_TEST(s.m.now() == 3 * us + 500 * us + 1000 * us + 625 * us);
}

namespace {

/// A random program over all devices; the trace of what happened.
std::uint64_t random_trace(std::uint64_t seed, std::pmr::memory_resource* memory, bool close) {
  auto* closing = static_cast<closing_memory*>(close ? memory : nullptr);
  scene s(audited(), memory);
  if (closing != nullptr) closing->close();
  std::mt19937_64 random(seed);
  std::vector<stream_id> streams;
  for (const auto d : {gpu0, gpu0, gpu1, gpu1, cpu}) streams.push_back(s.stream(d));
  std::vector<event_id> events;
  for (int i = 0; i < 4; ++i) events.push_back(*s.m.make_event());
  std::vector<buffer_range> buffers;
  for (const auto d : {gpu0, gpu1, cpu, cpu})
    buffers.push_back(s.buffer(d, MiB, d == cpu && buffers.size() == 3 ? memory_kind::pinned : memory_kind::plain));
  for (op_tag i = 0; i < 120; ++i) {
    const auto stream = streams[random() % streams.size()];
    const auto a = buffers[random() % buffers.size()], b = buffers[random() % buffers.size()];
    bool ok = true;
    switch (random() % 8) {
      case 0:
      case 1:
        ok =
            s.m.launch(stream, launch_of(double(random() % 100'000'000), double(random() % 10'000'000), i)).has_value();
        break;
      case 2:
      case 3:
        static_cast<void>(s.m.copy(stream, copy_of(a, b, i)));  // not every pair has a route
        break;
      case 4:
        ok = s.m.record(stream, events[random() % events.size()]).has_value();
        break;
      case 5:
        ok = s.m.wait(stream, events[random() % events.size()]).has_value();
        break;
      case 6:
        ok = s.m.read(stream, {{1, random() % 1000, a.size}, a, 0, i}).has_value();
        break;
      default:
        s.m.advance_to(s.m.now() + static_cast<picoseconds>(random() % static_cast<std::uint64_t>(50 * us)));
        ok = s.m.throttle(static_cast<segment_index>(random() % 5), 0.1 + 0.1 * double(random() % 15)).has_value();
    }
    BOOST_TEST(ok);
  }
  for (const auto x : streams) s.finish(x);
  trace t(s.seen.size());
  for (const auto& a : s.seen) t.add(a);
  return fingerprint(t);
}

}  // namespace

BOOST_AUTO_TEST_CASE(two_runs_leave_the_same_trace_and_allocate_nothing_after_construction) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    closing_memory memory;
    const auto first = random_trace(seed, &memory, true);
    BOOST_TEST(first == random_trace(seed, std::pmr::get_default_resource(), false), "seed " << seed);
  }
}
