// SPDX-License-Identifier: Apache-2.0
// Machines of host memory, without and with threads.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "any_machine.hpp"
#include "stored_file.hpp"

import berth;
import berth.host;

namespace conformance {
namespace {

berth::host::machine& own_host(machine_under_test& out, int threads) {
  static const auto box = *berth::preset("2x3090");
  berth::host::machine_options o;
  o.storage.read = read_stored;
  o.threads = threads;
  o.streams = 64;
  o.events = 256;
  o.buffers = 64;
  o.items = 4096;
  return out.own<berth::host::machine>(box, o);
}

template <int threads>
machine_under_test host() {
  machine_under_test out;
  auto& m = own_host(out, threads);
  out.machine = std::make_unique<as_any<berth::host::machine>>(m);
  return out;
}

template <int threads>
machine_under_test host_all_decorators() {
  machine_under_test out;
  using counted = berth::counted<berth::host::machine>;
  using faulty = berth::faulty<counted>;
  using traced = berth::traced<faulty>;
  auto& m = own_host(out, threads);
  auto& c = out.own<counted>(m);
  auto& none = out.own<berth::fault_schedule>();
  auto& f = out.own<faulty>(c, none);
  auto& t = out.own<berth::trace>(std::size_t{4096});
  auto& all = out.own<traced>(f, t);
  out.machine = std::make_unique<as_any<traced>>(all);
  return out;
}

}  // namespace

std::vector<machine_kind> host_machines() {
  return {{"host", host<0>, {}},
          {"host_threads", host<2>, {}},
          {"host_all_decorators", host_all_decorators<0>, {}},
          {"host_threads_all_decorators", host_all_decorators<2>, {}}};
}

}  // namespace conformance
