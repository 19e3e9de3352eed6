// SPDX-License-Identifier: Apache-2.0
module;

#include <string>
#include <string_view>

export module berth.tool:output;

export namespace tool {

/// Writes `text` to standard output ("-" or ""), or to a file that appears whole or not at all. False after
/// printing why it could not.
bool write_output(const std::string& path, std::string_view text);

}  // namespace tool
