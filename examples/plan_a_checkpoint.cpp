// SPDX-License-Identifier: Apache-2.0
// Reads a checkpoint's description, costs it for a workload, plans it for two GPUs, proves the plan.
#include <iostream>
#include <vector>

import berth;
import berth.formats;

int main() {
  const auto loaded = berth::load_model("models/llama-3-8b");
  const auto machine = berth::preset("2x3060");
  if (!loaded || !machine) return 2;
  const berth::workload work{
      .context = 8192, .batch = 1, .prompt = 512, .generate = 128, .objective = berth::objective::latency};
  auto chain = berth::derive_model(loaded->tree(), loaded->sizes);
  const auto& a = loaded->architecture;
  if (!berth::cost_model(chain, loaded->tree(), loaded->sizes, {a.hidden, a.vocabulary, a.layers}, work)) return 2;

  berth::place_options options;
  options.workload = work;
  const auto plan = berth::Place<berth::Auto>(chain, *machine, options);
  if (!plan) {
    std::cout << plan.error().subject.view() << ": " << plan.error().detail.view() << "\n";
    return 1;
  }
  std::cout << "embedding on " << plan->device_of("model.embed_tokens").view() << ", head on "
            << plan->device_of("lm_head").view() << "\n";
  for (const auto& use : plan->uses)
    std::cout << plan->devices[use.device].id.view() << ": weights " << berth::format_size(use.weights) << ", KV cache "
              << berth::format_size(use.state) << " of " << berth::format_size(use.budget) << "\n";
  std::cout << "better by 1 % is possible: " << (plan->certificate.gap() < 0.01 ? "no" : "perhaps") << "\n";
  std::cout << "violations: " << berth::check(*plan).size() << "\n";
}
