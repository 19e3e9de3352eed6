// SPDX-License-Identifier: Apache-2.0
module;

#include <string_view>

export module berth.formats:topology_file;

import berth.topology;
import :topology_document;

export namespace berth {

/// Reads any topology berth understands, recognised by content: `berth.topology/1` JSON, `nvidia-smi topo -m`, NCCL and
/// RCCL XML, p2pBandwidthLatencyTest. `what` names the text in errors. Everything else is refused with what it is,
/// where it can be told (hwloc, archives, other nvidia-smi outputs), and what to give instead.
result<topology_document> read_topology(std::string_view text, std::string_view what,
                                        const topology_options& options = {});

}  // namespace berth
