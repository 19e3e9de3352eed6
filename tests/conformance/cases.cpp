// SPDX-License-Identifier: Apache-2.0
// What every machine must do. Cases use the Machine operations only; nothing here knows which machine it runs on.
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "checks.hpp"

namespace conformance {
namespace {

/// Appends the number that it is called with to a list.
struct journal {
  std::vector<berth::op_tag> calls;
  berth::launch_request entry(berth::op_tag tag, double bytes = 1e6) {
    auto r = work_of(bytes, tag);
    r.work = {this, [](void* self, const berth::work_call& c) { static_cast<journal*>(self)->calls.push_back(c.tag); }};
    return r;
  }
};

void a_stream_runs_in_the_order_of_submission(any_machine& m) {
  const devices d(m);
  journal j;
  const auto s = must(m.make_stream(d.first));
  for (berth::op_tag t = 0; t < 5; ++t) must(m.launch(s, j.entry(t, t % 2 == 0 ? 1e7 : 1e3)));
  must(m.synchronize(s));
  BOOST_TEST(j.calls == (std::vector<berth::op_tag>{0, 1, 2, 3, 4}), boost::test_tools::per_element());
}

void events_order_streams_of_different_devices(any_machine& m) {
  const devices d(m);
  journal j;
  const auto a = must(m.make_stream(d.first)), b = must(m.make_stream(d.second));
  const auto e = must(m.make_event());
  must(m.launch(a, j.entry(1, 1e8)));
  must(m.record(a, e));
  must(m.wait(b, e));
  must(m.launch(b, j.entry(2, 1)));
  must(m.synchronize(b));
  BOOST_TEST(j.calls == (std::vector<berth::op_tag>{1, 2}), boost::test_tools::per_element());
}

void events_order_the_cpu_and_a_gpu(any_machine& m) {
  const devices d(m);
  journal j;
  const auto gpu = must(m.make_stream(d.first)), cpu = must(m.make_stream(d.cpu));
  const auto there = must(m.make_event()), back = must(m.make_event());
  must(m.launch(gpu, j.entry(1, 1e7)));
  must(m.record(gpu, there));
  must(m.wait(cpu, there));
  must(m.launch(cpu, j.entry(2, 1e6)));
  must(m.record(cpu, back));
  must(m.wait(gpu, back));
  must(m.launch(gpu, j.entry(3)));
  must(m.synchronize(gpu));
  BOOST_TEST(j.calls == (std::vector<berth::op_tag>{1, 2, 3}), boost::test_tools::per_element());
}

void a_wait_without_a_record_has_no_effect(any_machine& m) {
  const devices d(m);
  const auto s = must(m.make_stream(d.first));
  must(m.wait(s, must(m.make_event())));
  must(m.launch(s, work_of(1e6)));
  must(m.synchronize(s));
}

void a_wait_binds_to_the_record_before_it(any_machine& m) {
  const devices d(m);
  journal j;
  const auto a = must(m.make_stream(d.first)), b = must(m.make_stream(d.second));
  const auto e = must(m.make_event());
  must(m.launch(a, j.entry(1, 1e6)));
  must(m.record(a, e));
  must(m.wait(b, e));  // for the first record
  must(m.launch(b, j.entry(2, 1e3)));
  const auto gate = must(m.make_event());
  must(m.record(b, gate));
  must(m.wait(a, gate));  // the second record can come only after b went on
  must(m.launch(a, j.entry(3, 1e6)));
  must(m.record(a, e));
  must(m.synchronize(a));
  BOOST_TEST(j.calls == (std::vector<berth::op_tag>{1, 2, 3}), boost::test_tools::per_element());
}

void an_event_is_ready_after_its_stream_was_synchronized(any_machine& m) {
  const devices d(m);
  const auto s = must(m.make_stream(d.first));
  const auto e = must(m.make_event());
  BOOST_TEST(must(m.ready(e)));  // never recorded: nothing to wait for
  must(m.launch(s, work_of(1e8)));
  must(m.record(s, e));
  must(m.synchronize(s));
  BOOST_TEST(must(m.ready(e)));
}

/// Keeps the machine's threads in a launch until it is open; the caller's thread passes, or nobody could open it.
struct gate {
  std::atomic<bool> open = false;
  std::thread::id caller = std::this_thread::get_id();
  ~gate() { open = true; }
  static void hold(void* self, const berth::work_call&) {
    const auto& g = *static_cast<gate*>(self);
    while (!g.open && std::this_thread::get_id() != g.caller) std::this_thread::yield();
  }
};

void an_event_is_not_ready_while_its_work_is_under_way(any_machine& m) {
  const devices d(m);
  gate g;
  const auto s = must(m.make_stream(d.first));
  const auto e = must(m.make_event());
  auto r = work_of(1e9);
  r.work = {&g, gate::hold};
  must(m.launch(s, r));
  must(m.record(s, e));
  BOOST_TEST(!must(m.ready(e)));
  g.open = true;
  must(m.synchronize(e));
  BOOST_TEST(must(m.ready(e)));
}

void polling_finishes_the_work(any_machine& m) {
  const devices d(m);
  const auto s = must(m.make_stream(d.first));
  const auto e = must(m.make_event());
  must(m.launch(s, work_of(1e7)));
  must(m.record(s, e));
  for (long polls = 0; !must(m.ready(e)); ++polls) {
    BOOST_REQUIRE(polls < 100'000'000);
    berth::advance_to_next(m);
  }
  must(m.synchronize(s));
  BOOST_TEST(!berth::advance_to_next(m));
}

void what_does_not_fit_is_an_error_and_the_run_goes_on(any_machine& m) {
  const devices d(m);
  const auto all = m.topology().devices[d.first].memory;
  const auto r = m.allocate(d.first, all + berth::GiB, berth::memory_kind::plain);
  refused(r, errc::out_of_memory);
  BOOST_TEST(r.error().needed >= all);
  BOOST_TEST(r.error().available < r.error().needed);
  const auto s = must(m.make_stream(d.first));
  const auto b = must(m.allocate(d.first, small, berth::memory_kind::plain));
  must(m.launch(s, work_of(1e6)));
  must(m.deallocate(s, b));
  must(m.synchronize(s));
}

void freed_memory_can_be_allocated_again(any_machine& m) {
  const devices d(m);
  const auto s = must(m.make_stream(d.first));
  const auto most = m.topology().devices[d.first].free / 2 + berth::MiB;  // two at a time do not fit
  for (int i = 0; i < 3; ++i) {
    const auto b = must(m.allocate(d.first, most, berth::memory_kind::plain));
    refused(m.allocate(d.first, most, berth::memory_kind::plain), errc::out_of_memory);
    must(m.launch(s, work_of(1e6)));
    must(m.deallocate(s, b));
    must(m.synchronize(s));
  }
}

void bytes_survive_the_way_to_a_device_and_back(any_machine& m) {
  const devices d(m);
  const auto s = must(m.make_stream(d.first));
  const auto host = must(m.allocate(d.cpu, 2 * small, berth::memory_kind::pinned));
  const auto device = must(m.allocate(d.first, small, berth::memory_kind::plain));
  const berth::storage_range stored{0, 4096, small};
  must(m.read(s, {stored, {host, 0, small}}));
  must(m.copy(s, {{host, 0, small}, {device, 0, small}}));
  must(m.copy(s, {{device, 0, small}, {host, small, small}}));
  must(m.synchronize(s));
  const auto sum = must(m.checksum(stored));
  BOOST_TEST(must(m.checksum(berth::buffer_range{host, 0, small})) == sum);
  BOOST_TEST(must(m.checksum(berth::buffer_range{device, 0, small})) == sum);
  BOOST_TEST(must(m.checksum(berth::buffer_range{host, small, small})) == sum);
  must(m.deallocate(s, host));
  must(m.deallocate(s, device));
  must(m.synchronize(s));
}

void bytes_survive_the_way_between_gpus(any_machine& m) {
  const devices d(m);
  const auto s = must(m.make_stream(d.first));
  const auto a = must(m.allocate(d.first, small, berth::memory_kind::plain));
  const auto b = must(m.allocate(d.second, 2 * small, berth::memory_kind::plain));
  const berth::storage_range stored{0, 0, small};
  must(m.read(s, {stored, {a, 0, small}}));
  must(m.copy(s, {{a, 0, small}, {b, 0, small}}));
  must(m.copy(s, {{a, 0, small}, {b, small, small}, berth::transfer_kind::message}));
  must(m.synchronize(s));
  BOOST_TEST(must(m.checksum(berth::buffer_range{b, 0, small})) == must(m.checksum(stored)));
  BOOST_TEST(must(m.checksum(berth::buffer_range{b, small, small})) == must(m.checksum(stored)));
}

void a_read_of_another_place_has_another_checksum(any_machine& m) {
  const devices d(m);
  const auto s = must(m.make_stream(d.first));
  const auto b = must(m.allocate(d.first, small, berth::memory_kind::plain));
  must(m.read(s, {{0, 4097, small}, {b, 0, small}}));
  must(m.synchronize(s));
  BOOST_TEST(must(m.checksum(berth::buffer_range{b, 0, small})) !=
             must(m.checksum(berth::storage_range{0, 4096, small})));
}

void a_later_copy_replaces_what_was_there(any_machine& m) {
  const devices d(m);
  const auto s = must(m.make_stream(d.first));
  const auto b = must(m.allocate(d.first, small, berth::memory_kind::plain));
  must(m.read(s, {{0, 0, small}, {b, 0, small}}));
  must(m.read(s, {{0, small, small}, {b, 0, small}}));
  must(m.synchronize(s));
  BOOST_TEST(must(m.checksum(berth::buffer_range{b, 0, small})) ==
             must(m.checksum(berth::storage_range{0, small, small})));
}

void a_copy_of_nothing_completes(any_machine& m) {
  const devices d(m);
  const auto s = must(m.make_stream(d.first));
  const auto a = must(m.allocate(d.cpu, small, berth::memory_kind::pinned));
  const auto b = must(m.allocate(d.first, small, berth::memory_kind::plain));
  must(m.copy(s, {{a, 0, 0}, {b, 0, 0}}));
  must(m.synchronize(s));
}

void handles_of_nobody_are_refused(any_machine& m) {
  const devices d(m);
  const auto s = must(m.make_stream(d.first));
  const auto b = must(m.allocate(d.first, small, berth::memory_kind::plain));
  const berth::stream_id no_stream{12345};
  const berth::event_id no_event{1234567};
  const berth::buffer_id no_buffer{123456};
  refused(m.launch(no_stream, work_of(1)), errc::invalid_argument);
  refused(m.synchronize(no_stream), errc::invalid_argument);
  refused(m.record(s, no_event), errc::invalid_argument);
  refused(m.wait(s, no_event), errc::invalid_argument);
  refused(m.ready(no_event), errc::invalid_argument);
  refused(m.deallocate(s, no_buffer), errc::invalid_argument);
  refused(m.copy(s, {{no_buffer, 0, 1}, {b, 0, 1}}), errc::invalid_argument);
  refused(m.make_stream(77), errc::unknown_device);
  refused(m.allocate(77, 1, berth::memory_kind::plain), errc::unknown_device);
}

void ranges_outside_their_buffer_are_refused(any_machine& m) {
  const devices d(m);
  const auto s = must(m.make_stream(d.first));
  const auto a = must(m.allocate(d.cpu, small, berth::memory_kind::pinned));
  const auto b = must(m.allocate(d.first, small, berth::memory_kind::plain));
  refused(m.copy(s, {{a, 0, small}, {b, 1, small}}), errc::invalid_argument);
  refused(m.copy(s, {{a, 0, small}, {b, 0, small - 1}}), errc::invalid_argument);
  refused(m.read(s, {{0, 0, small}, {b, ~berth::bytes{0}, small}}), errc::invalid_argument);
}

void a_freed_buffer_is_refused(any_machine& m) {
  const devices d(m);
  const auto s = must(m.make_stream(d.first));
  const auto b = must(m.allocate(d.first, small, berth::memory_kind::plain));
  must(m.deallocate(s, b));
  refused(m.deallocate(s, b), errc::invalid_argument);
  refused(m.read(s, {{0, 0, small}, {b, 0, small}}), errc::invalid_argument);
}

void a_disk_runs_nothing(any_machine& m) {
  if (const auto disk = m.topology().find("disk")) refused(m.make_stream(*disk), errc::unsupported);
}

struct seen_activities {
  std::vector<berth::activity> all;
  berth::observer as_observer() {
    return {this, [](void* self, const berth::activity& a) { static_cast<seen_activities*>(self)->all.push_back(a); }};
  }
};

void activities_are_told_when_they_are_over(any_machine& m) {
  const devices d(m);
  seen_activities seen;
  m.observe(seen.as_observer());
  const auto s = must(m.make_stream(d.first));
  const auto b = must(m.allocate(d.first, small, berth::memory_kind::plain));
  must(m.read(s, {{0, 0, small}, {b, 0, small}, 0, 7}));
  must(m.launch(s, work_of(1e6, 8)));
  must(m.deallocate(s, b));
  must(m.synchronize(s));
  m.observe({});
  must(m.launch(s, work_of(1e6, 9)));
  must(m.synchronize(s));
  BOOST_REQUIRE(seen.all.size() == 4);
  using kind = berth::activity_kind;
  const std::vector<kind> kinds{kind::allocate, kind::read, kind::launch, kind::free};
  for (std::size_t i = 0; i < kinds.size(); ++i) BOOST_TEST((seen.all[i].kind == kinds[i]), i);
  BOOST_TEST(seen.all[1].tag == 7u);
  BOOST_TEST(seen.all[2].tag == 8u);
  BOOST_TEST(seen.all[1].size == small);
  BOOST_TEST(seen.all[1].start < seen.all[1].end);
  BOOST_TEST(seen.all[1].end <= seen.all[2].start);  // one stream
  BOOST_TEST(seen.all[2].device == d.first);
}

void time_never_runs_backwards(any_machine& m) {
  const devices d(m);
  const auto s = must(m.make_stream(d.first));
  auto last = m.now();
  for (int i = 0; i < 20; ++i) {
    must(m.launch(s, work_of(1e5)));
    must(m.synchronize(s));
    BOOST_TEST(m.now() >= last);
    last = m.now();
  }
}

/// What a streamed decode does: a ring of two slots, copies ahead of computes, for a few rounds.
void a_ring_of_slots_streams_the_right_bytes(any_machine& m) {
  const devices d(m);
  constexpr int items = 5, rounds = 4, slots = 2;
  const auto copies = must(m.make_stream(d.first)), computes = must(m.make_stream(d.first));
  const auto home = must(m.allocate(d.cpu, items * small, berth::memory_kind::pinned));
  const auto ring = must(m.allocate(d.first, slots * small, berth::memory_kind::plain));
  std::vector<berth::event_id> copied, freed;
  for (int k = 0; k < slots; ++k) {
    copied.push_back(must(m.make_event()));
    freed.push_back(must(m.make_event()));
  }
  for (berth::bytes i = 0; i < items; ++i) must(m.read(copies, {{0, i * small, small}, {home, i * small, small}}));
  must(m.synchronize(copies));
  journal j;
  berth::op_tag step = 0;
  for (int round = 0; round < rounds; ++round)
    for (berth::bytes i = 0; i < items; ++i, ++step) {
      const auto k = step % slots;
      must(m.wait(copies, freed[k]));
      must(m.copy(copies, {{home, i * small, small}, {ring, k * small, small}}));
      must(m.record(copies, copied[k]));
      must(m.wait(computes, copied[k]));
      must(m.launch(computes, j.entry(step, 1e5)));
      must(m.record(computes, freed[k]));
    }
  must(m.synchronize(computes));
  BOOST_TEST(j.calls.size() == std::size_t{items} * rounds);
  for (berth::op_tag t = 0; t < j.calls.size(); ++t) BOOST_TEST(j.calls[t] == t);
  // The last two items of a round are in the ring, the last one in the slot of the last step.
  const auto last = (step - 1) % slots;
  BOOST_TEST(must(m.checksum(berth::buffer_range{ring, last * small, small})) ==
             must(m.checksum(berth::storage_range{0, (items - 1) * small, small})));
}

}  // namespace

std::vector<test_case> all_cases() {
#define CASE(name) {#name, name}
  std::vector<test_case> all{CASE(a_stream_runs_in_the_order_of_submission),
                             CASE(events_order_streams_of_different_devices),
                             CASE(events_order_the_cpu_and_a_gpu),
                             CASE(a_wait_without_a_record_has_no_effect),
                             CASE(a_wait_binds_to_the_record_before_it),
                             CASE(an_event_is_ready_after_its_stream_was_synchronized),
                             CASE(an_event_is_not_ready_while_its_work_is_under_way),
                             CASE(polling_finishes_the_work),
                             CASE(what_does_not_fit_is_an_error_and_the_run_goes_on),
                             CASE(freed_memory_can_be_allocated_again),
                             CASE(bytes_survive_the_way_to_a_device_and_back),
                             CASE(bytes_survive_the_way_between_gpus),
                             CASE(a_read_of_another_place_has_another_checksum),
                             CASE(a_later_copy_replaces_what_was_there),
                             CASE(a_copy_of_nothing_completes),
                             CASE(handles_of_nobody_are_refused),
                             CASE(ranges_outside_their_buffer_are_refused),
                             CASE(a_freed_buffer_is_refused),
                             CASE(a_disk_runs_nothing),
                             CASE(activities_are_told_when_they_are_over),
                             CASE(time_never_runs_backwards),
                             CASE(a_ring_of_slots_streams_the_right_bytes)};
#undef CASE
  for (auto& c : memory_cases()) all.push_back(std::move(c));
  return all;
}

}  // namespace conformance
