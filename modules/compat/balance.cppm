// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>

// Internal: what both peers' balancing shares.
module berth.compat:balance;

import berth.model;
import :max_memory;
import :number;

namespace berth::hf {

/// Numbers from which the cap per accelerator follows.
struct balance_input {
  std::int64_t devices = 0;  ///< that share the model
  bool low_zero = false;
  number total;
  number block;  ///< size of the largest no-split block, by the peer's rule
  number mean;   ///< mean size of the leaf modules
};

/// Caps all accelerators but the last at total / n + 1.25 * max(block, mean), and under low_zero leaves to accelerator
/// 0 what the next ones cannot take. Error `peer_failure` (KeyError): low_zero takes positions for device numbers.
result<budgets> cap_budgets(budgets given, const balance_input& in);

/// With one device and budgets from the machine, the peers keep a tenth of the first accelerator back.
void keep_a_tenth(budgets& b);

}  // namespace berth::hf
