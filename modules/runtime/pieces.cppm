// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <vector>

// Not exported: the pieces of one tensor.
export module berth.runtime:pieces;

import berth.base;
import berth.model;
import :image;
import :tensor_parts;

namespace berth {

/// Appends the pieces that make up one tensor of an image.
class piece_writer {
 public:
  piece_writer(const weight_sources& sources, const tensor_parts& parts, std::vector<image_piece>& out)
      : sources_(sources), parts_(parts), out_(out) {}

  /// `at`: where the tensor begins in the image, `number`: which of the atom's tensors it is. Returns the bytes that
  /// its pieces fill. Errors as `make_images`.
  result<bytes> add(std::uint32_t tensor, const leading_rows& rows, bytes at, std::uint32_t number);

 private:
  /// One dimension that source and target have in common; strides in elements.
  struct dimension {
    std::uint64_t extent = 1, source = 0, target = 0;
  };

  image_piece& append(const stored_tensor& s, bytes from, bytes length, bytes to);
  result<bytes> add_elements(const arriving_tensor& t, const tensor_part& p, const leading_rows& rows);
  result<done> add_run(const arriving_tensor& t, const stored_tensor& s, bytes bits_from, bytes bits_to,
                       std::uint64_t elements);
  result<done> add_matrices(const arriving_tensor& t, const stored_tensor& s, std::vector<dimension> d,
                            std::uint64_t from, std::uint64_t to);
  result<bytes> add_quantized(const arriving_tensor& t, const tensor_part& p);
  result<bytes> add_codes(const arriving_tensor& t);
  result<bytes> add_packed(const arriving_tensor& t, const leading_rows& rows);
  static void merge(std::vector<dimension>& d);

  const weight_sources& sources_;
  const tensor_parts& parts_;
  std::vector<image_piece>& out_;
  bytes at_ = 0;
  std::uint32_t number_ = 0;
};

/// Sets length and image_size of a piece that is not plain from its strides.
void measure(image_piece& piece);

}  // namespace berth
