// SPDX-License-Identifier: Apache-2.0
module;

#include <string>
#include <string_view>
#include <vector>

export module berth.tool:report_page;

import berth;

export namespace tool {

/// A run as one self-contained HTML page: what limits it, key figures, timelines, memory, segments, placement,
/// warnings. Needs no network and no script; readable in light and dark, and on paper. The same input gives the same
/// bytes.
std::string report_page(const berth::plan& p, const berth::report& r, const berth::trace& t,
                        const berth::run_marks& marks, const std::vector<std::string>& notes = {});

/// The style sheet of the page.
std::string_view report_style();

}  // namespace tool
