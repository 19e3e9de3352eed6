// SPDX-License-Identifier: Apache-2.0
// Why a plan is as it is: what `berth plan --explain` adds to the table.
module;

#include <string>

export module berth.tool:explain;

import berth;
import :session;
import :strategy_choice;

export namespace tool {

/// What binds on each device, where the time goes, the next-best plan, and what one more GiB or one more GPU would buy.
/// Plans the question again for each of the last.
std::string explain(const session& s, const strategy_choice& choice, const berth::plan& p);

}  // namespace tool
