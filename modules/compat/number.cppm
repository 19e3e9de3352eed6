// SPDX-License-Identifier: Apache-2.0
module;

#include <compare>
#include <cstdint>
#include <string>

export module berth.compat:number;

export namespace berth::hf {

/// 128-bit integer; sums of tensor sizes always fit.
__extension__ typedef __int128 int128;

/// A Python number as the peers' planners use it: an `int` or a `float`. The kind is part of the result (a float limit
/// makes accelerate's fallback search fail), and arithmetic follows Python: int with int stays exact, anything with a
/// float becomes a double, comparisons between the two kinds are exact.
/// Integers of 2^126 and more only come from size strings ("1e40GB"); they hold an exact double.
class number {
 public:
  constexpr number() = default;
  constexpr number(int v) : integer_(v) {}
  constexpr number(std::int64_t v) : integer_(v) {}
  constexpr number(std::uint64_t v) : integer_(v) {}
  constexpr number(int128 v) : integer_(v) {}
  /// A Python float.
  static constexpr number real(double v) {
    number n;
    n.kind_ = kind::real;
    n.real_ = v;
    return n;
  }
  /// `int(v)` of Python: rounds toward zero. Precondition: `v` is finite.
  static number truncated(double v);

  constexpr bool is_real() const { return kind_ == kind::real; }
  double to_double() const;
  /// Decimal digits of an integer, the shortest text that reads back to the same double of a float ("1.5", "29.0").
  std::string text() const;

  friend number operator+(const number& a, const number& b);
  friend number operator-(const number& a, const number& b);
  friend inline number operator*(const number& a, double b) { return real(a.to_double() * b); }
  inline number& operator+=(const number& b) { return *this = *this + b; }

  /// `a // b` of Python for a positive divisor.
  friend number floor_divide(const number& a, std::int64_t b);
  /// `int(a / b)` of Python for a non-negative finite dividend and a positive divisor: true division is rounded
  /// correctly to a double first.
  friend number truncated_quotient(const number& a, std::int64_t b);

  friend std::partial_ordering operator<=>(const number& a, const number& b);
  friend inline bool operator==(const number& a, const number& b) { return (a <=> b) == 0; }

 private:
  enum class kind : std::uint8_t { integer, wide_integer, real };
  static number wide(double v);

  int128 integer_ = 0;
  double real_ = 0;
  kind kind_ = kind::integer;
};

number floor_divide(const number& a, std::int64_t b);
number truncated_quotient(const number& a, std::int64_t b);

/// `min(a, b)` and `max(a, b)` of Python: the first of two equal values, with its kind.
inline const number& first_min(const number& a, const number& b) { return b < a ? b : a; }
inline const number& first_max(const number& a, const number& b) { return b > a ? b : a; }

}  // namespace berth::hf
