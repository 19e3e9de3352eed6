// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

module berth.compat;

import berth.base;

namespace berth::hf::accelerate {
namespace {

/// Code points of the zeros of Unicode's decimal digits outside ASCII (category Nd); each block has ten.
constexpr std::array<std::uint32_t, 67> zero_digits{
    0x660,   0x6f0,   0x7c0,   0x966,   0x9e6,   0xa66,   0xae6,   0xb66,   0xbe6,   0xc66,   0xce6,   0xd66,
    0xde6,   0xe50,   0xed0,   0xf20,   0x1040,  0x1090,  0x17e0,  0x1810,  0x1946,  0x19d0,  0x1a80,  0x1a90,
    0x1b50,  0x1bb0,  0x1c40,  0x1c50,  0xa620,  0xa8d0,  0xa900,  0xa9d0,  0xa9f0,  0xaa50,  0xabf0,  0xff10,
    0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730,
    0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x11f50, 0x16a60, 0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2,
    0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e4f0, 0x1e950, 0x1fbf0};

constexpr bool is_unicode_space(std::uint32_t c) {
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
         c == 0x202f || c == 0x205f || c == 0x3000;
}

/// Reads one UTF-8 sequence of two to four bytes at `i` and moves behind it; 0 for invalid bytes.
std::uint32_t decode(std::string_view s, std::size_t& i) {
  const auto lead = static_cast<unsigned char>(s[i++]);
  const int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
  std::uint32_t c = lead & (0x3fu >> more);
  for (int k = 0; k < more && i < s.size(); ++k) c = (c << 6) | (static_cast<unsigned char>(s[i++]) & 0x3fu);
  return more == 0 ? 0 : c;
}

/// What Python turns the text into before it parses: Unicode digits and spaces become ASCII ones.
std::string to_ascii(std::string_view s) {
  std::string out;
  for (std::size_t i = 0; i < s.size();) {
    if (static_cast<unsigned char>(s[i]) < 0x80) {
      out += s[i++];
      continue;
    }
    const auto c = decode(s, i);
    const auto after = std::upper_bound(zero_digits.begin(), zero_digits.end(), c);
    if (after != zero_digits.begin() && c - *(after - 1) < 10)
      out += static_cast<char>('0' + (c - *(after - 1)));
    else
      out += is_unicode_space(c) ? ' ' : '?';
  }
  return out;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool equals_ignoring_case(std::string_view a, std::string_view lower_case) {
  return std::equal(a.begin(), a.end(), lower_case.begin(), lower_case.end(),
                    [](char x, char y) { return lower(x) == y; });
}

/// Takes the underscores out, or gives nothing if one is not between two digits.
std::optional<std::string> without_underscores(std::string_view s) {
  std::string out;
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (s[i] != '_')
      out += s[i];
    else if (i == 0 || i + 1 == s.size() || !is_digit(s[i - 1]) || !is_digit(s[i + 1]))
      return std::nullopt;
  }
  return out;
}

/// True for digits with at most one point among or around them and an optional exponent.
bool is_decimal(std::string_view s) {
  std::size_t i = 0, digits = 0;
  while (i < s.size() && is_digit(s[i])) ++i, ++digits;
  if (i < s.size() && s[i] == '.') ++i;
  while (i < s.size() && is_digit(s[i])) ++i, ++digits;
  if (digits == 0) return false;
  if (i == s.size()) return true;
  if (lower(s[i]) != 'e') return false;
  ++i;
  if (i < s.size() && (s[i] == '+' || s[i] == '-')) ++i;
  return i < s.size() && std::all_of(s.begin() + static_cast<std::ptrdiff_t>(i), s.end(), is_digit);
}

/// A valid decimal that is out of a double's range is infinite or 0: the sign of its decimal exponent tells which.
double out_of_range(std::string_view s) {
  const auto e = std::min(s.find_first_of("eE"), s.size());
  const auto mantissa = s.substr(0, e);
  const auto point = std::min(mantissa.find('.'), mantissa.size());
  const auto first = mantissa.find_first_of("123456789");
  if (first == std::string_view::npos) return 0.0;
  std::int64_t exponent = 0;
  if (e < s.size()) {
    const bool negative = s[e + 1] == '-';
    for (const char c : s.substr(e + 1))
      if (is_digit(c)) exponent = std::min<std::int64_t>(exponent * 10 + (c - '0'), std::int64_t{1} << 60);
    if (negative) exponent = -exponent;
  }
  const auto place = static_cast<std::int64_t>(point) - static_cast<std::int64_t>(first) + exponent;
  return place > 0 ? std::numeric_limits<double>::infinity() : 0.0;
}

struct unit {
  std::string_view suffix;  ///< in lower case
  double bytes;
  bool bits_in_lower_case;  ///< a last "b" means bits
};
constexpr std::array<unit, 6> units{{{"gib", 0x1p30, false},
                                     {"mib", 0x1p20, false},
                                     {"kib", 0x1p10, false},
                                     {"gb", 1e9, true},
                                     {"mb", 1e6, true},
                                     {"kb", 1e3, true}}};

/// Upper-casing in Python also turns the dotless i (U+0131) into "I".
std::string with_plain_i(std::string_view s) {
  std::string out(s);
  for (auto at = out.find("\xc4\xb1"); at != std::string::npos; at = out.find("\xc4\xb1", at)) out.replace(at, 2, "i");
  return out;
}

failure not_a_size(std::string_view text) {
  return fail(errc::invalid_argument, "ValueError",
              "\"" + std::string(text) +
                  "\" is not a size that the peer reads; give a number and GiB, MiB, KiB, GB, MB or KB, like 20GiB");
}

}  // namespace

std::optional<double> python_float(std::string_view text) {
  auto ascii = to_ascii(text);
  constexpr std::string_view spaces = " \t\n\v\f\r";
  const auto begin = ascii.find_first_not_of(spaces);
  if (begin == std::string::npos) return std::nullopt;
  const auto plain =
      without_underscores(std::string_view(ascii).substr(begin, ascii.find_last_not_of(spaces) + 1 - begin));
  if (!plain) return std::nullopt;
  std::string_view s = *plain;
  const bool negative = !s.empty() && s.front() == '-';
  if (!s.empty() && (s.front() == '-' || s.front() == '+')) s.remove_prefix(1);
  double v = 0;
  if (equals_ignoring_case(s, "inf") || equals_ignoring_case(s, "infinity")) {
    v = std::numeric_limits<double>::infinity();
  } else if (equals_ignoring_case(s, "nan")) {
    v = std::numeric_limits<double>::quiet_NaN();
  } else {
    if (!is_decimal(s)) return std::nullopt;
    const auto [end, status] = std::from_chars(s.data(), s.data() + s.size(), v);
    if (status == std::errc::result_out_of_range) v = out_of_range(s);
  }
  return negative ? -v : v;
}

result<number> convert_file_size_to_int(std::string_view text) {
  for (const auto& u : units) {
    // Only the unit itself may hold the dotless i; the number before it is read as it stands.
    auto tail = with_plain_i(text.substr(text.size() - std::min(text.size(), u.suffix.size() + 1)));
    tail = tail.size() > u.suffix.size() ? tail.substr(tail.size() - u.suffix.size()) : tail;
    if (!equals_ignoring_case(tail, u.suffix)) continue;
    const bool dotless = text.substr(text.size() - u.suffix.size()).find('\xb1') != std::string_view::npos;
    const auto value = python_float(text.substr(0, text.size() - u.suffix.size() - (dotless ? 1 : 0)));
    if (!value || std::isnan(*value * u.bytes)) return not_a_size(text);
    if (std::isinf(*value * u.bytes))
      return fail(errc::peer_failure, "OverflowError",
                  "\"" + std::string(text) + "\" is infinite, which the peer cannot turn into a number of bytes");
    auto size = number::truncated(*value * u.bytes);
    if (u.bits_in_lower_case && text.back() == 'b') size = floor_divide(size, 8);
    if (size < 0) return not_a_size(text);
    return size;
  }
  return not_a_size(text);
}

result<number> convert_file_size_to_int(const number& size) {
  if (size.is_real())
    return fail(errc::peer_failure, "AttributeError",
                "the size " + size.text() + " is a float; the peer takes integers and strings with a unit only");
  if (size < 0) return not_a_size(size.text());
  return size;
}

}  // namespace berth::hf::accelerate
