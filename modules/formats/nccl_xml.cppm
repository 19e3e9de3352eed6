// SPDX-License-Identifier: Apache-2.0
module;

#include <string_view>

export module berth.formats:nccl_xml;

import berth.topology;
import :topology_document;

export namespace berth {

/// Reads an NCCL or RCCL topology (NCCL_TOPO_FILE, NCCL_TOPO_DUMP_FILE): PCIe trees below CPUs, NVLink, C2C and xGMI.
/// Rates follow NCCL's units: GB/s = lanes x speed / 80. Links that the file leaves to detection (no class, no speed,
/// no NVLink) are named in notes or, where nothing can be said without them, refused.
/// Errors: `malformed`, `unsupported`; hwloc's XML is refused by name.
result<topology_document> read_nccl_xml(std::string_view text, std::string_view what,
                                        const topology_options& options = {});

}  // namespace berth
