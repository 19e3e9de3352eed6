// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

module berth.compat;

namespace berth::hf {
namespace {

/// From here on an integer is kept as an exact double.
constexpr double wide_from = 0x1p126;
constexpr int128 largest_exact = (int128{1} << 126) - 1;

std::string digits_of(int128 v) {
  const bool negative = v < 0;
  std::string s;
  do {
    const auto digit = static_cast<int>(v % 10);
    s += static_cast<char>('0' + (negative ? -digit : digit));
    v /= 10;
  } while (v != 0);
  if (negative) s += '-';
  std::reverse(s.begin(), s.end());
  return s;
}

std::string text_of(double v, std::chars_format format, bool shortest) {
  std::array<char, 400> buffer{};
  const auto r = shortest ? std::to_chars(buffer.data(), buffer.data() + buffer.size(), v)
                          : std::to_chars(buffer.data(), buffer.data() + buffer.size(), v, format, 0);
  return {buffer.data(), r.ptr};
}

std::partial_ordering reversed(std::partial_ordering o) { return 0 <=> o; }

/// Exact comparison of an integer with a double.
std::partial_ordering compare(int128 a, double b) {
  if (std::isnan(b)) return std::partial_ordering::unordered;
  if (b >= wide_from) return std::partial_ordering::less;
  if (b <= -wide_from) return std::partial_ordering::greater;
  const double whole = std::floor(b);
  const auto n = static_cast<int128>(whole);
  if (a != n) return a < n ? std::partial_ordering::less : std::partial_ordering::greater;
  return whole < b ? std::partial_ordering::less : std::partial_ordering::equivalent;
}

int bit_width(int128 v) {
  const auto high = static_cast<std::uint64_t>(v >> 64);
  return static_cast<int>(high != 0 ? 64 + std::bit_width(high) : std::bit_width(static_cast<std::uint64_t>(v)));
}

}  // namespace

number number::wide(double v) {
  number n;
  n.kind_ = kind::wide_integer;
  n.real_ = v;
  return n;
}

number number::truncated(double v) {
  v = std::trunc(v);
  if (std::fabs(v) >= wide_from) return wide(v);
  return number(static_cast<int128>(v));
}

double number::to_double() const { return kind_ == kind::integer ? static_cast<double>(integer_) : real_; }

std::string number::text() const {
  switch (kind_) {
    case kind::integer:
      return digits_of(integer_);
    case kind::wide_integer:
      return text_of(real_, std::chars_format::fixed, false);
    case kind::real:
      break;
  }
  auto s = text_of(real_, {}, true);
  if (s.find_first_not_of("-0123456789") == std::string::npos) s += ".0";
  return s;
}

number operator+(const number& a, const number& b) {
  using kind = number::kind;
  if (a.kind_ == kind::integer && b.kind_ == kind::integer) {
    const auto sum = a.integer_ + b.integer_;
    if (sum > largest_exact || sum < -largest_exact) return number::wide(static_cast<double>(sum));
    return number(sum);
  }
  if (a.is_real() || b.is_real()) return number::real(a.to_double() + b.to_double());
  return number::truncated(a.to_double() + b.to_double());
}

number operator-(const number& a, const number& b) {
  number negated = b;
  negated.integer_ = -b.integer_;
  negated.real_ = -b.real_;
  return a + negated;
}

number floor_divide(const number& a, std::int64_t b) {
  using kind = number::kind;
  const auto divisor = static_cast<double>(b);
  if (a.kind_ == kind::integer) {
    auto quotient = a.integer_ / b;
    if (a.integer_ % b < 0) --quotient;
    return number(quotient);
  }
  // Python's float floor division: exact remainder first, then the quotient is snapped to a whole number.
  double remainder = std::fmod(a.real_, divisor);
  double quotient = (a.real_ - remainder) / divisor;
  if (remainder < 0) quotient -= 1.0;
  double whole = std::floor(quotient);
  if (quotient - whole > 0.5) whole += 1.0;
  return a.is_real() ? number::real(whole) : number::truncated(whole);
}

number truncated_quotient(const number& a, std::int64_t b) {
  constexpr int128 exact_double = int128{1} << 53;
  if (a.kind_ != number::kind::integer || (a.integer_ < exact_double && b < exact_double))
    return number::truncated(a.to_double() / static_cast<double>(b));
  // Long division with a sticky bit, so that the one rounding is that of the conversion to double.
  const int shift = std::max(0, 124 - bit_width(a.integer_));
  const auto scaled = a.integer_ << shift;
  auto quotient = scaled / b;
  if (scaled % b != 0) quotient |= 1;
  return number::truncated(std::ldexp(static_cast<double>(quotient), -shift));
}

std::partial_ordering operator<=>(const number& a, const number& b) {
  using kind = number::kind;
  if (a.kind_ == kind::integer && b.kind_ == kind::integer) {
    if (a.integer_ == b.integer_) return std::partial_ordering::equivalent;
    return a.integer_ < b.integer_ ? std::partial_ordering::less : std::partial_ordering::greater;
  }
  if (a.kind_ == kind::integer) return compare(a.integer_, b.real_);
  if (b.kind_ == kind::integer) return reversed(compare(b.integer_, a.real_));
  return a.real_ <=> b.real_;
}

}  // namespace berth::hf
