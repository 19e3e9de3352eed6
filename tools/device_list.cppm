// SPDX-License-Identifier: Apache-2.0
// Lists of the form 0=20GiB,1=20GiB,cpu=30GiB.
module;

#include <string>
#include <string_view>
#include <utility>
#include <vector>

export module berth.tool:device_list;

import berth;

export namespace tool {

/// "KEY=VALUE,KEY=VALUE": keys and values as written. `option` names the option in errors.
berth::result<std::vector<std::pair<std::string, std::string>>> split_pairs(std::string_view text,
                                                                            std::string_view option);

/// The same with sizes as values. Errors name the pair.
berth::result<std::vector<berth::device_bytes>> parse_device_list(std::string_view text, std::string_view option);

/// "A,B,C" without empty parts.
std::vector<std::string> split_words(std::string_view text);

}  // namespace tool
