// SPDX-License-Identifier: Apache-2.0
// Reads a checkpoint's description, plans it for two GPUs, proves the plan.
#include <iostream>
#include <vector>

import berth;
import berth.formats;

int main() {
  const auto loaded = berth::load_model("models/llama-3-8b");
  const auto machine = berth::preset("2x4090");
  if (!loaded || !machine) return 2;
  const auto chain = berth::derive_model(loaded->tree(), loaded->sizes);

  const auto plan = berth::Place<berth::Balanced>(chain, *machine);
  if (!plan) {
    std::cout << plan.error().subject.view() << ": " << plan.error().detail.view() << "\n";
    return 1;
  }
  std::cout << "embedding on " << plan->device_of("model.embed_tokens").view() << ", head on "
            << plan->device_of("lm_head").view() << "\n";
  for (const auto& use : plan->uses)
    std::cout << plan->devices[use.device].id.view() << ": " << berth::format_size(use.weights) << " of "
              << berth::format_size(use.budget) << "\n";
  std::cout << "violations: " << berth::check(*plan).size() << "\n";
}
