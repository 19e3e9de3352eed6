// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

module berth.compat;

import berth.model;
import :balance;

namespace berth::hf::accelerate {
namespace {

/// The largest first instance of the no-split classes. First in the order of the size dictionary: modules above
/// parameters in walk order, then those above buffers only. The root does not count, nor do modules without tensors.
number largest_block(const module_tree& tree, const module_sizes& sizes, const std::vector<std::string>& no_split) {
  const std::unordered_set<std::string_view> classes(no_split.begin(), no_split.end());
  std::unordered_map<std::string_view, module_index> with_parameters, with_buffers;
  for (module_index m = 1; m < tree.modules().size(); ++m) {
    const auto& node = tree.modules()[m];
    if (sizes.of_module(m).tensors == 0 || !classes.contains(node.class_name)) continue;
    auto& first = sizes.counts_parameters(m) ? with_parameters : with_buffers;
    first.try_emplace(node.class_name, m);
  }
  number block = 0;
  for (const auto name : classes) {
    auto it = with_parameters.find(name);
    if (it == with_parameters.end() && (it = with_buffers.find(name)) == with_buffers.end()) continue;
    block = first_max(block, sizes.of_module(it->second).value());
  }
  return block;
}

/// Mean size of the modules (not the root) whose tensors are all their own.
number mean_of_leaves(const module_tree& tree, const module_sizes& sizes) {
  std::vector<bool> inner(tree.modules().size());
  byte_sum sum;
  std::int64_t leaves = 0;
  for (auto m = static_cast<module_index>(tree.modules().size()); m-- > 1;) {
    if (sizes.of_module(m).tensors == 0) continue;
    inner[tree.modules()[m].parent] = true;
    if (inner[m]) continue;
    sum += sizes.of_module(m);
    ++leaves;
  }
  return truncated_quotient(sum.value(), std::max<std::int64_t>(leaves, 1));
}

/// Devices with a budget that share the model: accelerators, and mps where it is the machine's accelerator.
/// Error: the peer builds a torch device from every word, which fails for "disk".
result<std::int64_t> sharing_devices(const budgets& given, bool mps_machine) {
  std::int64_t n = 0;
  for (const auto& b : given) {
    if (b.device.is("disk"))
      return fail(errc::peer_failure, "RuntimeError",
                  "the peer crashes on the max_memory key \"" + b.device.text() +
                      "\" when it balances; leave it out, use the strategy sequential, or one of berth's own");
    const bool counts = b.device.is_accelerator() || (mps_machine && b.device.is("mps"));
    if (counts && b.bytes > 0) ++n;
  }
  return n;
}

}  // namespace

result<budgets> get_balanced_memory(const module_tree& tree, const request& r, std::vector<warning>& warnings) {
  auto given = get_max_memory(r.memory, warnings);
  if (!given) return given;
  const auto n = sharing_devices(*given, r.memory.host && r.memory.host->mps);
  if (!n) return n.propagate();
  if (*n == 0) return given;
  if (*n == 1 && !r.memory.limits) keep_a_tenth(*given);
  const auto sizes = compute_module_sizes(tree, r.dtype, r.special);
  if (!sizes) return sizes.propagate();
  return cap_budgets(std::move(*given), {*n, r.how == strategy::balanced_low_0 && *n > 1, sizes->total(),
                                         largest_block(tree, *sizes, r.no_split), mean_of_leaves(tree, *sizes)});
}

}  // namespace berth::hf::accelerate
