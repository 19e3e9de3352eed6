// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <span>

export module berth.exec:storage;

import berth.base;
import :handles;

export namespace berth {

/// Stored bytes as real machines read them: a callable as a value. `file` of a range is a number of the storage's own;
/// in programs it is the number of an atom, whose bytes are its image (`berth.runtime`).
struct storage {
  void* context = nullptr;
  /// Fills `to`, which is as long as the range. Called from whatever thread carries out reads, several at a time.
  /// Errors: `not_found`, `io`, `invalid_argument` for a range outside the file.
  result<done> (*read)(void* context, const storage_range& from, std::span<std::byte> to) = nullptr;

  result<done> operator()(const storage_range& from, std::span<std::byte> to) const {
    if (read == nullptr) return fail(errc::unsupported, "storage", "the machine was made without storage to read from");
    return read(context, from, to);
  }
};

}  // namespace berth
