// SPDX-License-Identifier: Apache-2.0
module;

#include <string>

export module berth.formats:model_sources;

import berth.model;
import :model_file;

export namespace berth {

/// Where the weights of a model lie, for those who load them. Errors: `not_found` if only names or sizes are known,
/// with what is missing. Linear in the tensors, which are copied.
result<weight_sources> sources_of(const loaded_model& m);

/// What an offload folder holds, as sources of its own: files, tensors under the names of the tree, `SCB` as companions
/// of their weights. Entries that name a safetensors file are looked up in its header. Errors: `not_found` for files
/// that are not there, `malformed` for an index that breaks the format or a file of another size than its entry says,
/// `unsafe_path` for names that lead out of the folder.
result<weight_sources> read_offload_folder(const std::string& folder);

/// `base` with every tensor of the tree that `over` holds taken from there instead.
weight_sources override_sources(weight_sources base, const weight_sources& over);

}  // namespace berth
