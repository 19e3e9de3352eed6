// SPDX-License-Identifier: Apache-2.0
module;

#include <string>

export module berth.tool:input;

import berth;

export namespace tool {

/// The whole of a file, or of standard input for "-". Errors: `unreadable`, `capacity` above 1 GiB.
berth::result<std::string> read_input(const std::string& path);

}  // namespace tool
