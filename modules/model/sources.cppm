// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstdint>
#include <optional>
#include <string>
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

}  // namespace berth
