// SPDX-License-Identifier: Apache-2.0
// A plan made by the compiler for a model and a machine that are known then: nothing is left to fail at run time.
#include <cstddef>
#include <iostream>

import berth;

namespace {

constexpr berth::static_model<4> model{{{{"encoder", berth::atom_kind::block, 300 * berth::MiB, 0},
                                         {"backbone", berth::atom_kind::block, 900 * berth::MiB, 0},
                                         {"decoder", berth::atom_kind::block, 500 * berth::MiB, 0},
                                         {"head", berth::atom_kind::head, 100 * berth::MiB, 0}}},
                                       {}};
constexpr auto box = berth::presets::pcie_box<2>("RTX 4090");
constexpr auto plan = berth::Place<berth::Balanced>(model, box);
static_assert(plan.has_value());
static_assert(plan->device_of("head") == 1);

}  // namespace

int main() {
  for (std::size_t i = 0; i < plan->names.size(); ++i)
    std::cout << plan->names[i] << " -> " << plan->homes[i].view() << "\n";
}
