// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

export module berth.runtime:offload;

import berth.base;
import berth.model;
import :image;
import :image_storage;

export namespace berth {

struct offload_options {
  std::string folder;  ///< made if it is not there
  /// Write, or name, tensors that files hold as they are wanted, too, so that the folder is complete for others. What
  /// one stored tensor of a safetensors file is all of is named; with `copy`, it is copied.
  bool complete = false;
  bool copy = false;
};

/// Writes tensors of atoms into an offload folder as accelerate lays it out: `<name>.dat` with the raw elements of
/// each; int8 codes under the name of their weight, their scales beside them as `<module>.SCB`; a slice under the name
/// of its atom and the last part of the tensor's. What a file holds as it is wanted stays there unless asked for.
/// Returns what the folder gives: for `image_storage::adopt`, and for `write_offload_index` (berth.formats), whose text
/// goes into `index.json` by `replace_file`. All files are written under temporary names and renamed when the last one
/// is complete; after a failure none of this call is left. Errors: `unwritable` with the bytes needed and those that
/// the disk has; `unsafe_path` for names that are no file names; those of reading.
result<weight_sources> offload_tensors(const image_storage& from, std::span<const std::uint32_t> atoms,
                                       const offload_options& options);

/// Replaces a file as a whole: the old text or the new, never a part. Error: `unwritable`.
result<done> replace_file(const std::string& path, std::string_view text);

}  // namespace berth
