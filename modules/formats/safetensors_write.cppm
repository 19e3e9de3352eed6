// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

export module berth.formats:safetensors_write;

import berth.model;
import :json;

export namespace berth {

/// A tensor that a file is to hold.
struct tensor_outline {
  std::string name;
  dtype type = dtype::f32;
  std::vector<std::uint64_t> shape;
};

/// Bytes of one tensor. Error: `overflow` above 2^63 - 1.
result<bytes> size_of(const tensor_outline& t);

/// Writes one `.safetensors` file in pieces, in any order, so that no more than a piece is ever in memory. The file is
/// built under a temporary name beside its place and appears there whole, in `finish`, or not at all. Tensors lie by
/// descending element size, then name, behind a header padded to 8 bytes, as the official writer lays them out.
class safetensors_writer {
 public:
  /// Makes the temporary file, at its full size, so that a full disk is found here. Errors: `invalid_argument` for
  /// names that occur twice, are empty or "__metadata__" and for sub-byte tensors that do not fill whole bytes,
  /// `capacity` for a header above 100 MB, `overflow`, `unwritable` with the bytes that are needed.
  static result<safetensors_writer> create(const std::string& path, std::span<const tensor_outline> tensors,
                                           std::span<const std::pair<std::string, std::string>> metadata);

  safetensors_writer(safetensors_writer&& other) noexcept;
  safetensors_writer& operator=(safetensors_writer&& other) noexcept;
  /// Removes the temporary file of what was not finished.
  ~safetensors_writer();

  /// Writes `data` at `offset` of tensor `index` (as numbered in `create`). Errors: `invalid_argument` for bytes
  /// outside the tensor, `unwritable`.
  result<done> write(std::size_t index, bytes offset, std::span<const std::byte> data);

  /// Puts the file into its place. Precondition: every byte of every tensor was written once; `invalid_argument`
  /// otherwise (bytes are counted, not remembered). Errors: `unwritable`.
  result<done> finish();

  /// Size of the whole file.
  bytes file_size() const { return file_size_; }

 private:
  struct place {
    std::string name;
    bytes offset = 0, length = 0, written = 0;
  };
  safetensors_writer(std::string path, std::string temporary)
      : path_(std::move(path)), temporary_(std::move(temporary)) {}
  result<done> write_at(std::span<const std::byte> data, bytes offset);

  std::string path_, temporary_;
  int file_ = -1;
  bytes file_size_ = 0;
  std::vector<place> places_;
};

/// "model.safetensors", or of several "model-00002-of-00007.safetensors"; `number` counts from 0.
std::string shard_name(std::size_t number, std::size_t count);

/// The text of `model.safetensors.index.json`: which shard holds which tensor, sorted by name, and the sum of all
/// tensors' bytes.
std::string write_index(std::vector<std::pair<std::string, std::string>> shard_of_tensor, bytes total);

}  // namespace berth
