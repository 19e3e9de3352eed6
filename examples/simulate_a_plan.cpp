// SPDX-License-Identifier: Apache-2.0
// Runs a plan on a simulated machine in the caller's loop: step() never blocks, the loop moves the virtual clock.
#include <iostream>

import berth;
import berth.sim;

int main() {
  berth::model chain;
  for (const auto* name : {"embed", "layers.0", "layers.1", "layers.2", "layers.3", "head"}) {
    berth::atom a;
    a.name = name;
    a.weights = 3 * berth::GiB;
    a.workspace = 64 * berth::MiB;
    a.work = {{{3e12, 3.3e9, 4e6}, {6e9, 3.3e9, 8192}}};  // prefill, decode: FLOPs, bytes touched, activation
    chain.add(a);
  }
  const auto machine = berth::preset("1x3060");
  const berth::workload work{4096, 1, 512, 16, berth::objective::latency};
  berth::place_options options;
  options.workload = work;
  const auto plan = berth::Place<berth::Auto>(chain, *machine, options);
  if (!plan) return 1;
  const auto programs = berth::compile_all(*plan);  // compiled, and proved by the verifier
  if (!programs) return 1;

  berth::sim::machine simulated(plan->topology(), {});
  berth::trace trace(10'000);
  berth::traced traced(simulated, trace);
  berth::execution run(traced, *programs, {.rounds = work.generate});
  long waits = 0;
  for (;;) {
    const auto p = run.step();
    if (!p) return 1;  // p.error() says what, where and how to mend it; everything is freed
    if (p->state == berth::run_state::finished) break;
    if (p->state != berth::run_state::waiting) continue;
    ++waits;
    if (!berth::advance_to_next(traced)) return 1;
  }
  const auto report = berth::make_report(*plan, trace, berth::marks_of(*programs, trace));
  std::cout << "the loop had to wait: " << (waits > 0 ? "yes" : "no") << "\n"
            << "first token after " << berth::seconds_from(report.first_token) << " s\n"
            << "one token in " << report.period() << " s, predicted " << plan->times.decode << " s\n"
            << "limit: " << report.bottleneck.words.view() << "\n";
}
