// SPDX-License-Identifier: Apache-2.0
// Memory of the host machine: how much there is, when it comes back, what happens where it cannot be locked.
#include <boost/test/unit_test.hpp>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "host_generated_storage.hpp"

import berth;
import berth.host;

BOOST_AUTO_TEST_SUITE(machine_memory)

namespace {

using namespace berth;
using namespace host_test;

const topology& box() {
  static const auto made = *preset("2x3090");
  return made;
}
device_index cpu() { return *topology_view(box()).first(device_kind::cpu); }

template <class T>
T must(result<T> r) {
  BOOST_REQUIRE_MESSAGE(r.has_value(), (r ? "" : std::string(r.error().detail.view())));
  return *std::move(r);
}

/// A GPU whose memory is that of the CPU, in pieces of 4 KiB.
topology shared_memory() {
  topology t;
  t.name = "one chip";
  device c;
  c.id = "cpu";
  c.kind = device_kind::cpu;
  c.memory = c.free = 64 * KiB;
  c.granularity = 4 * KiB;
  t.add(c);
  device g;
  g.id = device_id(0);
  g.shares_memory_of = 0;
  t.add(g);
  return t;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_device_has_its_free_memory_and_says_what_is_missing) {
  host::machine m(box(), {});
  const auto all = box().devices[0].free;
  const auto half = must(m.allocate(0, all / 2, memory_kind::plain));
  const auto r = m.allocate(0, all, memory_kind::plain);
  BOOST_REQUIRE(!r.has_value());
  BOOST_TEST((r.error().code == errc::out_of_memory));
  BOOST_TEST(r.error().subject.view() == "0");
  BOOST_TEST(r.error().needed == round_up(all, box().devices[0].granularity));
  BOOST_TEST(r.error().available == all - m.used(0));
  BOOST_TEST(r.error().detail.view().find("largest in use: ") != std::string_view::npos);
  BOOST_TEST(m.used(0) == round_up(all / 2, box().devices[0].granularity));
  BOOST_TEST(!m.allocate(0, ~bytes{0}, memory_kind::plain).has_value());
  must(m.allocate(1, all, memory_kind::plain));
  const auto s = must(m.make_stream(0));
  must(m.deallocate(s, half));
  must(m.synchronize(s));
  BOOST_TEST(m.used(0) == 0u);
  BOOST_TEST(m.highest(0) == round_up(all / 2, box().devices[0].granularity));
  must(m.allocate(0, all, memory_kind::plain));
}

BOOST_AUTO_TEST_CASE(a_shared_pool_is_counted_once_and_in_pieces) {
  const auto t = shared_memory();
  host::machine m(t, {});
  must(m.allocate(0, 1, memory_kind::plain));
  BOOST_TEST(m.used(0) == 4 * KiB);
  BOOST_TEST(m.used(1) == 4 * KiB);
  must(m.allocate(1, 60 * KiB, memory_kind::plain));
  for (const device_index d : {0u, 1u}) {
    const auto r = m.allocate(d, 1, memory_kind::plain);
    BOOST_REQUIRE(!r.has_value());
    BOOST_TEST(r.error().available == 0u);
  }
}

BOOST_AUTO_TEST_CASE(memory_comes_back_when_its_stream_gets_there_and_nobody_uses_it) {
  for (const int threads : {0, 2}) {
    generated_files files({{KiB, 0}});
    host::machine m(box(), {.storage = files.as_storage(), .threads = threads});
    const auto uses = must(m.make_stream(0)), frees = must(m.make_stream(0));
    const auto b = must(m.allocate(0, KiB, memory_kind::plain));
    const auto c = must(m.allocate(0, KiB, memory_kind::plain));
    must(m.read(uses, {{0, 0, KiB}, {b, 0, KiB}}));
    for (int i = 0; i < 200; ++i) must(m.copy(uses, {{b, 0, KiB}, {c, 0, KiB}}));
    must(m.deallocate(frees, b));  // too early: the other stream is not through
    must(m.synchronize(frees));
    BOOST_TEST((m.address(b) == nullptr));
    must(m.synchronize(uses));
    BOOST_TEST(must(m.checksum(buffer_range{c, 0, KiB})) == must(m.checksum(storage_range{0, 0, KiB})));
    BOOST_TEST(m.used(0) == round_up(KiB, box().devices[0].granularity));
  }
}

BOOST_AUTO_TEST_CASE(buffers_begin_at_pages_and_nothing_has_no_address) {
  host::machine m(box(), {});
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  for (const bytes size : {bytes{1}, 3 * MiB}) {
    const auto b = must(m.allocate(0, size, memory_kind::plain));
    auto* at = m.address(b);
    BOOST_REQUIRE((at != nullptr));
    BOOST_TEST(reinterpret_cast<std::uintptr_t>(at) % page == 0u);
    at[size - 1] = std::byte{1};
  }
  BOOST_TEST((m.address(must(m.allocate(0, 0, memory_kind::plain))) == nullptr));
  BOOST_TEST((m.address(buffer_id{77}) == nullptr));
}

/// In a child process that may lock nothing: limits bind the superuser only where it lost the right to lock as well, so
/// the child gives up its rights.
BOOST_AUTO_TEST_CASE(without_the_right_to_lock_pinned_memory_is_pageable_with_a_warning) {
  const auto child = ::fork();
  BOOST_REQUIRE(child >= 0);
  if (child == 0) {
    const rlimit none{0, 0};
    if (::setrlimit(RLIMIT_MEMLOCK, &none) != 0) ::_exit(10);
    if (::geteuid() == 0 && ::setuid(65534) != 0) ::_exit(11);
    generated_files files({{MiB, 0}});
    host::machine m(box(), {.storage = files.as_storage()});
    const auto s = m.make_stream(0);
    if (!m.warnings().empty()) ::_exit(12);
    const auto a = m.allocate(cpu(), MiB, memory_kind::pinned), b = m.allocate(cpu(), MiB, memory_kind::pinned);
    if (!s || !a || !b) ::_exit(13);
    if (m.warnings().size() != 1) ::_exit(14);
    const auto says = m.warnings()[0].view();
    for (const std::string_view word : {"pageable", "1.00 MiB", "ulimit -l"})
      if (says.find(word) == std::string_view::npos) ::_exit(15);
    if (!m.read(*s, {{0, 0, MiB}, {*a, 0, MiB}}) || !m.copy(*s, {{*a, 0, MiB}, {*b, 0, MiB}})) ::_exit(16);
    if (!m.synchronize(*s) || std::memcmp(m.address(*a), m.address(*b), MiB) != 0) ::_exit(17);
    ::_exit(0);
  }
  int status = 0;
  BOOST_REQUIRE(::waitpid(child, &status, 0) == child);
  BOOST_TEST(WIFEXITED(status));
  BOOST_TEST(WEXITSTATUS(status) == 0);
}

BOOST_AUTO_TEST_CASE(what_the_system_refuses_is_out_of_memory_and_takes_nothing) {
  topology t;
  t.name = "more than an address space";
  device c;
  c.id = "cpu";
  c.kind = device_kind::cpu;
  c.memory = c.free = bytes{1} << 60;
  t.add(c);
  host::machine m(t, {});
  const auto r = m.allocate(0, bytes{1} << 59, memory_kind::plain);
  BOOST_REQUIRE(!r.has_value());
  BOOST_TEST((r.error().code == errc::out_of_memory));
  BOOST_TEST(r.error().detail.view().find("operating system") != std::string_view::npos);
  BOOST_TEST(m.used(0) == 0u);
  must(m.allocate(0, MiB, memory_kind::plain));
}

BOOST_AUTO_TEST_CASE(every_bound_is_an_error_and_the_machine_goes_on) {
  const auto full = [](const auto& r, std::uint64_t most) {
    BOOST_REQUIRE(!r.has_value());
    BOOST_TEST((r.error().code == errc::capacity));
    BOOST_TEST(r.error().available == most);
    BOOST_TEST(r.error().needed == most + 1);
  };
  host::machine m(box(), {.streams = 2, .events = 3, .buffers = 4, .items = 5});
  const auto s = must(m.make_stream(0));
  must(m.make_stream(0));
  full(m.make_stream(0), 2);
  const auto e = must(m.make_event());
  must(m.make_event());
  must(m.make_event());
  full(m.make_event(), 3);
  std::vector<buffer_id> buffers;
  for (int i = 0; i < 4; ++i) buffers.push_back(must(m.allocate(0, 1, memory_kind::plain)));
  full(m.allocate(0, 1, memory_kind::plain), 4);
  for (int i = 0; i < 5; ++i) must(m.launch(s, {}));
  full(m.launch(s, {}), 5);
  full(m.record(s, e), 5);
  full(m.wait(s, e), 5);
  full(m.deallocate(s, buffers[0]), 5);
  BOOST_TEST((m.address(buffers[0]) != nullptr));
  must(m.synchronize(s));
  for (int round = 0; round < 100; ++round) {  // records of an event take no room for good
    must(m.record(s, e));
    must(m.wait(s, e));
    must(m.synchronize(e));
    must(m.synchronize(s));
  }
  must(m.deallocate(s, buffers[0]));
  must(m.synchronize(s));
  must(m.allocate(0, 1, memory_kind::plain));
}

BOOST_AUTO_TEST_SUITE_END()
