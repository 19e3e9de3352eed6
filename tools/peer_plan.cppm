// SPDX-License-Identifier: Apache-2.0
// `berth plan --compat`: what a peer would answer.
module;

#include <string>
#include <string_view>

export module berth.tool:peer_plan;

import berth;
import berth.formats;
import :commands;
import :strategy_choice;

export namespace tool {

/// Plans `model` as the peer named in `a.compat` does and writes the answer. Returns the exit code: 1 where the peer
/// refuses or crashes, 2 for arguments that it does not take.
int run_peer_plan(const plan_arguments& a, const berth::loaded_model& model);

/// The map that a peer's `auto` gives for the same question, to be priced beside berth's own plans. Errors: what the
/// peer refuses or crashes on.
berth::result<named_map> peer_map(const question& q, const berth::loaded_model& model, std::string_view peer);

}  // namespace tool
