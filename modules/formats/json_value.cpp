// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

module berth.formats;

namespace berth::json {

value::value() = default;
value::value(std::nullptr_t) {}
value::value(bool b) : data_(b) {}
value::value(int i) : data_(std::int64_t{i}) {}
value::value(std::int64_t i) : data_(i) {}
value::value(std::uint64_t u) {
  if (u <= static_cast<std::uint64_t>(INT64_MAX))
    data_ = static_cast<std::int64_t>(u);
  else
    data_ = u;
}
value::value(double d) : data_(d) {}
value::value(wide_integer w) : data_(std::move(w)) {}
value::value(const char* s) : data_(std::string(s)) {}
value::value(std::string_view s) : data_(std::string(s)) {}
value::value(std::string s) : data_(std::move(s)) {}
value::value(array a) : data_(std::move(a)) {}
value::value(object o) : data_(std::move(o)) {}
value::value(const value&) = default;
value::value(value&&) noexcept = default;
value& value::operator=(const value&) = default;
value& value::operator=(value&&) noexcept = default;
value::~value() = default;

bool value::is_null() const { return std::holds_alternative<std::monostate>(data_); }
const bool* value::if_bool() const { return std::get_if<bool>(&data_); }
const std::string* value::if_string() const { return std::get_if<std::string>(&data_); }
const array* value::if_array() const { return std::get_if<array>(&data_); }
const object* value::if_object() const { return std::get_if<object>(&data_); }
array* value::if_array() { return std::get_if<array>(&data_); }
object* value::if_object() { return std::get_if<object>(&data_); }
const double* value::if_double() const { return std::get_if<double>(&data_); }
const wide_integer* value::if_wide() const { return std::get_if<wide_integer>(&data_); }

bool value::is_number() const {
  return std::holds_alternative<std::int64_t>(data_) || std::holds_alternative<std::uint64_t>(data_) ||
         std::holds_alternative<double>(data_) || std::holds_alternative<wide_integer>(data_);
}

std::optional<std::int64_t> value::to_int64() const {
  if (const auto* i = std::get_if<std::int64_t>(&data_)) return *i;
  return std::nullopt;
}

std::optional<std::uint64_t> value::to_uint64() const {
  if (const auto* i = std::get_if<std::int64_t>(&data_); i != nullptr && *i >= 0) return static_cast<std::uint64_t>(*i);
  if (const auto* u = std::get_if<std::uint64_t>(&data_)) return *u;
  return std::nullopt;
}

std::optional<double> value::to_double() const {
  if (const auto* d = std::get_if<double>(&data_)) return *d;
  if (const auto* i = std::get_if<std::int64_t>(&data_)) return static_cast<double>(*i);
  if (const auto* u = std::get_if<std::uint64_t>(&data_)) return static_cast<double>(*u);
  if (const auto* w = std::get_if<wide_integer>(&data_)) {
    double d = 0;
    const auto status = std::from_chars(w->digits.data(), w->digits.data() + w->digits.size(), d).ec;
    if (status == std::errc{}) return d;
  }
  return std::nullopt;
}

const value* value::find(std::string_view key) const {
  if (const auto* o = if_object())
    for (const auto& m : *o)
      if (m.key == key) return &m.value;
  return nullptr;
}

std::string_view value::type_name() const {
  constexpr std::array<std::string_view, 9> names{"null",    "bool",   "integer", "integer", "number",
                                                  "integer", "string", "array",   "object"};
  return names[data_.index()];
}

bool operator==(const value& a, const value& b) { return a.data_ == b.data_; }

namespace {

void write_string(std::string& out, std::string_view s) {
  constexpr std::string_view hex = "0123456789abcdef";
  out += '"';
  for (const char c : s) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += "\\u00";
          out += hex[static_cast<unsigned char>(c) >> 4];
          out += hex[static_cast<unsigned char>(c) & 15];
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

void write_double(std::string& out, double d) {
  if (std::isnan(d)) {
    out += "NaN";
    return;
  }
  if (std::isinf(d)) {
    out += d < 0 ? "-Infinity" : "Infinity";
    return;
  }
  std::array<char, 40> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), d).ptr;
  const std::string_view digits(buffer.data(), static_cast<std::size_t>(end - buffer.data()));
  out += digits;
  if (digits.find_first_of(".e") == std::string_view::npos) out += ".0";
}

/// Scalars and containers of scalars stay on one line when indenting: shapes and slices are easier to read so.
bool is_flat(const value& v) {
  if (const auto* a = v.if_array()) {
    for (const auto& e : *a)
      if (e.if_array() || e.if_object() || (e.if_string() && a->size() > 8)) return false;
    return true;
  }
  return !v.if_object() || v.if_object()->empty();
}

struct writer {
  std::string out;
  int indent;

  void newline(int depth) {
    if (indent == 0) return;
    out += '\n';
    out.append(static_cast<std::size_t>(indent * depth), ' ');
  }

  void write(const value& v, int depth) {
    if (v.is_null())
      out += "null";
    else if (const auto* b = v.if_bool())
      out += *b ? "true" : "false";
    else if (const auto i = v.to_int64())
      out += std::to_string(*i);
    else if (const auto u = v.to_uint64())
      out += std::to_string(*u);
    else if (const auto* d = v.if_double())
      write_double(out, *d);
    else if (const auto* w = v.if_wide())
      out += w->digits;
    else if (const auto* s = v.if_string())
      write_string(out, *s);
    else if (const auto* a = v.if_array())
      write_array(*a, is_flat(v), depth);
    else
      write_object(*v.if_object(), depth);
  }

  void write_array(const array& a, bool flat, int depth) {
    out += '[';
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (i > 0) out += indent != 0 && flat ? ", " : ",";
      if (!flat) newline(depth + 1);
      write(a[i], depth + 1);
    }
    if (!flat) newline(depth);
    out += ']';
  }

  void write_object(const object& o, int depth) {
    out += '{';
    for (std::size_t i = 0; i < o.size(); ++i) {
      if (i > 0) out += ',';
      newline(depth + 1);
      write_string(out, o[i].key);
      out += indent != 0 ? ": " : ":";
      write(o[i].value, depth + 1);
    }
    if (!o.empty()) newline(depth);
    out += '}';
  }
};

}  // namespace

std::string write(const value& v, int indent) {
  writer w{{}, indent};
  w.write(v, 0);
  return std::move(w.out);
}

}  // namespace berth::json
