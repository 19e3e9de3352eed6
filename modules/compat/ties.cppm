// SPDX-License-Identifier: Apache-2.0
module;

#include <string>
#include <vector>

export module berth.compat:ties;

import berth.model;

export namespace berth::hf {

/// Names that the peer treats as one parameter, sorted.
using tied_groups = std::vector<std::vector<std::string>>;

namespace accelerate {

/// `find_tied_parameters`: parameters that are the same object under several names, names under alias modules
/// included. Groups in order of their first name in the walk (the peer's own order is arbitrary).
/// Error `peer_failure` (RecursionError): aliases nest without end.
result<tied_groups> find_tied_parameters(const module_tree& tree);

}  // namespace accelerate

namespace transformers {

/// Groups of the tie table: for each source, its targets and itself. Groups in order of first appearance (the peer's
/// own order is arbitrary).
tied_groups tied_groups_of_table(const module_tree& tree);

}  // namespace transformers
}  // namespace berth::hf
