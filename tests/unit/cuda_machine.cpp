// SPDX-License-Identifier: Apache-2.0
// What the CUDA backend does beyond what every machine must: on the fake runtime.
#include <boost/test/unit_test.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "rehearsal.hpp"

import berth;
import berth.cuda;

namespace {

using berth::errc;
using fake_cuda::status;

template <class T>
T must(berth::result<T> r) {
  BOOST_REQUIRE_MESSAGE(r.has_value(), (r ? "" : std::string(r.error().detail.view())));
  return *std::move(r);
}
template <class T>
void refused(const berth::result<T>& r, errc code) {
  BOOST_REQUIRE(!r.has_value());
  BOOST_TEST(std::string(name_of(r.error().code)) == std::string(name_of(code)));
}

constexpr berth::device_index gpu0 = 0, gpu1 = 1, cpu = 2;

struct bench {
  explicit bench(berth::cuda::machine_options o = rehearsal::small_machine(), fake_cuda::options f = {})
      : cuda(f), box(*berth::preset("2x3090")), m(cuda.table(), box, o) {}
  fake_cuda::runtime cuda;
  berth::topology box;
  berth::cuda::machine m;
};

}  // namespace

BOOST_AUTO_TEST_CASE(only_gpus_that_get_a_stream_or_memory_are_touched) {
  bench b;
  BOOST_TEST(b.cuda.calls() == 0u);
  (void)must(b.m.make_event());
  BOOST_TEST(b.cuda.contexts().empty());
  (void)must(b.m.allocate(gpu1, 1000, berth::memory_kind::plain));
  (void)must(b.m.make_stream(cpu));  // goes to the GPU that is in use
  (void)must(b.m.allocate(cpu, 1000, berth::memory_kind::pinned));
  BOOST_TEST((b.cuda.contexts() == std::set<int>{1}));
}

BOOST_AUTO_TEST_CASE(gpus_of_a_topology_can_be_other_cuda_devices) {
  const std::vector<berth::cuda::device_ordinal> swapped{{0, 1}, {1, 5}};
  auto o = rehearsal::small_machine();
  o.ordinals = swapped;
  bench b(o);
  (void)must(b.m.make_stream(gpu0));
  BOOST_TEST((b.cuda.contexts() == std::set<int>{1}));
  refused(b.m.make_stream(gpu1), errc::unknown_device);
}

BOOST_AUTO_TEST_CASE(adopted_streams_are_handed_out_and_not_destroyed) {
  fake_cuda::runtime cuda;
  const auto box = *berth::preset("2x3090");
  void* mine = nullptr;
  BOOST_REQUIRE((cuda.table().set_device(1) == status::success));
  BOOST_REQUIRE((cuda.table().stream_create(&mine) == status::success));
  {
    const std::vector<berth::cuda::adopted_stream> given{{1, mine}};
    auto o = rehearsal::small_machine();
    o.streams = given;
    berth::cuda::machine m(cuda.table(), box, o);
    BOOST_TEST(m.native(must(m.make_stream(gpu0))) != mine);
    BOOST_TEST(m.native(must(m.make_stream(gpu1))) == mine);
    BOOST_TEST(m.native(must(m.make_stream(gpu1))) != mine);
  }
  BOOST_TEST(cuda.live().streams == 1u);
}

BOOST_AUTO_TEST_CASE(in_the_current_context_no_device_is_ever_chosen) {
  auto o = rehearsal::small_machine();
  o.current_context = true;
  bench b(o);
  const auto s = must(b.m.make_stream(gpu0));
  const auto x = must(b.m.allocate(gpu0, 1000, berth::memory_kind::plain));
  must(b.m.read(s, {{0, 0, 1000}, {x, 0, 1000}}));
  must(b.m.synchronize(s));
  refused(b.m.make_stream(gpu1), errc::invalid_argument);
  BOOST_TEST(b.cuda.calls("cudaSetDevice") == 0u);
}

BOOST_AUTO_TEST_CASE(memory_that_cannot_be_pinned_is_pageable_with_a_warning_and_copies_are_right) {
  fake_cuda::options f;
  f.pinnable = 64 * berth::KiB;
  f.seed = 7;
  bench b(rehearsal::small_machine(), f);
  constexpr berth::bytes size = 100'000;
  const auto s = must(b.m.make_stream(gpu0));
  const auto host = must(b.m.allocate(cpu, size, berth::memory_kind::pinned));
  BOOST_REQUIRE(b.m.warning().has_value());
  BOOST_TEST(b.m.warning()->detail.view().find("pageable") != std::string_view::npos);
  const auto device = must(b.m.allocate(gpu0, size, berth::memory_kind::plain));
  const auto back = must(b.m.allocate(cpu, size, berth::memory_kind::plain));
  must(b.m.read(s, {{3, 5, size}, {host, 0, size}}));
  must(b.m.copy(s, {{host, 0, size}, {device, 0, size}}));
  must(b.m.copy(s, {{device, 0, size}, {back, 0, size}}));
  must(b.m.synchronize(s));
  for (std::size_t i = 0; i < size; ++i) BOOST_REQUIRE((b.m.address(back)[i] == rehearsal::stored_byte(3, 5 + i)));
  BOOST_TEST(must(b.m.checksum(berth::buffer_range{device, 0, size})) ==
             must(b.m.checksum(berth::storage_range{3, 5, size})));
}

BOOST_AUTO_TEST_CASE(without_peer_access_copies_between_gpus_pass_through_slots) {
  fake_cuda::options f;
  f.peers = false;
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      f.seed = seed;
      bench b(rehearsal::small_machine(), f);
      constexpr berth::bytes size = 20'000;
      const auto x = must(b.m.allocate(gpu0, size, berth::memory_kind::plain));
      const auto y = must(b.m.allocate(gpu1, size, berth::memory_kind::plain));
      // On a stream of the source, of the target, and of neither.
      for (const auto device : {gpu0, gpu1, cpu}) {
        const auto s = must(b.m.make_stream(device));
        must(b.m.read(s, {{device, 0, size}, {x, 0, size}}));
        must(b.m.copy(s, {{x, 0, size}, {y, 0, size}}));
        must(b.m.synchronize(s));
        BOOST_TEST(must(b.m.checksum(berth::buffer_range{y, 0, size})) ==
                   must(b.m.checksum(berth::storage_range{device, 0, size})));
      }
      BOOST_TEST(b.cuda.copies_between_devices() == 0u);
      for (const auto& what : b.cuda.misuse()) BOOST_ERROR(what);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_storage_that_fails_is_found_by_whoever_waits_and_the_machine_goes_on) {
  auto o = rehearsal::small_machine();
  o.storage.read = [](void*, const berth::storage_range& from, std::span<std::byte> to) -> berth::result<berth::done> {
    if (from.file == 9) return berth::fail(errc::not_found, "nine.safetensors", "the file is gone");
    return rehearsal::stored_bytes(nullptr, from, to);
  };
  bench b(o);
  const auto s = must(b.m.make_stream(gpu0)), other = must(b.m.make_stream(gpu0));
  const auto e = must(b.m.make_event());
  const auto x = must(b.m.allocate(gpu0, 1000, berth::memory_kind::plain));
  must(b.m.read(s, {{9, 0, 1000}, {x, 0, 1000}}));
  must(b.m.record(s, e));
  refused(b.m.synchronize(e), errc::not_found);
  refused(b.m.synchronize(s), errc::not_found);
  refused(b.m.launch(s, {}), errc::not_found);
  must(b.m.read(other, {{1, 0, 1000}, {x, 0, 1000}}));
  must(b.m.synchronize(other));
  BOOST_TEST(must(b.m.checksum(berth::buffer_range{x, 0, 1000})) ==
             must(b.m.checksum(berth::storage_range{1, 0, 1000})));
}

BOOST_AUTO_TEST_CASE(a_kernel_launch_that_cuda_refuses_is_an_error_of_the_launch) {
  bench b;
  const auto s = must(b.m.make_stream(gpu0));
  b.cuda.set_last_error(static_cast<status>(9));  // of the caller, before
  berth::launch_request r;
  must(b.m.launch(s, r));
  r.work = {&b.cuda, [](void* cuda, const berth::work_call&) {
              static_cast<fake_cuda::runtime*>(cuda)->set_last_error(static_cast<status>(9));
            }};
  const auto refused_launch = b.m.launch(s, r);
  refused(refused_launch, errc::invalid_program);
  BOOST_TEST(refused_launch.error().detail.view().find("cudaErrorInvalidConfiguration") != std::string_view::npos);
}

BOOST_AUTO_TEST_CASE(frees_wait_for_their_stream) {
  bench b;
  const auto s = must(b.m.make_stream(gpu0));
  const auto x = must(b.m.allocate(gpu0, 1000, berth::memory_kind::plain));
  must(b.m.read(s, {{0, 0, 1000}, {x, 0, 1000}}));
  must(b.m.deallocate(s, x));
  BOOST_TEST(b.cuda.calls("cudaFree") == 0u);
  BOOST_TEST(b.m.used(gpu0) == 2 * berth::MiB);
  must(b.m.synchronize(s));
  BOOST_TEST(b.cuda.calls("cudaFree") == 1u);
  BOOST_TEST(b.m.used(gpu0) == 0u);
}

BOOST_AUTO_TEST_CASE(bounds_are_errors_before_anything_is_called) {
  auto o = rehearsal::small_machine();
  o.bounds = {1, 1, 1, 2, 8};
  bench b(o);
  const auto s = must(b.m.make_stream(cpu));
  (void)must(b.m.make_event());
  refused(b.m.make_event(), errc::capacity);
  (void)must(b.m.allocate(cpu, 10, berth::memory_kind::pinned));
  refused(b.m.allocate(cpu, 10, berth::memory_kind::pinned), errc::capacity);
  berth::launch_request r;
  r.work = {nullptr, [](void*, const berth::work_call&) {}};
  must(b.m.launch(s, r));
  must(b.m.launch(s, r));
  refused(b.m.launch(s, r), errc::capacity);
  must(b.m.synchronize(s));
  must(b.m.launch(s, r));
}

BOOST_AUTO_TEST_CASE(activities_have_the_times_of_the_gpu) {
  bench b;
  std::vector<berth::activity> seen;
  b.m.observe({&seen, [](void* to, const berth::activity& a) {
                 static_cast<std::vector<berth::activity>*>(to)->push_back(a);
               }});
  const auto s = must(b.m.make_stream(gpu0)), t = must(b.m.make_stream(gpu1));
  const auto x = must(b.m.allocate(cpu, berth::MiB, berth::memory_kind::pinned));
  const auto y = must(b.m.allocate(gpu0, berth::MiB, berth::memory_kind::plain));
  must(b.m.copy(s, {{x, 0, berth::MiB}, {y, 0, berth::MiB}}));
  berth::launch_request r;
  r.work = {nullptr, [](void*, const berth::work_call&) {}};
  for (int i = 0; i < 5; ++i) {
    must(b.m.launch(s, r));
    must(b.m.launch(t, r));
  }
  must(b.m.synchronize(s));
  must(b.m.synchronize(t));
  BOOST_REQUIRE(seen.size() == 13u);
  berth::picoseconds last = 0;
  for (std::size_t i = 2; i < seen.size(); ++i) {
    if (seen[i].device == gpu0) {
      BOOST_TEST(seen[i].end >= last);
      last = seen[i].end;
    }
    // 1 MiB at the fake's 20 bytes per ns
    if (seen[i].kind == berth::activity_kind::copy)
      BOOST_TEST(berth::seconds_from(seen[i].end - seen[i].start) > 50e-6);
  }
}
