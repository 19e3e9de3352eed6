// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

export module berth.runtime:image_storage;

import berth.base;
import berth.model;
import berth.exec;
import :image;

export namespace berth {

struct image_storage_options {
  std::size_t open_files = 64;  ///< descriptors kept open at most, and as many more as there are threads reading
};

/// Serves the images of atoms to machines: `read(atom, offset, size)`. Bytes that are stored as they are wanted come
/// straight from their files; others are converted or quantised on the way, only as much as is asked for. This is the
/// slow and simple path: nothing is kept, so what is read often and is not stored plainly belongs into an offload
/// folder (`offload_tensors`). Reads may come from several threads. Files are opened when they are first needed; a
/// file that has another size or time than at construction is an error.
class image_storage {
 public:
  /// `images` must outlive the storage. Looks at the size and time of every file; files that cannot be found are
  /// reported by the first read that needs them.
  explicit image_storage(const weight_images& images, const image_storage_options& options = {});
  image_storage(image_storage&&) noexcept;
  image_storage& operator=(image_storage&&) noexcept;
  ~image_storage();

  /// Takes tensors from an offload folder from now on, those that are not stored plainly otherwise: what
  /// `offload_tensors` has returned, or what a reader found in a folder. Entries of another dtype or shape than the
  /// images need, or of a file shorter than they, are `inconsistent_model`. Not while reads are under way.
  result<done> adopt(const weight_sources& offloaded);

  /// Fills `to` with the image of `atom` from `offset` on. Errors: `invalid_argument` outside the image; `not_found`,
  /// `unreadable` for files; `corrupted` for a file that changed since; `unsupported` for a row that int8 cannot hold
  /// (NaN, infinite, scale outside the normal range), with tensor and row.
  result<done> read(std::uint32_t atom, bytes offset, std::span<std::byte> to) const;

  /// As machines take it. The storage must stay where it is as long as they use it.
  storage as_storage();

  const weight_images& images() const;

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace berth
