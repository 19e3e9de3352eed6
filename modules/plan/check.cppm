// SPDX-License-Identifier: Apache-2.0
module;

#include <memory_resource>
#include <vector>

export module berth.plan:check;

import berth.model;
import berth.topology;
import :plan_value;

export namespace berth {

/// The proof that a plan holds, computed from the plan alone and by its own arithmetic (no strategy code): every atom
/// has one home and one executing device, disks do not execute, streamed weights have a route and their slots, the
/// breakdown of every device equals the sum of what lies there, no device holds more than budget minus reserve, the
/// predicted times are those of the placement and the certificate's bound does not exceed the plan's value.
/// Returns all violations, allocated from `memory` as everything it needs (empty: the plan holds), each naming the
/// tensor, device and bytes. O(atoms x devices + ties).
std::pmr::vector<error> check(const plan& p, std::pmr::memory_resource* memory = std::pmr::get_default_resource());

}  // namespace berth
