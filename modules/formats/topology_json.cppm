// SPDX-License-Identifier: Apache-2.0
module;

#include <string_view>

export module berth.formats:topology_json;

import berth.topology;
import :json;
import :topology_document;

export namespace berth {

/// Reads a `berth.topology/1` document (field table: docs/topology.md). A GPU whose `model` is in the GPU table takes
/// what it does not say from there; a route without `over` gets a segment of its own. Members that this version does
/// not know are named in notes. Errors: `unknown_format` for another format or a newer major version, `malformed`
/// with the path of the member, `invalid_topology`.
result<topology_document> read_topology_json(const json::value& document, std::string_view what);

/// The inverse: a document that reads back to an equal topology, with every member written.
json::value write_topology_json(const topology_view& t);

}  // namespace berth
