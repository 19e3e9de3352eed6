// SPDX-License-Identifier: Apache-2.0
module;

#include <bit>
#include <cstdint>

export module berth.exec:work_time;

import berth.base;

namespace berth::detail {

/// A positive double as `mantissa * 2^exponent` with an integer below 2^53.
struct binary_parts {
  std::uint64_t mantissa = 0;
  int exponent = 0;
};

constexpr binary_parts parts_of(double v) {
  const auto bits = std::bit_cast<std::uint64_t>(v);
  const auto fraction = bits & ((std::uint64_t{1} << 52) - 1);
  const int biased = static_cast<int>(bits >> 52 & 0x7ff);
  if (biased == 0) return {fraction, -1074};
  return {fraction | std::uint64_t{1} << 52, biased - 1075};
}

inline constexpr double largest_finite = 0x1.fffffffffffffp1023;

constexpr int width_of(unsigned __int128 v) {
  const auto high = static_cast<std::uint64_t>(v >> 64);
  return 128 - (high != 0 ? std::countl_zero(high) : 64 + std::countl_zero(static_cast<std::uint64_t>(v)));
}

}  // namespace berth::detail

export namespace berth {

/// ceil(work / rate * 10^12): how long `work` units take at `rate` units/s, exact for all doubles (128-bit products),
/// so that every compiler and machine gets the same picoseconds. 0 for no work, `never` when the rate is 0 or the time
/// exceeds 63 bits.
constexpr picoseconds work_time(double work, double rate) {
  if (!(work > 0)) return 0;
  if (!(rate > 0) || work > detail::largest_finite) return never;
  if (rate > detail::largest_finite) return 1;
  const auto a = detail::parts_of(work), b = detail::parts_of(rate);
  auto top = static_cast<unsigned __int128>(a.mantissa) * 1'000'000'000'000u;  // below 2^93
  unsigned __int128 bottom = b.mantissa;
  const int shift = a.exponent - b.exponent;
  if (shift >= 0) {
    if (detail::width_of(top) + shift > 127) return never;  // the quotient exceeds 2^(126 - 53)
    top <<= shift;
  } else {
    if (detail::width_of(bottom) - shift > 127) return 1;  // the quotient is below 2^(93 - 126)
    bottom <<= -shift;
  }
  const auto time = (top + (bottom - 1)) / bottom;
  return time >= static_cast<unsigned __int128>(never) ? never : static_cast<picoseconds>(time);
}

}  // namespace berth
