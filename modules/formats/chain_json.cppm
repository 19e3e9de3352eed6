// SPDX-License-Identifier: Apache-2.0
module;

#include <string_view>

export module berth.formats:chain_json;

import berth.model;
import berth.topology;
import :json;

export namespace berth {

/// A planning problem without a module tree: what a `berth.chain/1` file holds. Nothing is rounded, nothing streams.
struct chain_instance {
  berth::model model;        ///< atoms with weights, state, workspace and work per phase
  berth::topology topology;  ///< one segment per link
  berth::workload workload;
};

/// Reads a `berth.chain/1` document (field table: docs/formats.md). Errors: `unknown_format` for another format or a
/// newer major version, `malformed` with the path of the offending member.
result<chain_instance> read_chain(const json::value& document, std::string_view what);

}  // namespace berth
