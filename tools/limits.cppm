// SPDX-License-Identifier: Apache-2.0
// What a simulated run may not exceed.
module;

#include <string>
#include <string_view>
#include <vector>

export module berth.tool:limits;

import berth;
import :commands;

export namespace tool {

/// "2s", "350ms", "80us" as seconds. Error: `invalid_argument` naming the option.
berth::result<double> parse_duration(const std::string& text, std::string_view option);

/// The limits that a run exceeds, one line each; empty: none. Errors: a limit or a baseline that cannot be read.
berth::result<std::vector<std::string>> exceeded_limits(const simulate_arguments& a, const berth::plan& p,
                                                        const berth::report& r);

}  // namespace tool
