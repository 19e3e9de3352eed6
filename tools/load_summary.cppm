// SPDX-License-Identifier: Apache-2.0
// What a load and its rounds came to, beside what was predicted.
module;

#include <string>
#include <vector>

export module berth.tool:load_summary;

import berth;
import berth.formats;
import :real_run;

export namespace tool {

/// The same plan on the simulated machine.
struct load_prediction {
  bool known = false;
  berth::report report;
  std::vector<double> busy;  ///< s, by stream of the frame
};

struct load_summary {
  const berth::plan& plan;
  const berth::compiled_plan& programs;
  const real_run& run;
  const load_prediction& predicted;
  const real_setting& setting;
  const std::vector<std::string>& notes;

  /// Memory of the process that the plan lets expect: what it had, what stays, what passes through.
  berth::bytes expected_resident() const;
};

/// As text: one line per quantity, measured beside predicted; one row per device and per stream.
std::string load_table(const load_summary& s);

/// As `berth.load/1` (field table: docs/formats.md).
berth::json::value load_json(const load_summary& s);

}  // namespace tool
