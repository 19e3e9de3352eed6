// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

module berth.compat;

import berth.model;
import :balance;

namespace berth::hf {
namespace {

budget* find(budgets& all, std::int64_t index) {
  const auto key = device_key::accelerator(index);
  const auto it = std::find_if(all.begin(), all.end(), [&](const budget& b) { return b.device == key; });
  return it == all.end() ? nullptr : &*it;
}

failure no_such_key(std::int64_t index) {
  return fail(errc::peer_failure, "KeyError",
              "the peer crashes: balanced_low_0 takes positions for device numbers and looks for device " +
                  std::to_string(index) +
                  ", which has no budget. Number the devices 0, 1, ... without gaps, or use one of berth's own "
                  "strategies");
}

}  // namespace

void keep_a_tenth(budgets& all) {
  const auto first = std::find_if(all.begin(), all.end(), [](const budget& b) { return b.device.is_accelerator(); });
  if (first != all.end()) first->bytes = first->bytes * 0.9;
}

result<budgets> cap_budgets(budgets given, const balance_input& in) {
  auto per_device = floor_divide(in.total, in.low_zero ? in.devices - 1 : in.devices);
  per_device += number::truncated(1.25 * first_max(in.block, in.mean).to_double());

  std::vector<std::size_t> usable;
  for (std::size_t i = 0; i < given.size(); ++i)
    if (given[i].device.is_accelerator() && given[i].bytes > 0) usable.push_back(i);
  for (std::size_t k = 0; k + 1 < usable.size(); ++k) {
    auto& b = given[usable[k]];
    if (!(in.low_zero && b.device.index() == 0)) b.bytes = first_min(per_device, b.bytes);
  }
  if (!in.low_zero) return given;

  number others = 0;
  for (std::int64_t i = 1; i < in.devices; ++i) {
    const auto* b = find(given, i);
    if (b == nullptr) return no_such_key(i);
    others += b->bytes;
  }
  auto* zero = find(given, 0);
  if (zero == nullptr) return no_such_key(0);
  zero->bytes = first_min(first_max(0, in.total - others), zero->bytes);
  return given;
}

}  // namespace berth::hf
