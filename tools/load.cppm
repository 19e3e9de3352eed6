// SPDX-License-Identifier: Apache-2.0
module;

#include <string>

export module berth.tool:load;

import berth;
import berth.formats;

export namespace tool {

/// MODEL as given on the command line, with a progress bar while many shards are read.
berth::result<berth::loaded_model> load(const std::string& path);

}  // namespace tool
