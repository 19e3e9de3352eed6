// SPDX-License-Identifier: Apache-2.0
module;

#include <boost/json/basic_parser_impl.hpp>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.formats;

namespace berth::json {
namespace {

/// A bare NaN or Infinity that was overwritten by a plain zero of the same length before parsing.
struct nonfinite {
  std::size_t offset;
  double value;
};

/// Replaces bare NaN / Infinity outside strings by "0e0" padded with spaces, so that positions stay true.
std::vector<nonfinite> replace_nonfinite(std::string& text) {
  std::vector<nonfinite> found;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    const auto take = [&](std::string_view token, double v) {
      if (text.compare(i, token.size(), token) != 0) return false;
      const bool negative = i > 0 && text[i - 1] == '-';
      text.replace(i, token.size(), std::string("0e0").append(token.size() - 3, ' '));
      found.push_back({negative ? i - 1 : i, negative ? -v : v});
      return true;
    };
    if (c == 'N') take("NaN", std::numeric_limits<double>::quiet_NaN());
    if (c == 'I') take("Infinity", std::numeric_limits<double>::infinity());
  }
  return found;
}

/// Builds the document from the parser's events.
struct handler {
  static constexpr std::size_t max_object_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_array_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_key_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_string_size = static_cast<std::size_t>(-1);
  using ec = boost::system::error_code;

  struct frame {
    value container;
    std::string key;  ///< of the member being read, when the container is an object
  };

  const char* text_begin = nullptr;
  const std::vector<nonfinite>* replaced = nullptr;
  std::vector<frame> open;
  std::optional<value> root;
  std::string pending;  ///< parts of a key, string or number
  std::string why;      ///< our own reason for a refusal

  bool refuse(ec& e, std::string reason) {
    why = std::move(reason);
    e = boost::json::error::exception;
    return false;
  }

  void put(value v) {
    if (open.empty()) {
      root = std::move(v);
      return;
    }
    auto& top = open.back();
    if (auto* a = top.container.if_array())
      a->push_back(std::move(v));
    else
      top.container.if_object()->push_back({std::move(top.key), std::move(v)});
  }

  bool on_document_begin(ec&) { return true; }
  bool on_document_end(ec&) { return true; }

  bool on_object_begin(ec&) {
    open.push_back({value(object{}), {}});
    return true;
  }
  bool on_object_end(std::size_t, ec& e) {
    value done = std::move(open.back().container);
    open.pop_back();
    if (const auto* twice = duplicate(*done.if_object())) return refuse(e, "the key \"" + *twice + "\" occurs twice");
    put(std::move(done));
    return true;
  }
  static const std::string* duplicate(const object& o) {
    std::unordered_set<std::string_view> keys;
    keys.reserve(o.size());
    for (const auto& m : o)
      if (!keys.insert(m.key).second) return &m.key;
    return nullptr;
  }
  bool on_array_begin(ec&) {
    open.push_back({value(array{}), {}});
    return true;
  }
  bool on_array_end(std::size_t, ec&) {
    value done = std::move(open.back().container);
    open.pop_back();
    put(std::move(done));
    return true;
  }

  bool on_key_part(boost::json::string_view s, std::size_t, ec&) {
    pending.append(s.data(), s.size());
    return true;
  }
  bool on_key(boost::json::string_view s, std::size_t, ec&) {
    pending.append(s.data(), s.size());
    open.back().key = std::exchange(pending, {});
    return true;
  }
  bool on_string_part(boost::json::string_view s, std::size_t, ec&) {
    pending.append(s.data(), s.size());
    return true;
  }
  bool on_string(boost::json::string_view s, std::size_t, ec&) {
    pending.append(s.data(), s.size());
    put(std::exchange(pending, {}));
    return true;
  }

  bool on_number_part(boost::json::string_view s, ec&) {
    pending.append(s.data(), s.size());
    return true;
  }
  std::string number_text(boost::json::string_view s) {
    pending.append(s.data(), s.size());
    return std::exchange(pending, {});
  }
  bool on_int64(std::int64_t i, boost::json::string_view s, ec&) {
    number_text(s);
    put(i);
    return true;
  }
  bool on_uint64(std::uint64_t u, boost::json::string_view s, ec&) {
    number_text(s);
    put(u);
    return true;
  }
  bool on_double(double, boost::json::string_view s, ec& e) {
    const auto at = static_cast<std::size_t>(s.data() - text_begin);
    const auto digits = number_text(s);
    for (const auto& r : *replaced)
      if (r.offset == at) {
        put(r.value);
        return true;
      }
    if (digits.find_first_of(".eE") == std::string::npos) {
      put(wide_integer{digits});
      return true;
    }
    // Boost's own conversion is not correctly rounded; from_chars is.
    double d = 0;
    const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), d);
    if (status == std::errc::result_out_of_range &&
        (digits.find("e-") != std::string::npos || digits.find("E-") != std::string::npos))
      d = digits.front() == '-' ? -0.0 : 0.0;
    else if (status != std::errc{} || end != digits.data() + digits.size())
      return refuse(e, "the number " + digits.substr(0, 40) + " does not fit a double");
    put(d);
    return true;
  }
  bool on_bool(bool b, ec&) {
    put(b);
    return true;
  }
  bool on_null(ec&) {
    put(nullptr);
    return true;
  }
  bool on_comment_part(boost::json::string_view, ec&) { return true; }
  bool on_comment(boost::json::string_view, ec&) { return true; }
};

failure located(std::string_view what, std::string_view text, std::size_t offset, std::string_view why) {
  const auto before = text.substr(0, std::min(offset, text.size()));
  const auto line = static_cast<std::uint64_t>(std::count(before.begin(), before.end(), '\n')) + 1;
  const auto column = before.size() - (before.rfind('\n') + 1) + 1;
  return fail(errc::malformed, what,
              berth::text<416>("line ").append(line).append(", column ").append(column).append(": ").append(why));
}

std::string_view explain(const boost::system::error_code& e, const handler& h, std::size_t max_depth,
                         std::string& buffer) {
  if (!h.why.empty()) return h.why;
  if (e == boost::json::error::too_deep) {
    buffer = "nested deeper than " + std::to_string(max_depth) + " levels";
    return buffer;
  }
  if (e == boost::json::error::incomplete) return "the text ends before the document does";
  buffer = "not JSON: " + e.message();
  return buffer;
}

}  // namespace

result<value> parse(std::string_view text, std::string_view what, parse_options options) {
  constexpr std::string_view lfs = "version https://git-lfs";
  if (text.substr(0, lfs.size()) == lfs)
    return fail(errc::malformed, what, "this is a git-LFS pointer, not the file itself; run \"git lfs pull\"");
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos)
    return fail(errc::malformed, what, "the file is empty");

  std::string copy;
  std::vector<nonfinite> replaced;
  if (options.allow_nonfinite) {
    copy = text;
    replaced = replace_nonfinite(copy);
    text = copy;
  }
  boost::json::parse_options o;
  o.max_depth = options.max_depth;
  boost::json::basic_parser<handler> parser(o);
  parser.handler().text_begin = text.data();
  parser.handler().replaced = &replaced;
  boost::system::error_code e;
  const auto used = parser.write_some(false, text.data(), text.size(), e);
  std::string buffer;
  if (e) return located(what, text, used, explain(e, parser.handler(), options.max_depth, buffer));
  const auto rest = text.substr(used).find_first_not_of(" \t\r\n");
  if (rest != std::string_view::npos) return located(what, text, used + rest, "text after the end of the document");
  return std::move(*parser.handler().root);
}

}  // namespace berth::json
