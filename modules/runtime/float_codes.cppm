// SPDX-License-Identifier: Apache-2.0
// Not exported: floats of 8 and 16 bits as numbers.
module;

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

export module berth.runtime:float_codes;

import berth.base;

namespace berth::detail {

/// What a small format does with numbers beyond its largest.
enum class beyond : std::uint8_t {
  infinity,  ///< IEEE 754
  nan,       ///< there is no infinity (e4m3fn: all ones; fnuz: the pattern of minus zero)
};

/// A float of `Exponent` and `Mantissa` bits below a sign. Reading is exact; writing rounds to nearest, ties to even,
/// as torch does.
template <class Code, int Exponent, int Mantissa, int Bias, beyond Beyond, bool MinusZeroIsNan = false>
struct float_code {
  using code = Code;
  static constexpr int sign_shift = Exponent + Mantissa;
  static constexpr std::uint32_t sign = 1u << sign_shift;
  static constexpr std::uint32_t magnitude = sign - 1;
  static constexpr std::uint32_t mantissa = (1u << Mantissa) - 1;
  static constexpr std::uint32_t top_exponent = (1u << Exponent) - 1;
  static constexpr std::uint32_t nan_code = MinusZeroIsNan          ? sign
                                            : Beyond == beyond::nan ? magnitude
                                                                    : (top_exponent << Mantissa | 1u << (Mantissa - 1));
  static constexpr std::uint32_t infinity_code = top_exponent << Mantissa;
  /// The largest finite magnitude: below infinity, below the NaN of all ones, or all ones.
  static constexpr std::uint32_t largest = Beyond == beyond::infinity ? infinity_code - 1
                                           : MinusZeroIsNan           ? magnitude
                                                                      : magnitude - 1;

  static float read(Code c) {
    const std::uint32_t s = (c & sign) << (31 - sign_shift), m = c & magnitude;
    if (is_nan(c)) return std::numeric_limits<float>::quiet_NaN();
    if (Beyond == beyond::infinity && m == infinity_code) return std::bit_cast<float>(s | 0x7f800000u);
    // Moved under f32's exponent, a value is off by the difference of the biases; the product is exact.
    const float scale = std::bit_cast<float>(static_cast<std::uint32_t>(254 - Bias) << 23);
    const float value = std::bit_cast<float>(m << (23 - Mantissa));
    return std::bit_cast<float>(s | std::bit_cast<std::uint32_t>(value * scale));
  }

  static Code write(float v) {
    const auto bits = std::bit_cast<std::uint32_t>(v);
    const std::uint32_t s = bits >> 31 << sign_shift, m = bits & 0x7fffffffu;
    if (m > 0x7f800000u) return static_cast<Code>(MinusZeroIsNan ? sign : nan_code);
    const auto rounded = round(m);
    if (rounded > largest)
      return static_cast<Code>(Beyond == beyond::infinity ? s | infinity_code : MinusZeroIsNan ? sign : s | nan_code);
    return static_cast<Code>(MinusZeroIsNan && rounded == 0 ? 0 : s | rounded);
  }

 private:
  static bool is_nan(Code c) {
    if constexpr (MinusZeroIsNan) return c == sign;
    const std::uint32_t m = c & magnitude;
    return Beyond == beyond::infinity ? m > infinity_code : m == magnitude;
  }
  /// The magnitude's code without a limit on the exponent: too large a value gives too large a code.
  static std::uint32_t round(std::uint32_t m) {
    // A subnormal f32 has the exponent of the smallest normal one and no leading one.
    const int exponent = static_cast<int>(m >> 23 == 0 ? 1 : m >> 23) - 127 + Bias;
    if (exponent > static_cast<int>(top_exponent) + 1) return magnitude + 1;
    if (exponent <= -Mantissa - 1) return 0;  // below half of the smallest
    const std::uint32_t full = m >> 23 == 0 ? m & 0x7fffffu : (m & 0x7fffffu) | 0x800000u;
    const int drop = 23 - Mantissa + (exponent <= 0 ? 1 - exponent : 0);
    const std::uint32_t kept = full >> drop, rest = full & ((1u << drop) - 1), half = 1u << (drop - 1);
    const std::uint32_t up = rest > half || (rest == half && (kept & 1u) != 0) ? 1 : 0;
    // The leading one of a normal number adds one to the exponent below it, and so does a carry.
    return exponent <= 0 ? kept + up : (static_cast<std::uint32_t>(exponent - 1) << Mantissa) + kept + up;
  }
};

using f16_code = float_code<std::uint16_t, 5, 10, 15, beyond::infinity>;
using bf16_code = float_code<std::uint16_t, 8, 7, 127, beyond::infinity>;
using e5m2_code = float_code<std::uint8_t, 5, 2, 15, beyond::infinity>;
using e4m3_code = float_code<std::uint8_t, 4, 3, 7, beyond::nan>;
using e5m2fnuz_code = float_code<std::uint8_t, 5, 2, 16, beyond::nan, true>;
using e4m3fnuz_code = float_code<std::uint8_t, 4, 3, 8, beyond::nan, true>;

/// The same for the formats of the machine.
struct f32_code {
  using code = float;
  static float read(float v) { return v; }
  static float write(float v) { return v; }
};
struct f64_code {
  using code = double;
  static float read(double v) { return static_cast<float>(v); }
  static double write(float v) { return v; }
};

/// Calls `f` with the code of a dtype; false for dtypes that no conversion knows.
template <class F>
constexpr bool with_code(dtype t, F&& f) {
  switch (t) {
    case dtype::f16:
      f(f16_code{});
      return true;
    case dtype::bf16:
      f(bf16_code{});
      return true;
    case dtype::f32:
      f(f32_code{});
      return true;
    case dtype::f64:
      f(f64_code{});
      return true;
    case dtype::f8_e4m3:
      f(e4m3_code{});
      return true;
    case dtype::f8_e5m2:
      f(e5m2_code{});
      return true;
    case dtype::f8_e4m3fnuz:
      f(e4m3fnuz_code{});
      return true;
    case dtype::f8_e5m2fnuz:
      f(e5m2fnuz_code{});
      return true;
    default:
      return false;
  }
}

/// Elements lie anywhere: no alignment is assumed.
template <class T>
T load_element(const std::byte* at) {
  T out;
  std::memcpy(&out, at, sizeof out);
  return out;
}
template <class T>
void store_element(std::byte* at, T v) {
  std::memcpy(at, &v, sizeof v);
}

}  // namespace berth::detail
