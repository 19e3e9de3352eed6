// SPDX-License-Identifier: Apache-2.0
module;

#include <string>
#include <string_view>

export module berth.tool:html;

import berth;

export namespace tool {

/// Text as HTML and SVG content or attribute value: markup characters escaped, control characters and broken UTF-8
/// replaced by U+FFFD. Names of models are not to be trusted.
std::string escaped(std::string_view text);

/// "GPU 0", "CPU", "disk"; with `model` also "GPU 0 (RTX 4090)". Not escaped.
std::string device_words(const berth::device& d, bool model = false);

/// Milliseconds with about four digits, from 10 s on seconds: "0.412 ms", "13.24 ms", "812 ms", "35.0 s".
std::string shown_ms(double seconds);

/// "14.96 GiB", always in GiB; escaped.
std::string shown_gib(berth::bytes n);

/// "99.8 %".
std::string shown_percent(double share);

}  // namespace tool
