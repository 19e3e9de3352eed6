// SPDX-License-Identifier: Apache-2.0
// Faults on real memory: a run ends with the right bytes in every launch or with the right error; nothing is leaked,
// and the same machine carries the plan out afterwards.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../unit/host_checked_work.hpp"
#include "../unit/host_small_plans.hpp"

import berth.host;

BOOST_AUTO_TEST_SUITE(host_machine)

namespace {

using namespace berth;
using namespace host_test;

constexpr std::uint64_t rounds = 3;

struct subject {
  berth::plan plan;
  compiled_plan programs;
};
/// Atoms on two GPUs and the CPU, streamed from memory and from the disk, with a prompt elsewhere; and one with ties.
const std::vector<subject>& subjects() {
  static const auto made = [] {
    std::vector<subject> out;
    for (const auto& shape : exec_test::shapes()) {
      if (shape.name != std::string_view("everything") && shape.name != std::string_view("tied, streamed")) continue;
      auto p = small_plan(shape);
      auto programs = compile_all(p);
      BOOST_REQUIRE_MESSAGE(programs.has_value(), shape.name);
      out.push_back({std::move(p), *std::move(programs)});
    }
    BOOST_REQUIRE(out.size() == 2u);
    return out;
  }();
  return made;
}

std::string words(const std::optional<error>& e) {
  return e ? std::string(name_of(e->code)) + ": " + std::string(e->detail.view()) : "completed";
}

/// Runs a plan on a machine; its error, if it had one. Whatever it came to, nothing is taken any more.
template <class M>
std::optional<error> attempt(M& m, const subject& s, host::machine& below, checked_work& work) {
  work.start_again();
  std::optional<error> out;
  {
    execution_options o;
    o.rounds = rounds;
    o.work = work.as_source();
    o.verify_reads = true;
    execution e(m, s.programs, o);
    if (const auto ok = e.run(); !ok) out = ok.error();
  }
  // A device that is lost cannot be waited for, but below it goes on.
  for (std::uint32_t stream = 0;; ++stream)
    if (const auto ok = below.synchronize(stream_id{stream}); !ok && ok.error().code == errc::invalid_argument) break;
  for (device_index d = 0; d < s.plan.devices.size(); ++d) BOOST_TEST(below.used(d) == 0u);
  BOOST_TEST(work.wrong() == "");
  if (!out) BOOST_TEST(work.calls(false) == rounds * s.plan.atoms.size());
  return out;
}

/// One run with faults, one without them on the same machine. `fail_at`: the storage's own failure.
std::optional<error> survived(const subject& s, const std::string& faults, int threads,
                              const std::vector<errc>& allowed, std::uint64_t seed = 1, int fail_at = 0) {
  const auto schedule = parse_faults(faults, seed);
  BOOST_REQUIRE_MESSAGE(schedule.has_value(), faults);
  generated_files files(files_of(s.plan));
  host::machine machine(s.plan.topology(), {.storage = files.as_storage(), .threads = threads, .items = 4096});
  counted counting(machine);
  faulty failing(counting, *schedule);
  checked_work work(s.plan);
  files.fail_at(fail_at);
  std::optional<error> out;
  BOOST_TEST_CONTEXT(faults << ", storage fails at " << fail_at << ", seed " << seed << ", threads " << threads) {
    out = attempt(failing, s, machine, work);
    files.fail_at(0);
    BOOST_TEST(counting.live() == 0u, words(out));
    if (out) {
      BOOST_TEST((std::find(allowed.begin(), allowed.end(), out->code) != allowed.end()), words(out));
      BOOST_TEST(!out->subject.view().empty());
    }
    const auto again = attempt(counting, s, machine, work);
    BOOST_TEST(!again.has_value(), words(again));
    BOOST_TEST(counting.live() == 0u);
  }
  return out;
}

/// How many calls of a kind a run without faults makes.
std::size_t calls_of(const subject& s, op_kind kind) {
  std::size_t n = 0;
  const auto count = [&](const program& p, std::uint64_t times) {
    for (const auto& o : p.operations) n += o.kind == kind ? times : 0;
  };
  count(s.programs.load, 1);
  count(s.programs.prefill, 1);
  count(s.programs.decode, rounds);
  return n;
}

/// Every subject, without threads and with them.
template <class F>
void everywhere(F check) {
  for (const auto& s : subjects())
    for (const int threads : {0, 2}) check(s, threads);
}

std::string nth(const char* kind, std::size_t n, const char* more = "") {
  return std::string(kind) + ":n=" + std::to_string(n) + more;
}

}  // namespace

BOOST_AUTO_TEST_CASE(without_faults_the_run_completes) {
  everywhere([](const subject& s, int threads) { BOOST_TEST(!survived(s, "", threads, {}).has_value()); });
  BOOST_TEST(calls_of(subjects()[0], op_kind::copy) > 10u);
  BOOST_TEST(calls_of(subjects()[0], op_kind::read) > 8u);
}

BOOST_AUTO_TEST_CASE(every_failing_allocation_ends_the_run) {
  everywhere([](const subject& s, int threads) {
    for (std::size_t i = 1; i <= calls_of(s, op_kind::allocate); ++i)
      BOOST_TEST(survived(s, nth("alloc", i), threads, {errc::out_of_memory}).has_value());
  });
}

BOOST_AUTO_TEST_CASE(every_copy_that_fails_once_is_tried_again_and_one_that_keeps_failing_ends_the_run) {
  everywhere([](const subject& s, int threads) {
    for (std::size_t i = 1; i <= calls_of(s, op_kind::copy); ++i) {
      BOOST_TEST(!survived(s, nth("copy", i), threads, {}).has_value());
      BOOST_TEST(survived(s, nth("copy", i, ",times=3"), threads, {errc::copy_failed}).has_value());
    }
  });
}

BOOST_AUTO_TEST_CASE(every_read_that_arrives_wrong_is_found_and_read_again) {
  everywhere([](const subject& s, int threads) {
    for (std::size_t i = 1; i <= calls_of(s, op_kind::read); ++i)
      BOOST_TEST(!survived(s, nth("read", i), threads, {}).has_value());
    BOOST_TEST(survived(s, "read:n=1,times=100000", threads, {errc::corrupted}).has_value());
  });
}

BOOST_AUTO_TEST_CASE(every_read_that_the_storage_refuses_ends_the_run) {
  everywhere([](const subject& s, int threads) {
    for (std::size_t i = 1; i <= calls_of(s, op_kind::read); ++i)
      BOOST_TEST(survived(s, "", threads, {errc::unreadable}, 1, static_cast<int>(i)).has_value());
  });
}

BOOST_AUTO_TEST_CASE(a_device_that_is_lost_at_some_time_ends_the_run) {
  everywhere([](const subject& s, int threads) {
    for (const std::string device : {"0", "cpu"})
      for (const std::string at : {"0ps", "300us", "1ms", "2ms", "5ms"})
        (void)survived(s, "lost:device=" + device + ",at=" + at, threads, {errc::device_lost});
    BOOST_TEST(survived(s, "lost:device=0,at=0ps", threads, {errc::device_lost}).has_value());
  });
}

BOOST_AUTO_TEST_CASE(random_faults_are_survived) {
  std::size_t failed = 0, runs = 0;
  for (std::uint64_t seed = 1; seed <= 50; ++seed)
    everywhere([&](const subject& s, int threads) {
      ++runs;
      failed +=
          survived(s, "random:rate=0.02", threads, {errc::out_of_memory, errc::copy_failed, errc::corrupted}, seed) ? 1
                                                                                                                    : 0;
    });
  BOOST_TEST(failed > 0u);
  BOOST_TEST(failed < runs);
}

BOOST_AUTO_TEST_SUITE_END()
