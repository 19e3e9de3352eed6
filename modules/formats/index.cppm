// SPDX-License-Identifier: Apache-2.0
module;

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

export module berth.formats:index;

import berth.base;
import :json;

export namespace berth {

/// What a `*.index.json` says: which shard holds which tensor. Sizes in it are hints, never trusted.
struct checkpoint_index {
  std::vector<std::string> shards;                             ///< plain file names, in order of first mention
  std::vector<std::pair<std::string, std::uint32_t>> entries;  ///< tensor name -> index into `shards`
  /// `metadata.total_size` if it is a whole number of bytes; writers get it wrong (0, another dtype, ties twice).
  std::optional<bytes> total_size;
  std::vector<std::string> warnings;
};

/// True for a name that stays inside its folder on every system: no separators, drive letters, "..", control
/// characters.
bool is_plain_file_name(std::string_view name);

/// Reads an index document. Errors: `malformed` for a missing or wrong `weight_map`, `unsafe_path` for a shard name
/// that points outside the folder. Linear time.
result<checkpoint_index> read_index(const json::value& document, std::string_view what);

/// The same from a file.
result<checkpoint_index> read_index_file(const std::string& path);

}  // namespace berth
