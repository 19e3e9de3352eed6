// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

module berth.exec;

import berth.base;
import berth.topology;

namespace berth {
namespace {

struct time_unit {
  std::string_view name;
  picoseconds factor;
};
constexpr std::array<time_unit, 5> time_units{
    {{"s", 1'000'000'000'000}, {"ms", 1'000'000'000}, {"us", 1'000'000}, {"ns", 1'000}, {"ps", 1}}};

enum key : unsigned {
  n_key,
  times_key,
  above_key,
  device_key,
  name_key,
  factor_key,
  rate_key,
  from_key,
  for_key,
  at_key
};
constexpr std::array<std::string_view, 10> key_names{"n",      "times", "above", "device", "name",
                                                     "factor", "rate",  "from",  "for",    "at"};
constexpr unsigned bit(key k) { return 1u << k; }

struct kind_rule {
  unsigned needed;
  unsigned allowed;
  std::string_view form;
};
constexpr std::array<kind_rule, fault_kind_count> kind_rules{{
    {0, bit(n_key) | bit(times_key) | bit(above_key) | bit(device_key),
     "alloc:n=3[,times=K] or alloc:above=1GiB[,device=0]"},
    {bit(n_key), bit(n_key) | bit(times_key), "copy:n=5[,times=K]"},
    {bit(name_key) | bit(factor_key), bit(name_key) | bit(factor_key) | bit(from_key) | bit(for_key),
     "segment:name=pcie 0 in,factor=0.1[,from=10ms][,for=100ms]"},
    {bit(device_key) | bit(factor_key), bit(device_key) | bit(factor_key) | bit(from_key) | bit(for_key),
     "slow:device=1,factor=3[,from=10ms][,for=100ms]"},
    {bit(device_key), bit(device_key) | bit(at_key), "lost:device=0[,at=1s]"},
    {bit(n_key), bit(n_key) | bit(times_key), "read:n=2[,times=K]"},
    {bit(n_key), bit(n_key) | bit(times_key) | bit(for_key), "stall:n=4[,times=K][,for=50ms]"},
    {bit(rate_key), bit(rate_key), "random:rate=0.01"},
}};

failure bad(std::string_view piece, std::string_view why, std::string_view allowed) {
  return fail(errc::invalid_argument, piece, text<416>(why).append("; write ").append(allowed));
}

/// Cuts off and returns what lies before the first `mark`; all of it without one.
std::string_view cut(std::string_view& rest, char mark, bool& found) {
  const auto at = rest.find(mark);
  found = at != std::string_view::npos;
  const auto piece = rest.substr(0, at);
  rest = found ? rest.substr(at + 1) : std::string_view{};
  return piece;
}

std::optional<std::uint64_t> count_from(std::string_view s) {
  std::uint64_t v = 0;
  const auto* end = s.data() + s.size();
  const auto [stop, problem] = std::from_chars(s.data(), end, v);
  if (problem != std::errc{} || stop != end || v == 0 || v > max_bytes) return std::nullopt;
  return v;
}

/// A finite number without sign, as `put_number` writes it.
std::optional<double> number_from(std::string_view s) {
  if (s.empty() || s.front() == '-') return std::nullopt;
  double v = 0;
  const auto* end = s.data() + s.size();
  const auto [stop, problem] = std::from_chars(s.data(), end, v);
  if (problem != std::errc{} || stop != end || !(v >= 0 && v <= 1e300)) return std::nullopt;
  return v;
}

/// Exact: digits with at most one point, times the unit, must be whole picoseconds below `never`.
std::optional<picoseconds> time_from(std::string_view s) {
  std::uint64_t digits = 0, scale = 1;
  bool any = false, point = false;
  std::size_t i = 0;
  for (; i < s.size(); ++i) {
    if (s[i] == '.' && !point) {
      point = true;
      continue;
    }
    if (s[i] < '0' || s[i] > '9') break;
    if (digits >= 1'000'000'000'000'000'000u || scale >= 1'000'000'000'000'000'000u) return std::nullopt;
    any = true;
    digits = digits * 10 + static_cast<std::uint64_t>(s[i] - '0');
    if (point) scale *= 10;
  }
  if (!any) return std::nullopt;
  for (const auto& u : time_units) {
    if (u.name != s.substr(i)) continue;
    const auto all = static_cast<unsigned __int128>(digits) * static_cast<std::uint64_t>(u.factor);
    if (all % scale != 0 || all / scale >= static_cast<std::uint64_t>(never)) return std::nullopt;
    return static_cast<picoseconds>(all / scale);
  }
  return std::nullopt;
}

constexpr std::string_view counts_allowed = "a whole number from 1 on, such as n=3";
constexpr std::string_view times_allowed =
    "a time in whole picoseconds such as 10ms, 1.5s or 200us (ps, ns, us, ms, s)";

result<done> set_count(std::uint64_t& to, std::string_view piece, std::string_view value) {
  const auto v = count_from(value);
  if (!v) return bad(piece, "not a count", counts_allowed);
  to = *v;
  return done{};
}
result<done> set_time(picoseconds& to, std::string_view piece, std::string_view value, bool positive) {
  const auto v = time_from(value);
  if (!v) return bad(piece, "not a time", times_allowed);
  if (positive && *v == 0) return bad(piece, "this time must not be zero", times_allowed);
  to = *v;
  return done{};
}
result<done> set_factor(fault& f, std::string_view piece, std::string_view value) {
  const auto v = number_from(value);
  const bool share = f.kind == fault_kind::segment;
  const bool fits = v && (share ? *v > 0 && *v <= 1 : *v >= 1 && *v <= 1e6);
  if (!fits)
    return bad(piece, "not a factor of this kind",
               share ? "the share of the capacity that is left, above 0 and up to 1, such as factor=0.1"
                     : "how many times as long launches take, from 1 to 1000000, such as factor=3");
  f.factor = *v;
  return done{};
}

result<done> set_key(fault& f, key k, std::string_view piece, std::string_view value) {
  switch (k) {
    case n_key:
      return set_count(f.n, piece, value);
    case times_key:
      return set_count(f.times, piece, value);
    case above_key: {
      const auto size = parse_size(value);
      if (!size) return bad(piece, "not a size", "a size like 20GiB, 1.5GB or 1048576");
      f.above = *size;
      return done{};
    }
    case device_key:
      if (!device_id::fits(value))
        return bad(piece, "not a device", "the id of a device, such as device=0 or device=cpu");
      f.device = device_id(value);
      return done{};
    case name_key:
      if (value.empty() || value.size() > 48)
        return bad(piece, "not a segment", "the name of a segment, up to 48 bytes");
      f.name = text<48>(value);
      return done{};
    case factor_key:
      return set_factor(f, piece, value);
    case rate_key: {
      const auto v = number_from(value);
      if (!v || *v > 1) return bad(piece, "not a probability", "a number from 0 to 1, such as rate=0.01");
      f.rate = *v;
      return done{};
    }
    case from_key:
    case at_key:
      return set_time(f.from, piece, value, false);
    case for_key:
      return set_time(f.lasting, piece, value, true);
  }
  return done{};
}

result<key> key_from(std::string_view piece, std::string_view name, const kind_rule& rule, unsigned seen) {
  for (unsigned i = 0; i < key_names.size(); ++i) {
    const auto k = static_cast<key>(i);
    if (key_names[i] != name || (rule.allowed & bit(k)) == 0) continue;
    if ((seen & bit(k)) != 0) return bad(piece, "given twice", rule.form);
    return k;
  }
  return bad(piece, "this kind has no such key", rule.form);
}

/// What one key cannot tell: keys that are missing or exclude each other, ranges that leave 63 bits.
result<done> check_keys(const fault& f, std::string_view piece, const kind_rule& rule, unsigned seen) {
  for (unsigned i = 0; i < key_names.size(); ++i)
    if ((rule.needed & ~seen & (1u << i)) != 0)
      return bad(piece, text<64>("the key \"").append(key_names[i]).append("\" is missing"), rule.form);
  if (f.kind == fault_kind::alloc) {
    const bool counted = (seen & bit(n_key)) != 0, sized = (seen & bit(above_key)) != 0;
    if (counted == sized)
      return bad(piece, "either the key \"n\" or the key \"above\" says which allocations", rule.form);
    if (counted && (seen & bit(device_key)) != 0)
      return bad(piece, "calls are counted over all devices: \"device\" goes with \"above\"", rule.form);
    if (sized && (seen & bit(times_key)) != 0) return bad(piece, "\"times\" goes with \"n\"", rule.form);
  }
  if (f.times > max_bytes - f.n) return bad(piece, "n + times is too large", rule.form);
  if (f.lasting != never && f.lasting >= never - f.from) return bad(piece, "ends after the end of time", rule.form);
  return done{};
}

result<fault_kind> kind_from(std::string_view piece, std::string_view name) {
  for (std::size_t i = 0; i < fault_kind_count; ++i)
    if (name_of(static_cast<fault_kind>(i)) == name) return static_cast<fault_kind>(i);
  text<160> kinds("one of the kinds");
  for (std::size_t i = 0; i < fault_kind_count; ++i)
    kinds.append(i == 0 ? " " : ", ").append(name_of(static_cast<fault_kind>(i)));
  return bad(piece, piece.empty() ? "empty fault" : "unknown kind of fault", kinds.append(", as in copy:n=5"));
}

result<fault> fault_from(std::string_view piece) {
  bool colon = false, more = true;
  auto rest = piece;
  const auto name = cut(rest, ':', colon);
  const auto kind = kind_from(colon ? name : piece, name);
  if (!kind) return kind.propagate();
  const auto& rule = kind_rules[static_cast<std::size_t>(*kind)];
  if (!colon) return bad(piece, "the keys are missing", rule.form);
  fault f;
  f.kind = *kind;
  unsigned seen = 0;
  while (more) {
    const auto pair = cut(rest, ',', more);
    auto value = pair;
    bool equals = false;
    const auto key_name = cut(value, '=', equals);
    if (!equals) return bad(pair.empty() ? piece : pair, "not of the form key=value", rule.form);
    const auto k = key_from(pair, key_name, rule, seen);
    if (!k) return k.propagate();
    if (const auto ok = set_key(f, *k, pair, value); !ok) return ok.propagate();
    seen |= bit(*k);
  }
  if (const auto ok = check_keys(f, piece, rule, seen); !ok) return ok.propagate();
  return f;
}

using line = text<160>;

void put_size(line& out, bytes n) {
  constexpr std::array<std::string_view, 5> names{"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t i = 0;
  for (; n != 0 && n % 1024 == 0 && i + 1 < names.size(); ++i) n /= 1024;
  out.append(n).append(names[i]);
}
void put_time(line& out, picoseconds t) {
  for (const auto& u : time_units)
    if (t % u.factor == 0) {
      out.append(static_cast<std::uint64_t>(t / u.factor)).append(u.name);
      return;
    }
}
void put_number(line& out, double v) {
  std::array<char, 40> digits{};
  const auto [end, problem] = std::to_chars(digits.data(), digits.data() + digits.size(), v);
  if (problem == std::errc{}) out.append({digits.data(), static_cast<std::size_t>(end - digits.data())});
}
void put_interval(line& out, const fault& f) {
  if (f.from != 0) put_time(out.append(",from="), f.from);
  if (f.lasting != never) put_time(out.append(",for="), f.lasting);
}
void put_calls(line& out, const fault& f) {
  out.append("n=").append(f.n);
  if (f.times != 1) out.append(",times=").append(f.times);
}

}  // namespace

text<160> print(const fault& f) {
  line out(name_of(f.kind));
  out.append(":");
  switch (f.kind) {
    case fault_kind::alloc:
      if (f.n != 0) {
        put_calls(out, f);
        break;
      }
      put_size(out.append("above="), f.above);
      if (!f.device.empty()) out.append(",device=").append(f.device.view());
      break;
    case fault_kind::copy:
    case fault_kind::read:
      put_calls(out, f);
      break;
    case fault_kind::stall:
      put_calls(out, f);
      if (f.lasting != never) put_time(out.append(",for="), f.lasting);
      break;
    case fault_kind::segment:
      put_number(out.append("name=").append(f.name).append(",factor="), f.factor);
      put_interval(out, f);
      break;
    case fault_kind::slow:
      put_number(out.append("device=").append(f.device.view()).append(",factor="), f.factor);
      put_interval(out, f);
      break;
    case fault_kind::lost:
      out.append("device=").append(f.device.view());
      if (f.from != 0) put_time(out.append(",at="), f.from);
      break;
    case fault_kind::random:
      put_number(out.append("rate="), f.rate);
      break;
  }
  return out;
}

std::pmr::string print(const fault_schedule& s, std::pmr::memory_resource* memory) {
  std::pmr::string out(memory);
  for (const auto& f : s.faults()) {
    if (!out.empty()) out += ';';
    out += print(f).view();
  }
  return out;
}

result<fault_schedule> parse_faults(std::string_view spec, std::uint64_t seed, std::pmr::memory_resource* memory) {
  fault_schedule s(seed, memory);
  if (spec.empty()) return s;
  auto rest = spec;
  for (bool more = true; more;) {
    auto piece = cut(rest, ';', more);
    while (!s.empty() && !piece.empty() && piece.front() == ' ') piece.remove_prefix(1);
    const auto f = fault_from(piece);
    if (!f) return f.propagate();
    if (s.faults().size() == max_faults)
      return fail(errc::capacity, piece, text<64>("a schedule has at most ").append(max_faults).append(" faults"),
                  max_faults + 1, max_faults);
    s.add(*f);
  }
  return s;
}

}  // namespace berth
