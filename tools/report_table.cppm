// SPDX-License-Identifier: Apache-2.0
module;

#include <string>

export module berth.tool:report_table;

import berth;
import berth.formats;

export namespace tool {

/// A run as text: times beside what was predicted, what limits it, one row per device and per segment that was used.
std::string report_table(const berth::plan& p, const berth::report& r);

/// The same as `berth.report/1` (field table: docs/formats.md). The same report gives the same bytes.
berth::json::value report_json(const berth::plan& p, const berth::report& r);

}  // namespace tool
