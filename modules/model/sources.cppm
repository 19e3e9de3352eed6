// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

export module berth.model:sources;

import berth.base;

export namespace berth {

/// One tensor as it lies in a checkpoint file. Offsets are from the start of the file.
struct stored_tensor {
  std::string name;        ///< name in the file
  std::uint32_t file = 0;  ///< index into `checkpoint_files`
  dtype type = dtype::f32;
  std::vector<std::uint64_t> shape;
  std::uint64_t offset = 0;
  bytes length = 0;
};

/// Half-open range with a step along one dimension of a tree tensor.
struct slice {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::uint64_t step = 1;
  friend bool operator==(const slice&, const slice&) = default;
};

/// How one stored tensor becomes (part of) a tensor of the module tree: its data, with the last two dimensions
/// swapped if `transposed`, fills `range` of the tree tensor (one slice per dimension).
struct conversion {
  std::string stored;  ///< name in the checkpoint
  std::string tensor;  ///< full name in the module tree
  std::vector<slice> range;
  bool transposed = false;
  friend bool operator==(const conversion&, const conversion&) = default;
};

/// Where the tensors of a module tree are stored: files, what lies in them, and what becomes of it.
struct weight_sources {
  std::vector<std::string> files;  ///< paths; `stored_tensor::file` counts them
  std::vector<bytes> file_sizes;
  std::vector<stored_tensor> tensors;
  std::vector<conversion> conversions;
  /// Stored tensors that belong to a quantised tensor without being its data: (stored name, tensor of the tree).
  std::vector<std::pair<std::string, std::string>> companions;
};

}  // namespace berth
