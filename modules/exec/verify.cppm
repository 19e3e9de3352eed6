// SPDX-License-Identifier: Apache-2.0
module;

#include <memory_resource>
#include <span>
#include <vector>

export module berth.exec:verify;

import berth.base;
import berth.plan;
import :program;

export namespace berth {

/// Proves that programs (load, prefill, decode, in this order) carry out a plan, without the compiler's code: runs them
/// symbolically, decode for enough rounds for the rings to come round, with a vector clock per stream. Finds: a launch
/// before its weights or its input are there, or with another atom's weights; a slot, an activation or a state
/// overwritten while it is still read; bytes loaded or copied twice in a round; buffers or ranges that overlap, leave
/// their memory or exceed the plan; atoms that run never, twice, out of order or elsewhere than planned; a stream that
/// waits for what never comes. Empty: all holds. At most 64 findings, `invalid_program`; those of `check` for a plan
/// that it refuses. O(rounds x operations x (streams + log atoms)).
std::pmr::vector<error> verify(const plan& p, std::span<const program* const> programs, bool pipelined = false,
                               std::pmr::memory_resource* memory = std::pmr::get_default_resource());

}  // namespace berth
