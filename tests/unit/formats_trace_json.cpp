// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "exec_run.hpp"

import berth.formats;

using namespace berth;

namespace {

json::value parsed(const std::string& text) {
  auto document = json::parse(text, "trace");
  if (!document) BOOST_TEST_MESSAGE(document.error().detail.view());
  BOOST_REQUIRE(document.has_value());
  return *std::move(document);
}

const json::array& events_of(const json::value& document) { return *document.find("traceEvents")->if_array(); }

std::string_view string_of(const json::value& v, std::string_view key) {
  const auto* m = v.find(key);
  return m == nullptr || m->if_string() == nullptr ? std::string_view() : *m->if_string();
}
std::uint64_t number_of(const json::value& v, std::string_view key) { return v.find(key)->to_uint64().value(); }
/// Picoseconds of a time in microseconds; exact up to 2^53 ps.
picoseconds ps(const json::value& v, std::string_view key) {
  return std::llround(v.find(key)->to_double().value() * 1e6);
}

std::vector<const json::value*> of_kind(const json::value& document, std::string_view kind) {
  std::vector<const json::value*> out;
  for (const auto& e : events_of(document))
    if (string_of(e, "ph") == kind) out.push_back(&e);
  return out;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(formats_trace_json)

BOOST_AUTO_TEST_CASE(every_activity_is_an_event_on_its_engine) {
  const auto p = small_plan(2);
  const auto r = streamed_run(3);
  const auto text = write_trace(p, r.trace, r.marks);
  BOOST_TEST(write_trace(p, r.trace, r.marks) == text);
  const auto document = parsed(text);
  BOOST_TEST(string_of(document, "displayTimeUnit") == "ns");
  BOOST_TEST(string_of(*document.find("otherData"), "format") == "berth.trace/1");
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::string> threads;
  std::map<std::uint64_t, std::string> processes;
  for (const auto* e : of_kind(document, "M")) {
    const std::string name(string_of(*e->find("args"), "name"));
    if (string_of(*e, "name") == "process_name") processes[number_of(*e, "pid")] = name;
    if (string_of(*e, "name") == "thread_name") threads[{number_of(*e, "pid"), number_of(*e, "tid")}] = name;
  }
  BOOST_TEST(processes.at(1) == "GPU 0 (RTX 4090)");
  BOOST_TEST(processes.at(3) == "cpu");
  std::size_t launches = 0, copies = 0;
  for (const auto* e : of_kind(document, "X")) {
    const auto thread = threads.at({number_of(*e, "pid"), number_of(*e, "tid")});
    if (thread == "phases") continue;
    BOOST_TEST(number_of(*e, "pid") == 1u);
    const auto launch = string_of(*e, "cat") == "launch";
    BOOST_TEST(thread == (launch ? "compute" : "copy in"));
    (launch ? launches : copies) += 1;
    if (launch) continue;
    BOOST_TEST(string_of(*e->find("args"), "from") == "cpu");
    BOOST_TEST(string_of(*e->find("args"), "to") == "0");
  }
  BOOST_TEST(launches == 4u);
  BOOST_TEST(copies == 4u);
  const auto last = of_kind(document, "X").back();
  BOOST_TEST(string_of(*last, "name") == "a1");
  BOOST_TEST(string_of(*last->find("args"), "phase") == "decode");
  BOOST_TEST(number_of(*last->find("args"), "round") == 2u);
  BOOST_TEST(number_of(*last->find("args"), "bytes") == 30u);
}

BOOST_AUTO_TEST_CASE(picoseconds_survive) {
  const auto p = small_plan(1);
  small_run r;
  const std::vector<std::pair<picoseconds, picoseconds>> times{{0, 1},
                                                               {999'999, 1'000'001},
                                                               {1'234'567'890'123, 1'234'567'890'124},
                                                               {4'000'000'000'000'001, 4'000'000'000'000'007}};
  for (const auto& [from, until] : times) r.launch(0, no_tag, from, until);
  const auto document = parsed(write_trace(p, r.trace, r.marks));
  std::size_t i = 0;
  for (const auto* e : of_kind(document, "X")) {
    if (string_of(*e, "cat") != "launch") continue;
    BOOST_TEST(ps(*e, "ts") == times[i].first);
    BOOST_TEST(ps(*e, "dur") == times[i].second - times[i].first);
    ++i;
  }
  BOOST_TEST(i == times.size());
}

BOOST_AUTO_TEST_CASE(counters_hold_memory_and_rates) {
  const auto p = small_plan(1);
  small_run r;
  r.add(activity_kind::allocate, 0, no_index, no_tag, 5, 5, 100);
  r.add(activity_kind::allocate, 0, no_index, no_tag, 7, 7, 11);
  r.copy(2, 0, no_tag, 0, 10, 10);
  r.copy(2, 1, no_tag, 5, 15, 5);
  r.add(activity_kind::free, 0, no_index, no_tag, 20, 20, 100);
  const auto document = parsed(write_trace(p, r.trace, r.marks));
  std::map<std::string, std::vector<std::pair<picoseconds, std::uint64_t>>, std::less<>> counters;
  for (const auto* e : of_kind(document, "C")) {
    const auto& args = *e->find("args")->if_object();
    BOOST_REQUIRE_EQUAL(args.size(), 1u);
    counters[std::string(string_of(*e, "name"))].emplace_back(ps(*e, "ts"), args[0].value.to_uint64().value());
  }
  using steps = std::vector<std::pair<picoseconds, std::uint64_t>>;
  constexpr std::uint64_t t = 1'000'000'000'000;
  BOOST_TEST((counters["memory"] == steps{{5, 100}, {7, 111}, {20, 11}}));
  BOOST_TEST((counters["in 0"] == steps{{0, t}, {10, 0}}));
  BOOST_TEST((counters["in 1"] == steps{{5, t / 2}, {15, 0}}));
  BOOST_TEST((counters["dram"] == steps{{0, t}, {5, 3 * t / 2}, {10, t / 2}, {15, 0}}));
  BOOST_TEST(counters.size() == 4u);
}

BOOST_AUTO_TEST_CASE(what_overlaps_on_an_engine_gets_threads_of_its_own) {
  const auto p = small_plan(1);
  small_run r;
  r.copy(2, 0, no_tag, 0, 10, 1);
  r.copy(2, 0, no_tag, 5, 15, 1);
  r.copy(2, 0, no_tag, 10, 20, 1);
  const auto document = parsed(write_trace(p, r.trace, r.marks));
  std::vector<std::uint64_t> threads;
  for (const auto* e : of_kind(document, "X"))
    if (string_of(*e, "cat") == "copy") threads.push_back(number_of(*e, "tid"));
  BOOST_TEST((threads == std::vector<std::uint64_t>{200, 201, 200}));
}

BOOST_AUTO_TEST_CASE(faults_are_instants) {
  const auto p = small_plan(1);
  small_run r;
  r.add(activity_kind::fault, 1, no_index, no_tag, 7, 9, 42);
  const auto document = parsed(write_trace(p, r.trace, r.marks));
  const auto found = of_kind(document, "i");
  BOOST_REQUIRE_EQUAL(found.size(), 1u);
  BOOST_TEST(number_of(*found[0], "pid") == 2u);
  BOOST_TEST(ps(*found[0], "ts") == 9);
  BOOST_TEST(number_of(*found[0]->find("args"), "bytes") == 42u);
}

BOOST_AUTO_TEST_CASE(hostile_names_stay_text) {
  auto p = small_plan(2);
  const std::string hostile = "\"}],\\\n<script>\t\x01</script>";
  p.atoms[0].name = hostile;
  p.model_id = "a\"b\\c";
  p.devices[0].model = "\"x\"";
  p.segments[0].name = "in \"0\"\n";
  const auto r = streamed_run(2);
  const auto document = parsed(write_trace(p, r.trace, r.marks));
  bool seen = false;
  for (const auto* e : of_kind(document, "X")) seen = seen || string_of(*e, "name") == hostile;
  BOOST_TEST(seen);
  BOOST_TEST(string_of(*document.find("otherData"), "model") == "a\"b\\c");
}

BOOST_AUTO_TEST_CASE(activities_of_unknown_devices_do_no_harm) {
  const auto p = small_plan(1);
  small_run r;
  for (const auto kind : {activity_kind::launch, activity_kind::copy, activity_kind::message, activity_kind::read,
                          activity_kind::allocate, activity_kind::free, activity_kind::fault})
    r.add(kind, 77, no_index, 12345, 0, 5, 9);
  const auto document = parsed(write_trace(p, r.trace, r.marks));
  BOOST_TEST(of_kind(document, "i").size() == 1u);
  const auto out = make_report(p, r.trace, r.marks);
  BOOST_TEST(out.segments[0].total == 0u);
}

BOOST_AUTO_TEST_CASE(large_traces_are_written_in_linear_time) {
  const auto p = small_plan(2);
  trace t(200'000);
  for (std::uint32_t i = 0; i < 100'000; ++i) {
    const picoseconds at = 40 * i;
    t.add({activity_kind::copy, 0, 2, {}, 2, at, at + 30, 30});
    t.add({activity_kind::launch, 0, no_index, {}, 3, at + 20, at + 40, 0});
  }
  const auto before = std::chrono::steady_clock::now();
  const auto text = write_trace(p, t, streamed_run(1).marks);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - before;
  BOOST_TEST_MESSAGE(text.size() << " bytes in " << taken.count() << " s");
  BOOST_TEST(text.size() > 200'000u * 100);
}

BOOST_AUTO_TEST_SUITE_END()
