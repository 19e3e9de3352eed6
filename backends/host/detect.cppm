// SPDX-License-Identifier: Apache-2.0
module;

#include <string>
#include <vector>

export module berth.host:detect;

import berth.topology;
import :facts;

export namespace berth::host {

/// The topology of the facts: "cpu" and "disk" with their DRAM and storage segments. Rates are priors (cores and
/// sockets times usual figures, docs/topology.md) until the machine is calibrated.
topology topology_of(const facts& f);

/// The CPU, memory and disk of this host as a topology without accelerators. Errors: as `read_facts`.
result<topology> detect_host(const detect_options& options = {});

}  // namespace berth::host
