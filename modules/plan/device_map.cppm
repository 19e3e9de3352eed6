// SPDX-License-Identifier: Apache-2.0
module;

#include <string>
#include <utility>
#include <vector>

export module berth.plan:device_map;

import berth.model;
import berth.topology;
import :plan_value;

export namespace berth {

/// Name (prefix at a dot) -> device, in chain order: what transformers takes as `device_map`.
using device_map = std::vector<std::pair<std::string, device_id>>;

/// The home of every atom.
device_map device_map_of(const plan& p);

/// The same map with fewer keys: where everything at or below a prefix lies on one device, the prefix replaces it.
/// A single key is not shortened. Keeps the order of first appearance.
device_map collapse(const device_map& map);

}  // namespace berth
