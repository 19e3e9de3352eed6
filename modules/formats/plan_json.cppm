// SPDX-License-Identifier: Apache-2.0
module;

#include <string>
#include <string_view>
#include <utility>
#include <vector>

export module berth.formats:plan_json;

import berth.plan;
import :json;

export namespace berth {

/// Writes a plan as `berth.plan/1` (field table: docs/formats.md). Self-contained: chain, topology, workload,
/// placement, device map and memory breakdown. The same plan gives the same bytes.
json::value write_plan(const plan& p);

/// A plan read from a file, with what a person should know about the file (members that this version does not know).
struct plan_document {
  berth::plan plan;
  std::vector<std::string> notes;
  /// Members that say again what the placements say (device map, modes, sums), where they say something else.
  std::vector<std::string> contradictions;
};

/// Reads a `berth.plan/1` document. It is not checked here: `check` does that. Errors: `unknown_format` for another
/// format or a newer major version, `malformed` with the path of the offending member.
result<plan_document> read_plan(const json::value& document, std::string_view what);

/// A device map as transformers writes it: an object from name to GPU number, "cpu" or "disk".
/// Errors: `malformed` with the key. Duplicate keys were refused by the JSON reader already.
result<std::vector<std::pair<std::string, device_id>>> read_device_map(const json::value& document,
                                                                       std::string_view what);

/// The inverse: numbered devices are written as numbers.
json::value write_device_map(const device_map& map);

}  // namespace berth
