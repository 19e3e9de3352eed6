// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// Not exported: what an offload folder holds of one tensor of an image.
export module berth.runtime:offload_items;

import berth.base;
import berth.model;
import :image;

namespace berth {

/// One file of an offload folder, and the bytes of the image that are in it.
struct offload_item {
  std::string name;    ///< of the entry in the index; the file is `<name>.dat`
  std::string tensor;  ///< name in the tree, of a slice its own: what the entry belongs to
  dtype type = dtype::f32;
  std::vector<std::uint64_t> shape;
  bytes offset = 0;  ///< in the image
  bytes size = 0;
  bool companion = false;                 ///< scales, and other parts of packed tensors
  const stored_tensor* linked = nullptr;  ///< that is all of it, unchanged, in a file that is there already
};

/// True if every byte of the tensor is stored as it is wanted.
bool is_plain(const weight_images& images, std::uint32_t atom, std::uint32_t tensor);

/// The items of one tensor. int8: codes, row by row, and SCB. Packed: each stored part for itself. None for what no
/// file holds.
std::vector<offload_item> offload_items(const weight_images& images, std::uint32_t atom, std::uint32_t tensor);

}  // namespace berth
