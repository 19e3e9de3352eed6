// SPDX-License-Identifier: Apache-2.0
// The machines that the suite runs on.
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "any_machine.hpp"

import berth;
import berth.sim;

namespace conformance {
namespace {

const berth::topology& box() {
  static const auto made = berth::preset("2x3090");
  return *made;
}

berth::sim::machine_options small_room() {
  berth::sim::machine_options o;
  o.bounds = {64, 256, 4096, {64, 16}};
  o.buffers = 64;
  o.places = 1024;
  o.audit = true;
  return o;
}

berth::sim::machine& own_simulator(machine_under_test& out) {
  return out.own<berth::sim::machine>(box(), small_room());
}

template <class M>
machine_under_test finished(machine_under_test out, M& m) {
  out.machine = std::make_unique<as_any<M>>(m);
  return out;
}

machine_under_test simulated() {
  machine_under_test out;
  auto& m = own_simulator(out);
  return finished(std::move(out), m);
}

machine_under_test simulated_limited() {
  machine_under_test out;
  auto& m = own_simulator(out);
  static const std::array<berth::device_bytes, 1> budgets{{{"0", 20 * berth::GiB}}};
  auto& l = out.own<berth::limited<berth::sim::machine>>(m, std::span(budgets));
  return finished(std::move(out), l);
}

machine_under_test simulated_counted() {
  machine_under_test out;
  auto& m = own_simulator(out);
  auto& c = out.own<berth::counted<berth::sim::machine>>(m);
  return finished(std::move(out), c);
}

machine_under_test simulated_traced() {
  machine_under_test out;
  auto& m = own_simulator(out);
  auto& t = out.own<berth::trace>(std::size_t{4096});
  auto& traced = out.own<berth::traced<berth::sim::machine>>(m, t);
  return finished(std::move(out), traced);
}

machine_under_test simulated_faulty() {
  machine_under_test out;
  auto& m = own_simulator(out);
  auto& none = out.own<berth::fault_schedule>();
  auto& f = out.own<berth::faulty<berth::sim::machine>>(m, none);
  return finished(std::move(out), f);
}

machine_under_test all_decorators() {
  machine_under_test out;
  using counted = berth::counted<berth::sim::machine>;
  using faulty = berth::faulty<counted>;
  using traced = berth::traced<faulty>;
  auto& m = own_simulator(out);
  auto& c = out.own<counted>(m);
  auto& none = out.own<berth::fault_schedule>();
  auto& f = out.own<faulty>(c, none);
  auto& t = out.own<berth::trace>(std::size_t{4096});
  auto& all = out.own<traced>(f, t);
  return finished(std::move(out), all);
}

}  // namespace

std::vector<machine_kind> all_machines() {
  const std::vector<std::pair<std::string, std::string>> no_bytes{
      {"work_sees_bytes_that_were_copied_before_it", "simulated memory has no bytes"},
      {"a_failing_read_is_an_error_behind_it_and_nowhere_else", "simulated storage has every file"}};
  std::vector<machine_kind> all{{"sim", simulated, no_bytes},
                                {"sim_limited", simulated_limited, no_bytes},
                                {"sim_counted", simulated_counted, no_bytes},
                                {"sim_traced", simulated_traced, no_bytes},
                                {"sim_faulty", simulated_faulty, no_bytes},
                                {"sim_all_decorators", all_decorators, no_bytes}};
  for (auto& kind : host_machines()) all.push_back(std::move(kind));
  for (auto& kind : cuda_machines()) all.push_back(std::move(kind));
  return all;
}

}  // namespace conformance
