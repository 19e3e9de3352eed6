// SPDX-License-Identifier: Apache-2.0
// The CUDA backend: whatever any call of the runtime returns, at any time of load, prompt and decode, a run completes
// rightly or ends with the right error, and every object of the runtime is given back.
#define BOOST_TEST_MODULE cuda_faults
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "streamed_programs.hpp"

import berth;
import berth.cuda;

namespace {

using berth::errc;
using fake_cuda::status;

struct outcome {
  std::optional<berth::error> error;
  rehearsal::log seen;
};

/// One run from load to release on a runtime, with everything that is made given back at the end.
outcome run(fake_cuda::runtime& cuda) {
  outcome out;
  rehearsal::callables work(cuda, the_plan().atoms.size());
  {
    berth::cuda::machine machine(cuda.table(), the_plan().topology(), rehearsal::small_machine());
    berth::execution_options o;
    o.rounds = rehearsal::rounds;
    o.work = work.source();
    berth::execution execution(machine, programs(), o);
    if (const auto ok = execution.run(); !ok) out.error = ok.error();
    if (out.error && out.error->code == errc::device_lost) {
      const auto before = cuda.calls();
      BOOST_TEST((machine.make_stream(0).error().code == errc::device_lost));
      BOOST_TEST((machine.allocate(0, 1, berth::memory_kind::plain).error().code == errc::device_lost));
      BOOST_TEST((machine.ready(berth::event_id{0}).error().code == errc::device_lost));
      BOOST_TEST(cuda.calls() == before);  // fails without asking again
    }
  }
  out.seen = work.seen;
  return out;
}

const outcome& calm(bool peers) {
  static const auto of = [](bool p) {
    fake_cuda::runtime cuda(rehearsal::runtime_options(0, p));
    return run(cuda);
  };
  static const std::array<outcome, 2> both{of(false), of(true)};
  return both[peers ? 1 : 0];
}

std::string words(const outcome& o) {
  return o.error ? std::string(name_of(o.error->code)) + ": " + std::string(o.error->subject.view()) + ": " +
                       std::string(o.error->detail.view())
                 : "completed";
}

void check_empty(const fake_cuda::runtime& cuda) {
  BOOST_TEST(cuda.live().total() == 0u);
  BOOST_TEST(cuda.live().device_bytes == 0u);
  BOOST_TEST(cuda.live().pinned_bytes == 0u);
  for (const auto& what : cuda.misuse()) BOOST_ERROR(what);
}

/// Every call of a run returns `s` once.
void every_call_fails(status s, bool sticky, const std::vector<errc>& allowed, bool must_fail, bool peers) {
  std::uint64_t failed = 0, runs = 0;
  for (std::uint64_t n = 1;; ++n) {
    fake_cuda::runtime cuda(rehearsal::runtime_options(n, peers));
    cuda.fail_any(n, s, sticky);
    const auto o = run(cuda);
    if (cuda.calls() < n) break;
    ++runs;
    failed += o.error ? 1 : 0;
    BOOST_TEST_CONTEXT("call " << n << " returns " << static_cast<int>(s) << (peers ? "" : ", no peers") << ": "
                               << words(o)) {
      check_empty(cuda);
      if (o.error) {
        BOOST_TEST((std::find(allowed.begin(), allowed.end(), o.error->code) != allowed.end()));
        BOOST_TEST(!o.error->subject.view().empty());
        BOOST_TEST(o.error->detail.view().find(berth::cuda::name_of(s)) != std::string_view::npos);
      } else {
        BOOST_TEST((o.seen == calm(peers).seen));
      }
      if (!sticky && n % 5 == 0) {
        const auto again = run(cuda);
        BOOST_TEST(!again.error.has_value(), words(again));
        BOOST_TEST((again.seen == calm(peers).seen));
        check_empty(cuda);
      }
    }
  }
  BOOST_TEST_MESSAGE("status " << static_cast<int>(s) << ": " << runs << " runs, " << failed << " ended with an error");
  BOOST_TEST(runs > 200u);
  // What is destroyed or made ready at the end may fail without harm; everything else has to be noticed.
  BOOST_TEST(failed > (must_fail ? runs / 2 : 0u));
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_run_computes_with_the_right_weights_in_any_order_that_cuda_may_choose) {
  for (const bool peers : {true, false}) {
    const auto& first = calm(peers);
    BOOST_REQUIRE_MESSAGE(!first.error.has_value(), words(first));
    BOOST_TEST(first.seen.launches == (rehearsal::rounds + 1) * 8);
    BOOST_TEST(first.seen.wrong_weights == 0u);
    for (std::uint64_t seed = 1; seed <= 100; ++seed) {
      fake_cuda::runtime cuda(rehearsal::runtime_options(seed, peers));
      const auto o = run(cuda);
      BOOST_TEST_CONTEXT("seed " << seed << " -> " << words(o)) {
        BOOST_TEST((o.seen == first.seen));
        check_empty(cuda);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(memory_that_is_refused_at_any_call_ends_the_run_with_out_of_memory) {
  for (const bool peers : {true, false})
    every_call_fails(status::memory_allocation, false, {errc::out_of_memory}, true, peers);
}

BOOST_AUTO_TEST_CASE(a_device_lost_at_any_call_ends_the_run_with_device_lost) {
  for (const auto s : {status::illegal_address, status::uncorrectable_ecc})
    every_call_fails(s, true, {errc::device_lost}, true, s == status::illegal_address);
}

BOOST_AUTO_TEST_CASE(a_driver_that_fails_at_any_call_ends_the_run_with_unavailable) {
  every_call_fails(status::system_driver_mismatch, false, {errc::unavailable}, true, true);
}

BOOST_AUTO_TEST_CASE(a_refused_launch_or_capture_at_any_call_ends_the_run_with_invalid_program) {
  every_call_fails(status::stream_capture_unsupported, false, {errc::invalid_program}, true, true);
}

BOOST_AUTO_TEST_CASE(a_refused_call_ends_the_run_or_is_a_copy_that_is_tried_again) {
  for (const bool peers : {true, false})
    every_call_fails(status::invalid_value, false, {errc::invalid_argument}, false, peers);
}

BOOST_AUTO_TEST_CASE(a_copy_that_keeps_failing_ends_the_run_with_copy_failed) {
  fake_cuda::runtime cuda(rehearsal::runtime_options(1, true));
  for (std::uint64_t n = 20; n < 23; ++n) cuda.fail("cudaMemcpyAsync", n, status::invalid_value);
  const auto o = run(cuda);
  BOOST_REQUIRE(o.error.has_value());
  BOOST_TEST((o.error->code == errc::copy_failed), words(o));
  check_empty(cuda);
}
