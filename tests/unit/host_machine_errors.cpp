// SPDX-License-Identifier: Apache-2.0
// What becomes of a stream in which something fails.
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "host_generated_storage.hpp"

import berth;
import berth.host;

BOOST_AUTO_TEST_SUITE(machine_errors)

namespace {

using namespace berth;
using namespace host_test;

constexpr bytes size = 4 * KiB;

template <class T>
T must(result<T> r) {
  BOOST_REQUIRE_MESSAGE(r.has_value(), (r ? "" : std::string(r.error().detail.view())));
  return *std::move(r);
}
template <class T>
void fails(const result<T>& r, std::string_view detail = "the disk went away") {
  BOOST_REQUIRE(!r.has_value());
  BOOST_TEST((r.error().code == errc::unreadable));
  BOOST_TEST(r.error().detail.view() == detail);
  BOOST_TEST(r.error().subject.view() == "file 0");
}

/// A machine whose first read fails.
struct failing {
  topology box = *preset("2x3090");
  generated_files files{{{64 * KiB, 0}}};
  host::machine m;
  buffer_id b;
  std::atomic<int> calls = 0;

  explicit failing(int threads)
      : m(box, {.storage = files.as_storage(), .threads = threads}), b(must(m.allocate(0, size, memory_kind::plain))) {
    files.fail_at(1);
  }
  launch_request counting() {
    launch_request r;
    r.work = {&calls, [](void* n, const work_call&) { ++*static_cast<std::atomic<int>*>(n); }};
    return r;
  }
  result<done> read(stream_id s) { return m.read(s, {{0, 0, size}, {b, 0, size}}); }
};

}  // namespace

BOOST_AUTO_TEST_CASE(a_stream_that_failed_carries_nothing_out_and_keeps_its_first_error) {
  for (const int threads : {0, 2}) {
    failing f(threads);
    const auto s = must(f.m.make_stream(0));
    must(f.m.launch(s, f.counting()));
    must(f.read(s));
    must(f.m.launch(s, f.counting()));
    fails(f.m.synchronize(s));
    must(f.m.launch(s, f.counting()));  // accepted, and passed over
    must(f.m.read(s, {{9, 0, size}, {f.b, 0, size}}));
    fails(f.m.synchronize(s));
    BOOST_TEST(f.calls == 1);
    BOOST_TEST(f.files.reads() == 1);
  }
}

BOOST_AUTO_TEST_CASE(an_error_reaches_what_waits_for_it_and_nothing_else) {
  for (const int threads : {0, 2}) {
    failing f(threads);
    const auto s = must(f.m.make_stream(0)), behind = must(f.m.make_stream(1)), beside = must(f.m.make_stream(1));
    const auto early = must(f.m.make_event()), late = must(f.m.make_event()), last = must(f.m.make_event());
    must(f.m.record(s, early));
    must(f.read(s));
    must(f.m.record(s, late));
    must(f.m.launch(behind, f.counting()));
    must(f.m.wait(behind, early));
    must(f.m.launch(behind, f.counting()));
    must(f.m.wait(behind, late));
    must(f.m.launch(behind, f.counting()));
    must(f.m.record(behind, last));
    must(f.m.launch(beside, f.counting()));
    fails(f.m.synchronize(last));
    must(f.m.synchronize(beside));
    BOOST_TEST(f.calls == 3);
    fails(f.m.synchronize(behind));
    fails(f.m.ready(late));
    BOOST_TEST(must(f.m.ready(early)));
    must(f.m.record(beside, late));  // the event tells of its latest record
    must(f.m.synchronize(late));
    BOOST_TEST(must(f.m.ready(late)));
  }
}

BOOST_AUTO_TEST_CASE(what_was_not_carried_out_is_not_told_but_frees_are) {
  for (const int threads : {0, 2}) {
    failing f(threads);
    trace t(64);
    traced tracing(f.m, t);
    const auto s = must(tracing.make_stream(0));
    must(f.read(s));
    must(tracing.launch(s, f.counting()));
    must(tracing.deallocate(s, f.b));
    fails(tracing.synchronize(s));
    BOOST_REQUIRE(t.records().size() == 1u);
    BOOST_TEST((t.records()[0].kind == activity_kind::free));
    BOOST_TEST(f.m.used(0) == 0u);
  }
}

BOOST_AUTO_TEST_CASE(polling_finds_the_error) {
  for (const int threads : {0, 2}) {
    failing f(threads);
    const auto s = must(f.m.make_stream(0));
    const auto e = must(f.m.make_event());
    must(f.m.launch(s, f.counting()));
    must(f.read(s));
    must(f.m.record(s, e));
    auto is = f.m.ready(e);
    for (long polls = 0; is && !*is; ++polls) {
      BOOST_REQUIRE(polls < 100'000'000);
      is = f.m.ready(e);
    }
    fails(is);
  }
}

BOOST_AUTO_TEST_CASE(without_storage_a_read_says_so) {
  const auto box = *preset("2x3090");
  host::machine m(box, {});
  const auto s = must(m.make_stream(0));
  const auto b = must(m.allocate(0, size, memory_kind::plain));
  must(m.read(s, {{0, 0, size}, {b, 0, size}}));
  const auto ok = m.synchronize(s);
  BOOST_REQUIRE(!ok.has_value());
  BOOST_TEST((ok.error().code == errc::unsupported));
  BOOST_TEST(!m.checksum(storage_range{0, 0, size}).has_value());
}

/// One call of `ready` carries out at most one item, so that a loop that polls stays responsive.
BOOST_AUTO_TEST_CASE(without_threads_work_is_done_by_whoever_waits_on_its_thread) {
  failing f(0);
  const auto s = must(f.m.make_stream(0)), other = must(f.m.make_stream(1)), needless = must(f.m.make_stream(1));
  const auto first = must(f.m.make_event()), e = must(f.m.make_event());
  for (int i = 0; i < 3; ++i) must(f.m.launch(s, f.counting()));
  must(f.m.record(s, first));
  must(f.m.wait(other, first));
  must(f.m.launch(other, f.counting()));
  must(f.m.record(other, e));
  must(f.m.launch(needless, f.counting()));
  BOOST_TEST(f.calls == 0);
  int polls = 1, before = 0;
  for (; !must(f.m.ready(e)); ++polls) {
    BOOST_TEST(f.calls <= before + 1);
    before = f.calls;
  }
  BOOST_TEST(f.calls == 4);  // not that of the stream that nobody waits for
  BOOST_TEST(polls == 7);    // four launches, two records and a wait
  must(f.m.synchronize(needless));
  BOOST_TEST(f.calls == 5);
}

BOOST_AUTO_TEST_CASE(streams_run_at_the_same_time_on_threads) {
  const auto box = *preset("2x3090");
  host::machine m(box, {.threads = 2});
  std::atomic<int> inside = 0;
  const auto meet = [](void* n, const work_call&) {  // returns when both are here
    auto& both = *static_cast<std::atomic<int>*>(n);
    for (++both; both < 2;) std::this_thread::yield();
  };
  const auto a = must(m.make_stream(0)), b = must(m.make_stream(1));
  launch_request r;
  r.work = {&inside, meet};
  must(m.launch(a, r));
  must(m.launch(b, r));
  must(m.synchronize(a));
  must(m.synchronize(b));
  BOOST_TEST(inside == 2);
}

BOOST_AUTO_TEST_SUITE_END()
