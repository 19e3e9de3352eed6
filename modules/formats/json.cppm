// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

export module berth.formats:json;

import berth.base;

export namespace berth::json {

class value;
struct member;
using array = std::vector<value>;
/// Members in file order; keys are unique (the parser refuses duplicates).
using object = std::vector<member>;
/// An integer outside [-2^63, 2^64), kept as written.
struct wide_integer {
  std::string digits;
  friend bool operator==(const wide_integer&, const wide_integer&) = default;
};

/// A JSON document. Integers keep their exact value and stay distinct from doubles (4 is not 4.0).
class value {
 public:
  value();
  value(std::nullptr_t);
  value(bool b);
  value(int i);
  value(std::int64_t i);
  value(std::uint64_t u);
  value(double d);
  value(wide_integer w);
  value(const char* s);
  value(std::string_view s);
  value(std::string s);
  value(array a);
  value(object o);
  value(const value&);
  value(value&&) noexcept;
  value& operator=(const value&);
  value& operator=(value&&) noexcept;
  ~value();

  bool is_null() const;
  /// True for any number, wide ones included.
  bool is_number() const;

  const bool* if_bool() const;
  const std::string* if_string() const;
  const array* if_array() const;
  const object* if_object() const;
  array* if_array();
  object* if_object();
  /// A double as written with a point or exponent (an integer is not one).
  const double* if_double() const;
  const wide_integer* if_wide() const;

  /// Integers exactly; 4.0 and 1e3 are not integers here.
  std::optional<std::int64_t> to_int64() const;
  std::optional<std::uint64_t> to_uint64() const;
  /// Any number as a double (integers are rounded to nearest).
  std::optional<double> to_double() const;

  /// Member of an object, or null pointer (also when this is not an object). Linear in the number of members.
  const value* find(std::string_view key) const;

  /// "null", "bool", "integer", "number", "string", "array" or "object", for messages.
  std::string_view type_name() const;

  friend bool operator==(const value&, const value&);

 private:
  std::variant<std::monostate, bool, std::int64_t, std::uint64_t, double, wide_integer, std::string, array, object>
      data_;
};

struct member {
  std::string key;
  berth::json::value value;
  friend bool operator==(const member&, const member&) = default;
};

struct parse_options {
  std::size_t max_depth = 64;
  /// Accept bare NaN, Infinity and -Infinity: only config.json files need it.
  bool allow_nonfinite = false;
};

/// Parses one document. Refuses duplicate keys, trailing data, invalid UTF-8, nesting above `max_depth`, numbers
/// that overflow a double. `what` names the text in errors; the error gives line and column. Linear time.
result<value> parse(std::string_view text, std::string_view what, parse_options options = {});

/// Writes compact JSON, or indented by `indent` spaces. Doubles are written so that they read back exactly; a
/// whole double keeps its ".0". Non-finite doubles are written as NaN / Infinity, which only config readers accept.
std::string write(const value& v, int indent = 0);

}  // namespace berth::json
