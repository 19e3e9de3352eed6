// SPDX-License-Identifier: Apache-2.0
// What work finds in memory, and what becomes of reads that fail.
#include <boost/test/unit_test.hpp>

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "checks.hpp"

namespace conformance {
namespace {

void a_callable_sees_the_memory_that_its_launch_names(any_machine& m) {
  const devices d(m);
  const auto s = must(m.make_stream(d.first));
  const auto b = must(m.allocate(d.first, small, berth::memory_kind::plain));
  berth::work_call seen;
  auto r = work_of(1e6, 5);
  r.work = {&seen, [](void* to, const berth::work_call& c) { *static_cast<berth::work_call*>(to) = c; }};
  r.memory.weights = {b, 0, 1024};
  r.memory.workspace = {b, 4096, 8192};
  r.memory.in = r.memory.out = {b, 4096, 100};
  must(m.launch(s, r));
  must(m.synchronize(s));
  BOOST_TEST(seen.tag == 5u);
  BOOST_TEST(seen.device == d.first);
  const auto* begin = m.address(b);
  const auto expect = [&](const berth::memory_view& v, berth::bytes offset, berth::bytes size) {
    BOOST_TEST(v.size == size);
    BOOST_TEST((v.data == (begin == nullptr ? nullptr : begin + offset)));
  };
  expect(seen.memory.weights, 0, 1024);
  expect(seen.memory.workspace, 4096, 8192);
  expect(seen.memory.in, 4096, 100);
  expect(seen.memory.out, 4096, 100);
  BOOST_TEST((seen.memory.state.data == nullptr));
  BOOST_TEST(seen.memory.state.size == 0u);
}

void a_launch_with_memory_outside_its_buffer_is_refused(any_machine& m) {
  const devices d(m);
  const auto s = must(m.make_stream(d.first));
  const auto b = must(m.allocate(d.first, small, berth::memory_kind::plain));
  auto r = work_of(1e6);
  r.memory.state = {b, 1, small};
  refused(m.launch(s, r), errc::invalid_argument);
  r.memory.state = {{123456}, 0, 1};
  refused(m.launch(s, r), errc::invalid_argument);
  must(m.deallocate(s, b));
  r.memory.state = {b, 0, small};
  refused(m.launch(s, r), errc::invalid_argument);
  must(m.launch(s, work_of(1e6)));
  must(m.synchronize(s));
}

/// On the CPU, whose memory a callable can read.
void work_sees_bytes_that_were_copied_before_it(any_machine& m) {
  const devices d(m);
  const auto loads = must(m.make_stream(d.first)), computes = must(m.make_stream(d.cpu));
  const auto arrived = must(m.make_event());
  const auto device = must(m.allocate(d.first, small, berth::memory_kind::plain));
  const auto host = must(m.allocate(d.cpu, 2 * small, berth::memory_kind::pinned));
  const berth::storage_range stored{0, 12'345, small};
  must(m.read(loads, {stored, {device, 0, small}}));
  must(m.copy(loads, {{device, 0, small}, {host, 0, small}}));
  must(m.record(loads, arrived));
  must(m.wait(computes, arrived));
  auto r = work_of(1e6);
  r.work.run = [](void*, const berth::work_call& c) {
    std::memcpy(c.memory.out.data, c.memory.in.data, c.memory.in.size);
  };
  r.memory.in = {host, 0, small};
  r.memory.out = {host, small, small};
  must(m.launch(computes, r));
  must(m.synchronize(computes));
  BOOST_TEST(must(m.checksum(berth::buffer_range{host, small, small})) == must(m.checksum(stored)));
}

void a_failing_read_is_an_error_behind_it_and_nowhere_else(any_machine& m) {
  const devices d(m);
  const auto failing = must(m.make_stream(d.first)), waiting = must(m.make_stream(d.second));
  const auto other = must(m.make_stream(d.first));
  const auto before = must(m.make_event()), behind = must(m.make_event()), further = must(m.make_event());
  const auto b = must(m.allocate(d.first, small, berth::memory_kind::plain));
  const auto c = must(m.allocate(d.first, small, berth::memory_kind::plain));
  must(m.record(failing, before));
  must(m.read(failing, {{4711, 0, small}, {b, 0, small}}));  // there is no such file
  must(m.record(failing, behind));
  must(m.wait(waiting, behind));
  must(m.launch(waiting, work_of(1e6)));
  must(m.record(waiting, further));
  const berth::storage_range stored{0, 0, small};
  must(m.read(other, {stored, {c, 0, small}}));
  must(m.synchronize(other));
  BOOST_TEST(must(m.checksum(berth::buffer_range{c, 0, small})) == must(m.checksum(stored)));
  for (int again = 0; again < 2; ++again) {
    refused(m.synchronize(waiting), errc::not_found);
    refused(m.synchronize(failing), errc::not_found);
    refused(m.synchronize(behind), errc::not_found);
    refused(m.ready(behind), errc::not_found);
    refused(m.ready(further), errc::not_found);
    BOOST_TEST(must(m.ready(before)));
    must(m.synchronize(other));
  }
  const auto fresh = must(m.make_stream(d.first));
  must(m.read(fresh, {stored, {b, 0, small}}));
  must(m.synchronize(fresh));
  BOOST_TEST(must(m.checksum(berth::buffer_range{b, 0, small})) == must(m.checksum(stored)));
  must(m.deallocate(fresh, b));
  must(m.deallocate(failing, c));  // freed all the same
  must(m.synchronize(fresh));
  refused(m.synchronize(failing), errc::not_found);
}

}  // namespace

std::vector<test_case> memory_cases() {
#define CASE(name) {#name, name}
  return {CASE(a_callable_sees_the_memory_that_its_launch_names),
          CASE(a_launch_with_memory_outside_its_buffer_is_refused), CASE(work_sees_bytes_that_were_copied_before_it),
          CASE(a_failing_read_is_an_error_behind_it_and_nowhere_else)};
#undef CASE
}

}  // namespace conformance
