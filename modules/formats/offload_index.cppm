// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

export module berth.formats:offload_index;

import berth.base;
import berth.model;

export namespace berth {

/// One tensor in the `index.json` of an offload folder as accelerate keeps it.
struct offload_entry {
  std::string name;           ///< in the tree; the file is `<name>.dat` in the folder, unless another is named
  std::optional<dtype> type;  ///< may be missing for a named file
  std::optional<std::vector<std::uint64_t>> shape;  ///< missing for a named file
  std::string safetensors_file;                     ///< "": none
  std::string weight_name;                          ///< in that file; "": `name`
  friend bool operator==(const offload_entry&, const offload_entry&) = default;
};

/// Reads the text of an index; `what` names it in errors. Errors: `malformed`, `unsafe_path` for names that are no file
/// names. Linear.
result<std::vector<offload_entry>> read_offload_index(std::string_view text, std::string_view what);

/// The text of an index, as accelerate writes it. Entries of `older` that `entries` does not have stay, in front.
std::string write_offload_index(std::span<const offload_entry> entries, std::span<const offload_entry> older = {});

/// The entries for what was written into a folder: raw files lie in it under the names of their tensors, all others are
/// named. Companions are entries of their own.
std::vector<offload_entry> offload_entries(const weight_sources& offloaded, std::string_view folder);

}  // namespace berth
