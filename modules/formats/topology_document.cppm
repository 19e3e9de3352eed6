// SPDX-License-Identifier: Apache-2.0
module;

#include <string>
#include <string_view>
#include <vector>

export module berth.formats:topology_document;

import berth.topology;

export namespace berth {

/// A topology read from a file, with what the reader had to assume or leave out, in sentences for the user.
struct topology_document {
  topology machine;
  std::string_view
      format;  ///< "berth.topology/1", "nvidia-smi topo -m", "NCCL topology XML" or "p2pBandwidthLatencyTest"
  std::vector<std::string> notes;
};

struct topology_options {
  /// GPU model of machines whose file does not name it (a name of the GPU table); "" lets the reader choose and say so.
  std::string gpu;
};

}  // namespace berth

// For the importers of this module only.
namespace berth {

/// The model the user named, else `guess` with a note that says so. Error: `unknown_device`.
result<const gpu_spec*> importer_gpu(const topology_options& options, std::string_view guess, std::string_view what,
                                     std::vector<std::string>& notes);

/// Says which host was assumed.
std::string host_note(const host_spec& host);

}  // namespace berth
