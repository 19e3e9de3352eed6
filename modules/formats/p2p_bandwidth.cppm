// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

export module berth.formats:p2p_bandwidth;

import berth.topology;
import :topology_document;

export namespace berth {

/// The matrices of one run of CUDA's p2pBandwidthLatencyTest. Each has gpus x gpus entries, row = source, or is empty.
struct p2p_matrices {
  std::size_t gpus = 0;
  std::vector<int> numbers;  ///< device numbers of the header, ascending or not
  /// GB/s; the diagonal is the GPU's own memory, read and written. Bidirectional figures count both directions.
  std::vector<double> one_way, one_way_p2p, both_ways, both_ways_p2p;
  std::vector<double> latency_us, latency_p2p_us;
  std::string model;  ///< a GPU of the table that the text names, else ""
  std::vector<std::string> notes;
};

/// Reads the text; of several machines in one file the first. Error: `malformed` with the line.
result<p2p_matrices> parse_p2p_bandwidth(std::string_view text, std::string_view what);

/// The same as a topology with measured rates between the GPUs: peer copies where they were measured, else copies
/// without peer access; half of the bidirectional rate where only that was measured. Links to the host are priors.
result<topology_document> read_p2p_bandwidth(std::string_view text, std::string_view what,
                                             const topology_options& options = {});

}  // namespace berth
