// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <string>
#include <string_view>

export module berth.formats:text_file;

import berth.base;
import :json;

export namespace berth {

/// Largest JSON text that is read: real configs reach 3 MB, index files of 10^5 tensors about 15 MB.
inline constexpr bytes max_text_file = bytes{512} << 20;

/// Reads a whole file into memory. Errors: `not_found` (also for a symbolic link whose target is gone, which a
/// partly downloaded hub cache has), `unreadable` for folders and permission problems, `capacity` above `limit`.
result<std::string> read_text_file(const std::string& path, bytes limit = max_text_file);

/// Refuses texts that stand in for a file: git-LFS pointers, hub-cache links checked in as text, empty files.
/// `start` is the text or at least its first 256 bytes, `size` the size of the whole file.
result<done> check_not_a_placeholder(std::string_view start, bytes size, std::string_view what);

/// Reads and parses one JSON document. `what` of errors is the path.
result<json::value> read_json_file(const std::string& path, json::parse_options options = {});

}  // namespace berth
