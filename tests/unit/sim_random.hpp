// SPDX-License-Identifier: Apache-2.0
// Random programs for the simulator, the same on every machine. Include after the std includes, before the imports.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

/// One call of the host. Which members count depends on `what`.
struct random_call {
  enum class kind { work, copy, peer, record, wait, allocate, free, host, sync, throttle } what = kind::work;
  std::uint32_t stream = 0, peer = 0, event = 0, device = 0, segment = 0;
  std::int64_t least = 0, latency = 0, size = 0, cap = 0;
  std::vector<std::uint32_t> route;
};

struct random_run {
  std::uint32_t devices = 1, events = 1;
  std::vector<double> capacities;
  std::vector<std::uint32_t> streams;  ///< device of each
  std::vector<random_call> calls;
};

inline random_run make_run(std::uint64_t seed, std::size_t calls, bool throttles) {
  std::mt19937_64 random(seed);
  const auto up_to = [&](std::uint64_t n) { return static_cast<std::uint32_t>(1 + random() % n); };
  random_run r;
  r.devices = up_to(3);
  r.events = up_to(6);
  r.capacities.resize(up_to(5));
  for (auto& c : r.capacities) c = 1e9 * up_to(400);
  r.streams.resize(up_to(7));
  for (auto& s : r.streams) s = up_to(r.devices) - 1;
  for (std::size_t i = 0; i < calls; ++i) {
    random_call c;
    const auto draw = random() % 100;
    using kind = random_call::kind;
    c.what = draw < 25   ? kind::work
             : draw < 50 ? kind::copy
             : draw < 55 ? kind::peer
             : draw < 65 ? kind::record
             : draw < 75 ? kind::wait
             : draw < 83 ? kind::allocate
             : draw < 89 ? kind::free
             : draw < 95 ? kind::host
             : draw < 97 ? kind::sync
             : throttles ? kind::throttle
                         : kind::work;
    c.stream = up_to(r.streams.size()) - 1;
    c.device = up_to(r.devices) - 1;
    c.peer = up_to(r.devices) - 1;
    c.event = up_to(r.events) - 1;
    c.segment = up_to(r.capacities.size()) - 1;
    c.least = up_to(random() % 2 == 0 ? 5 : 3000);
    c.latency = random() % 3 == 0 ? 0 : up_to(800);
    c.size = random() % 10 == 0 ? 0 : up_to(2000);
    c.cap = random() % 4 == 0 ? up_to(100) : 0;
    for (std::uint32_t s = 0; s < r.capacities.size(); ++s)
      if (random() % 2 == 0) c.route.push_back(s);
    if (c.route.empty()) c.route.push_back(c.segment);
    r.calls.push_back(c);
  }
  return r;
}
