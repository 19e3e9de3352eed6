// SPDX-License-Identifier: Apache-2.0
module;

#include <string_view>

export module berth.formats:module_tree_json;

import berth.model;
import :json;

export namespace berth {

/// Reads a `berth.module_tree/1` document (field table: docs/formats.md). Equal storage numbers become ties.
/// Errors: `unknown_format` for another format or major version, `malformed` or `inconsistent_model` with the path
/// of the offending member. Linear in the number of tensors.
result<module_tree> read_module_tree(const json::value& document, std::string_view what);

/// The inverse: a document that reads back to an equal tree.
json::value write_module_tree(const module_tree& tree);

}  // namespace berth
