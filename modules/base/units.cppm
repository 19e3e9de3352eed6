// SPDX-License-Identifier: Apache-2.0
module;

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

export module berth.base:units;

import :result;
import :text;

export namespace berth {

/// Bytes. Plans are checked in exact integer arithmetic; sizes above `max_bytes` are refused when read.
using bytes = std::uint64_t;

inline constexpr bytes KiB = bytes{1} << 10;
inline constexpr bytes MiB = bytes{1} << 20;
inline constexpr bytes GiB = bytes{1} << 30;
inline constexpr bytes TiB = bytes{1} << 40;
inline constexpr bytes max_bytes = static_cast<bytes>(std::numeric_limits<std::int64_t>::max());

/// Times of schedules: whole picoseconds, so that periods are exact and compare with ==. 63 bits are 106 days.
using picoseconds = std::int64_t;
/// No time reaches this value; as a limit it means "none".
inline constexpr picoseconds never = std::numeric_limits<picoseconds>::max();
inline constexpr double picoseconds_per_second = 1e12;
/// The nearest picosecond; `never` for what is not finite or too long. Precondition: not negative.
inline picoseconds to_picoseconds(double seconds) {
  return seconds < 9e6 ? std::llround(seconds * picoseconds_per_second) : never;
}
constexpr double seconds_from(picoseconds t) { return static_cast<double>(t) / picoseconds_per_second; }

/// a * b, or nothing if the product exceeds `max_bytes`.
constexpr std::optional<bytes> checked_mul(bytes a, bytes b) {
  if (a != 0 && b > max_bytes / a) return std::nullopt;
  return a * b;
}
/// a + b, or nothing if the sum exceeds `max_bytes`.
constexpr std::optional<bytes> checked_add(bytes a, bytes b) {
  if (a > max_bytes || b > max_bytes - a) return std::nullopt;
  return a + b;
}
/// Rounds up to a multiple of `granularity` (0 and 1 leave the value alone). Precondition: the result fits.
constexpr bytes round_up(bytes n, bytes granularity) {
  return granularity <= 1 ? n : (n + granularity - 1) / granularity * granularity;
}

/// Reads a size as berth's own options take it: a whole number of bytes, or a decimal number with one of
/// B, KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (powers of 1024). No space before the unit, case as
/// written here; everything else is refused with the spelling that would have worked. Exact: no floating point.
result<bytes> parse_size(std::string_view s);

/// A size for people: GiB with two decimals from 1 GiB on, else MiB, KiB or B ("14.96 GiB", "512 B").
std::string format_size(bytes n);

}  // namespace berth
