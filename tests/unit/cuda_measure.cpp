// SPDX-License-Identifier: Apache-2.0
// Measurements of GPUs against a machine whose rates are known: a table that only tells times.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

import berth;
import berth.cuda;

namespace {

using berth::picoseconds;
using berth::cuda::status;

/// Memory is numbered, never touched; streams are their times. One at a time: the tables have no context.
struct scripted {
  double pinned = 20e9, pageable = 5e9, memory = 1000e9, peer = 40e9, copy_setup = 3e-6, kernel = 2e-6;
  double int8_operations = 30e12, host_function = 20e-6, bf16_products = 100e12;
  int gpus = 2;
  bool peers = true;
  std::string failing;  ///< the call that fails
  int failing_after = 0;

  double host_time = 0;
  int current = 0, made = 0, live = 0;
  std::uintptr_t next = 1u << 20;
  struct range {
    std::size_t size;
    int device;  ///< -1: pinned
  };
  std::map<std::uintptr_t, range> ranges;
  std::map<void*, double> streams, events;

  bool fails(const std::string& call) { return call == failing && failing_after-- <= 0; }
  const range* find(const void* p) const {
    const auto at = reinterpret_cast<std::uintptr_t>(p);
    auto it = ranges.upper_bound(at);
    if (it == ranges.begin()) return nullptr;
    --it;
    return at < it->first + it->second.size ? &it->second : nullptr;
  }
  void work(void* stream, double seconds) {
    auto& t = streams.at(stream);
    t = std::max(t, host_time) + seconds;
    host_time += 1e-7;  // what a submission takes
  }
};
scripted* now_running = nullptr;
scripted& m() { return *now_running; }

template <class Store>
status make(Store& store, void** out) {
  ++m().live;
  *out = reinterpret_cast<void*>(static_cast<std::uintptr_t>(++m().made));
  store[*out] = 0;
  return status::success;
}
template <class Store>
status drop(Store& store, void* p) {
  m().live -= static_cast<int>(store.erase(p));
  return status::success;
}
status take(void** out, std::size_t size, int device) {
  ++m().live;
  m().ranges[m().next] = {size, device};
  *out = reinterpret_cast<void*>(m().next);
  m().next += (size / 4096 + 2) * 4096;
  return status::success;
}
status give(void* p) {
  m().live -= static_cast<int>(m().ranges.erase(reinterpret_cast<std::uintptr_t>(p)));
  return status::success;
}
status copy(void* to, const void* from, std::size_t n, void* stream) {
  if (m().fails("copy")) return status::illegal_address;
  const auto *a = m().find(from), *b = m().find(to);
  const bool pageable = a == nullptr || b == nullptr;
  m().work(stream, m().copy_setup + static_cast<double>(n) / (pageable ? m().pageable : m().pinned));
  return status::success;
}
status copy_peer(void*, int, const void*, int, std::size_t n, void* stream) {
  m().work(stream, m().copy_setup + static_cast<double>(n) / m().peer);
  return status::success;
}

berth::cuda::runtime_table runtime_of_script() {
  berth::cuda::runtime_table t{};
  t.get_device = [](int* d) { return *d = m().current, status::success; };
  t.set_device = [](int d) { return m().current = d, d < m().gpus ? status::success : status::invalid_device; };
  t.memory_info = [](std::size_t* f, std::size_t* all) { return *f = *all = std::size_t{16} << 30, status::success; };
  t.can_access_peer = [](int* can, int, int) { return *can = m().peers, status::success; };
  t.enable_peer = [](int) { return status::peer_access_already_enabled; };
  t.last_error = [] { return status::success; };
  t.malloc = [](void** out, std::size_t n) {
    return m().fails("malloc") ? status::memory_allocation : take(out, n, m().current);
  };
  t.free = give;
  t.host_alloc = [](void** out, std::size_t n) { return take(out, n, -1); };
  t.host_free = give;
  t.stream_create = [](void** out) { return make(m().streams, out); };
  t.stream_destroy = [](void* s) { return drop(m().streams, s); };
  t.stream_synchronize = [](void* s) {
    return m().host_time = std::max(m().host_time, m().streams.at(s)), status::success;
  };
  t.stream_wait = [](void* s, void* e) {
    return m().streams.at(s) = std::max(m().streams.at(s), m().events.at(e)), status::success;
  };
  t.event_create = [](void** out, bool) { return make(m().events, out); };
  t.event_destroy = [](void* e) { return drop(m().events, e); };
  t.event_record = [](void* e, void* s) {
    return m().events.at(e) = std::max(m().streams.at(s), m().host_time), status::success;
  };
  t.event_elapsed = [](float* ms, void* a, void* b) {
    return *ms = static_cast<float>((m().events.at(b) - m().events.at(a)) * 1e3), status::success;
  };
  t.copy = copy;
  t.copy_peer = copy_peer;
  t.launch_host = [](void* s, void (*)(void*), void*) { return m().work(s, m().host_function), status::success; };
  return t;
}

berth::cuda::kernel_table kernels_of_script() {
  berth::cuda::kernel_table k{};
  k.idle = [](void* s) { return m().work(s, m().kernel), 0; };
  k.fill = [](void*, std::uint32_t, std::size_t n, void* s) {
    return m().work(s, static_cast<double>(n) / m().memory), m().fails("fill") ? 1 : 0;
  };
  k.copy = [](const void*, void*, std::size_t n, void* s) {
    return m().work(s, 2 * static_cast<double>(n) / m().memory), 0;
  };
  k.product_w8a16 = [](std::uint64_t rows, std::uint64_t columns, const std::int8_t* q, const float* scales,
                       std::uint64_t, int, const void* x, int, void* y, void* s) {
    // All of it lies in memory that was taken.
    const auto* r = m().find(q);
    for (const void* p : {static_cast<const void*>(q + rows * columns - 1), static_cast<const void*>(scales + rows - 1),
                          static_cast<const void*>(static_cast<const std::byte*>(x) + columns * 2 - 1),
                          static_cast<const void*>(static_cast<std::byte*>(y) + rows * 2 - 1)})
      if (r == nullptr || m().find(p) != r) return 1;
    return m().work(s, static_cast<double>(rows * columns) / (0.9 * m().memory)), 0;
  };
  k.product_bf16 = [](std::uint64_t rows, std::uint64_t columns, const void*, std::uint64_t, int, const void*, int,
                      void*, void* s) {
    return m().work(s, static_cast<double>(rows * columns * 2) / (0.95 * m().memory)), 0;
  };
  k.product_int8 = [](std::uint64_t rows, std::uint64_t columns, const std::int8_t*, const float*, std::uint64_t tokens,
                      float, int, const void*, int, void*, void*, void* s) {
    return m().work(s, 2 * static_cast<double>(rows * columns * tokens) / m().int8_operations), 0;
  };
  return k;
}

const berth::cuda::matrix_library matrices{[](std::size_t n) -> void* { return reinterpret_cast<void*>(n); },
                                           [](void* n, const void*, const void*, void*, void*, std::size_t, void* s) {
                                             const auto side = static_cast<double>(reinterpret_cast<std::uintptr_t>(n));
                                             return m().work(s, 2 * side * side * side / m().bf16_products), 0;
                                           },
                                           [](void*) {}};

struct run {
  scripted script;
  berth::cuda::runtime_table cuda = runtime_of_script();
  berth::cuda::kernel_table kernels = kernels_of_script();
  berth::cuda::measure_options options;
  run() {
    now_running = &script;
    options.now = [] { return berth::to_picoseconds(m().host_time); };
    options.matrices = matrices;
  }
  run(const run&) = delete;
  run& operator=(const run&) = delete;
  ~run() { now_running = nullptr; }
  auto measure(const berth::topology& t) { return measure_gpus(cuda, kernels, t, options); }
};

berth::topology box() { return *berth::preset("2x3090"); }

template <class T>
std::string why(const berth::result<T>& r) {
  return r ? std::string() : std::string(r.error().subject.view()) + ": " + std::string(r.error().detail.view());
}
bool near(double a, double b, double share = 0.01) { return std::abs(a - b) <= share * b; }

}  // namespace

BOOST_AUTO_TEST_CASE(every_rate_of_a_machine_is_found) {
  run r;
  const auto found = r.measure(box());
  BOOST_REQUIRE_MESSAGE(found, why(found));
  BOOST_TEST(found->gpus.size() == 2u);
  for (const auto& g : found->gpus) {
    BOOST_TEST(near(g.to_device.value, r.script.pinned));
    BOOST_TEST(near(g.from_device.value, r.script.pinned));
    BOOST_TEST(near(g.pageable_to_device.value, r.script.pageable));
    BOOST_TEST(near(g.pageable_from_device.value, r.script.pageable));
    BOOST_TEST(near(g.memory.value, r.script.memory));
    BOOST_TEST(near(g.gemv_int8.value, 0.9 * r.script.memory));
    BOOST_TEST(near(g.gemv_bf16.value, 0.95 * r.script.memory));
    BOOST_TEST(near(g.products_int8.value, r.script.int8_operations));
    BOOST_TEST(near(g.products_bf16.value, r.script.bf16_products));
    BOOST_TEST(near(g.setup.value, r.script.copy_setup, 0.1));
    BOOST_TEST(near(g.launch.value, r.script.kernel, 0.1));
    const double round = 2 * (r.script.copy_setup + 8192 / r.script.pinned) + r.script.host_function;
    BOOST_TEST(near(g.hop.value, round / 2, 0.05));
    BOOST_TEST(g.to_device.repetitions >= 3);
  }
  BOOST_TEST(found->peers.size() == 2u);
  for (const auto& p : found->peers) {
    BOOST_TEST(p.direct);
    BOOST_TEST(near(p.rate.value, r.script.peer));
    BOOST_TEST(near(p.hop.value, r.script.copy_setup + 8192 / r.script.peer, 0.05));
  }
  BOOST_TEST(r.script.live == 0);
  BOOST_TEST(r.script.current == 0);
}

BOOST_AUTO_TEST_CASE(the_time_given_is_kept_to) {
  for (const double seconds : {0.5, 5.0}) {
    run r;
    r.options.seconds = seconds;
    BOOST_REQUIRE(r.measure(box()));
    BOOST_TEST(r.script.host_time <= 2 * seconds * 1.1);
    BOOST_TEST(r.script.host_time >= 0.1);
  }
}

BOOST_AUTO_TEST_CASE(without_a_library_and_peer_access_the_notes_say_so) {
  run r;
  r.options.matrices.reset();
  r.script.peers = false;
  const auto found = r.measure(box());
  BOOST_REQUIRE(found);
  BOOST_TEST(found->gpus[0].products_bf16.repetitions == 0);
  const auto said = [&](std::string_view what) {
    return std::any_of(found->notes.begin(), found->notes.end(),
                       [&](const std::string& n) { return n.find(what) != std::string::npos; });
  };
  BOOST_TEST(said("cuBLASLt"));
  BOOST_TEST(said("no peer access"));
  BOOST_TEST(!found->peers[0].direct);
}

BOOST_AUTO_TEST_CASE(a_calibrated_topology_has_the_measured_rates_and_stays_valid) {
  run r;
  const auto found = r.measure(box());
  BOOST_REQUIRE(found);
  const auto after = calibrated(box(), *found);
  BOOST_REQUIRE_MESSAGE(after, why(after));
  const auto view = after->view();
  const auto cpu = *view.first(berth::device_kind::cpu);
  for (berth::device_index g = 0; g < 2; ++g) {
    BOOST_TEST(near(view.devices[g].bandwidth(), r.script.memory));
    BOOST_TEST(near(view.devices[g].flops(berth::rate_class::half), r.script.bf16_products));
    BOOST_TEST(near(view.devices[g].overhead, berth::cuda::kernels_per_atom * r.script.kernel, 0.1));
    const auto* up = view.route(cpu, g);
    BOOST_REQUIRE(up != nullptr);
    BOOST_TEST(near(view.bandwidth_of(*up), r.script.pinned));
    BOOST_TEST(near(up->setup, r.script.copy_setup, 0.1));
    BOOST_TEST(up->latency == found->gpus[g].hop.value);
    const auto* across = view.route(g, 1 - g);
    BOOST_REQUIRE(across != nullptr);
    BOOST_TEST(near(view.bandwidth_of(*across), r.script.peer));
  }
  // Without the library the other rates stay.
  auto without = *found;
  for (auto& g : without.gpus) g.products_bf16 = {};
  const auto kept = calibrated(box(), without);
  BOOST_REQUIRE(kept);
  BOOST_TEST(kept->devices[0].flops(berth::rate_class::half) == box().devices[0].flops(berth::rate_class::half));
}

BOOST_AUTO_TEST_CASE(whatever_fails_nothing_is_kept_and_the_error_names_the_call) {
  for (const auto& [call, code] :
       {std::pair{"malloc", berth::errc::out_of_memory}, std::pair{"copy", berth::errc::device_lost},
        std::pair{"fill", berth::errc::invalid_argument}})
    for (const int after : {0, 1}) {
      run r;
      r.script.failing = call;
      r.script.failing_after = after;
      const auto found = r.measure(box());
      BOOST_REQUIRE(!found);
      BOOST_TEST((found.error().code == code), call << ": " << found.error().detail.view());
      BOOST_TEST(r.script.live == 0);
    }
}

BOOST_AUTO_TEST_CASE(what_cannot_be_measured_is_refused) {
  run r;
  r.options.seconds = 0;
  BOOST_TEST((r.measure(box()).error().code == berth::errc::invalid_argument));
  r.options.seconds = 5;
  auto named = box();
  named.devices[0].id = "left";
  BOOST_TEST((r.measure(named).error().code == berth::errc::unknown_device));
  const berth::cuda::device_ordinal left{"left", 0};
  r.options.ordinals = {&left, 1};
  BOOST_TEST(bool(r.measure(named)));
  berth::cuda::measured_gpus other;
  other.gpus.emplace_back().device = "9";
  BOOST_TEST((calibrated(box(), other).error().code == berth::errc::unknown_device));
}
