// SPDX-License-Identifier: Apache-2.0
// Include after `import berth;`.
#pragma once

#include <string>

namespace tool {

/// The whole of a file, or of standard input for "-". Errors: `unreadable`, `capacity` above 1 GiB.
berth::result<std::string> read_input(const std::string& path);

}  // namespace tool
