// SPDX-License-Identifier: Apache-2.0
module;

#include <string>

export module berth.tool:memory_chart;

import berth;

export namespace tool {

/// What the plan puts on each device, as stacked bars of its budget (SVG).
std::string memory_bars(const berth::plan& p);

/// Memory held on one device over the run, as a step line with the budget (SVG). Empty if nothing was allocated there.
std::string memory_curve(const berth::plan& p, const berth::report& r, const berth::trace& t,
                         const berth::device_report& d);

}  // namespace tool
