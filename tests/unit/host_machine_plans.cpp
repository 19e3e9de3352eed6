// SPDX-License-Identifier: Apache-2.0
// Whole plans on host memory: every launch finds the bytes that the plan says.
#include <boost/test/unit_test.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "host_checked_work.hpp"
#include "host_small_plans.hpp"

import berth.host;

BOOST_AUTO_TEST_SUITE(machine_plans)

namespace {

using namespace berth;
using namespace host_test;

struct settings {
  int threads = 0;
  bool verify = false;
  std::uint64_t prompts = 1, rounds = 40;
};

void runs_rightly(const plan& p, const settings& s) {
  const auto programs = compile_all(p);
  BOOST_REQUIRE_MESSAGE(programs.has_value(), (programs ? "" : std::string(programs.error().detail.view())));
  generated_files files(files_of(p));
  host::machine machine(p.topology(), {.storage = files.as_storage(), .threads = s.threads});
  BOOST_TEST(machine.threads() == s.threads);
  counted counting(machine);
  trace t(100'000);
  traced tracing(counting, t);
  checked_work work(p);
  execution_options o;
  o.prompts = s.prompts;
  o.rounds = s.rounds;
  o.work = work.as_source();
  o.verify_reads = s.verify;
  execution e(tracing, *programs, o);
  const auto ok = e.run();
  BOOST_REQUIRE_MESSAGE(ok.has_value(), (ok ? "" : std::string(ok.error().detail.view())));
  BOOST_TEST(work.wrong() == "");
  BOOST_TEST(work.calls(true) == s.prompts * p.atoms.size());
  BOOST_TEST(work.calls(false) == s.rounds * p.atoms.size());
  BOOST_TEST(counting.live() == 0u);
  for (device_index d = 0; d < p.devices.size(); ++d) BOOST_TEST(machine.used(d) == 0u);
  BOOST_TEST(t.lost() == 0u);
  picoseconds last = 0;
  std::size_t launches = 0;
  for (const auto& a : t.records()) {
    if (a.end < last) BOOST_TEST(a.end >= last);
    last = a.end;
    launches += a.kind == activity_kind::launch ? 1 : 0;
  }
  BOOST_TEST(launches == (s.prompts + s.rounds) * p.atoms.size());
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_launch_of_every_kind_of_plan_sees_its_weights_state_and_activation) {
  for (const auto& shape : exec_test::shapes()) {
    const auto p = small_plan(shape);
    for (const int threads : {0, 1, 3}) BOOST_TEST_CONTEXT(shape.name << ", threads " << threads)
    runs_rightly(p, {.threads = threads});
  }
}

BOOST_AUTO_TEST_CASE(reads_are_verified_against_storage) {
  for (const auto& shape : exec_test::shapes()) {
    const auto p = small_plan(shape);
    for (const int threads : {0, 3}) BOOST_TEST_CONTEXT(shape.name << ", threads " << threads)
    runs_rightly(p, {.threads = threads, .verify = true, .rounds = 4});
  }
}

BOOST_AUTO_TEST_CASE(several_pieces_of_a_prompt_go_before_decode) {
  for (const auto& shape : exec_test::shapes()) {
    const auto p = small_plan(shape);
    for (const int threads : {0, 3}) BOOST_TEST_CONTEXT(shape.name << ", threads " << threads)
    runs_rightly(p, {.threads = threads, .prompts = 5, .rounds = 4});
  }
}

BOOST_AUTO_TEST_SUITE_END()
