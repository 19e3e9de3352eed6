// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <string>
#include <string_view>

module berth.tool;

import berth;
import berth.formats;

namespace tool {

berth::result<berth::loaded_model> load(const std::string& path) {
  if (path == "-") {
    auto text = read_input(path);
    if (!text) return text.propagate();
    return berth::load_model_text(*text, "standard input");
  }
  progress_bar progress;
  berth::load_options options;
  options.progress = [&](std::size_t done, std::size_t all, std::string_view file) { progress.show(done, all, file); };
  return berth::load_model(path, options);
}

}  // namespace tool
