// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

module berth.base;

namespace berth {
namespace {

struct unit {
  std::string_view name;
  bytes factor;
};

constexpr std::array<unit, 9> units{{{"KiB", KiB},
                                     {"MiB", MiB},
                                     {"GiB", GiB},
                                     {"TiB", TiB},
                                     {"KB", 1'000},
                                     {"MB", 1'000'000},
                                     {"GB", 1'000'000'000},
                                     {"TB", 1'000'000'000'000},
                                     {"B", 1}}};

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool same_ignoring_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (lower(a[i]) != lower(b[i])) return false;
  return true;
}

failure bad_size(std::string_view s, std::string_view why) {
  return fail(errc::invalid_argument, s, text<160>(why).append("; write a size like 20GiB, 1.5GB or 1048576"));
}

/// Splits off the unit and says what the user probably meant when it is not one of ours.
result<bytes> factor_of(std::string_view whole, std::string_view suffix) {
  if (suffix.empty()) return bytes{1};
  for (const auto& u : units)
    if (u.name == suffix) return u.factor;
  std::string_view trimmed = suffix;
  while (!trimmed.empty() && (trimmed.front() == ' ' || trimmed.front() == '\t')) trimmed.remove_prefix(1);
  for (const auto& u : units)
    if (same_ignoring_case(u.name, trimmed))
      return bad_size(whole, text<96>("the unit is spelt ")
                                 .append(u.name)
                                 .append(trimmed.size() != suffix.size() ? ", without a space before it" : ""));
  return bad_size(whole, "not a size");
}

}  // namespace

result<bytes> parse_size(std::string_view s) {
  std::size_t i = 0;
  // value = digits / 10^decimals; 19 significant digits always fit 64 bits.
  std::uint64_t digits = 0;
  unsigned decimals = 0, significant = 0;
  bool any = false, point = false;
  for (; i < s.size(); ++i) {
    if (s[i] == '.' && !point) {
      point = true;
      continue;
    }
    if (!is_digit(s[i])) break;
    any = true;
    if (digits != 0 || s[i] != '0') ++significant;
    if (significant > 18) return fail(errc::overflow, s, "a size has at most 18 digits");
    digits = digits * 10 + static_cast<std::uint64_t>(s[i] - '0');
    if (point) ++decimals;
  }
  if (!s.empty() && s.front() == '-') return bad_size(s, "a size cannot be negative");
  if (!any) return bad_size(s, s.empty() ? "empty size" : "not a size");
  auto factor = factor_of(s, s.substr(i));
  if (!factor) return factor;
  if (point && s.substr(i).empty()) return bad_size(s, "a number with a decimal point needs a unit");
  if (decimals > 18) return fail(errc::overflow, s, "a size has at most 18 digits");
  unsigned __int128 scaled = static_cast<unsigned __int128>(digits) * *factor;
  for (unsigned k = 0; k < decimals; ++k) scaled /= 10;
  if (scaled > max_bytes) return fail(errc::overflow, s, "larger than 8 EiB");
  return static_cast<bytes>(scaled);
}

std::string format_size(bytes n) {
  constexpr std::array<std::pair<bytes, std::string_view>, 3> scales{{{GiB, " GiB"}, {MiB, " MiB"}, {KiB, " KiB"}}};
  for (const auto& [scale, name] : scales) {
    if (n < scale) continue;
    // Hundredths, rounded half up, in integers so that the text is the same everywhere.
    const auto hundredths = static_cast<std::uint64_t>((static_cast<unsigned __int128>(n) * 100 + scale / 2) / scale);
    std::string out = std::to_string(hundredths / 100);
    const auto rest = hundredths % 100;
    out += '.';
    out += static_cast<char>('0' + rest / 10);
    out += static_cast<char>('0' + rest % 10);
    return out.append(name);
  }
  return std::to_string(n) + " B";
}

}  // namespace berth
