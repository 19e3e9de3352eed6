// SPDX-License-Identifier: Apache-2.0
module;

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// Not exported: what the readers of berth's own documents share.
export module berth.formats:member_reader;

import berth.base;
import :json;

namespace berth {

/// Reads members of one document; the first problem is kept, and what cannot be read is a harmless value. Paths are
/// those of objects: "atoms[3]".
class member_reader {
 protected:
  member_reader(const json::value& document, std::string_view what) : document_(document), what_(what) {}

  /// Nothing, if the document says that it is `format` ("berth.plan/1"). `noun`: "a plan".
  std::optional<failure> check_format(std::string_view format, std::string_view noun) const {
    const auto* member = document_.find("format");
    const auto* name = member == nullptr ? nullptr : member->if_string();
    if (name == nullptr) return fail(errc::unknown_format, what_, "not a berth document: \"format\" is missing");
    if (*name == format) return std::nullopt;
    const auto stem = format.substr(0, format.find('/') + 1);
    if (std::string_view(*name).substr(0, stem.size()) == stem)
      return fail(errc::unknown_format, what_,
                  text<128>("written by a newer berth: ").append(*name).append("; this one reads ").append(format));
    return fail(errc::unknown_format, what_, text<128>("not ").append(noun).append(" but ").append(*name));
  }

  void refuse(const std::string& path, std::string_view why) {
    if (!problem_) problem_ = fail(errc::malformed, what_, std::string(path).append(" ").append(why));
  }

  std::uint64_t size(const json::value& object, std::string_view key, const std::string& path) {
    const auto* v = object.find(key);
    const auto n = v == nullptr ? std::nullopt : v->to_uint64();
    if (n && *n <= max_bytes) return *n;
    refuse(path_of(path, key), "is missing or not a whole number from 0 to 2^63 - 1");
    return 0;
  }
  std::uint32_t small(const json::value& object, std::string_view key, const std::string& path) {
    const auto n = size(object, key, path);
    if (n > 0xffffffffu) refuse(path_of(path, key), "is out of range");
    return static_cast<std::uint32_t>(n);
  }
  double number(const json::value& object, std::string_view key, const std::string& path) {
    const auto* v = object.find(key);
    const auto d = v == nullptr ? std::nullopt : v->to_double();
    if (d && *d >= 0 && std::isfinite(*d)) return *d;
    refuse(path_of(path, key), "is missing, negative or not a number");
    return 0;
  }
  std::string_view string(const json::value& object, std::string_view key, const std::string& path) {
    const auto* v = object.find(key);
    if (v != nullptr && v->if_string() != nullptr) return *v->if_string();
    refuse(path_of(path, key), "is missing or not a string");
    return {};
  }
  /// A list of the document itself, of at most `most` entries.
  const json::array& list(std::string_view key, std::size_t most = std::numeric_limits<std::size_t>::max()) {
    const auto* v = document_.find(key);
    const auto* items = v == nullptr ? nullptr : v->if_array();
    if (items != nullptr && items->size() <= most) return *items;
    refuse(std::string(key), items == nullptr ? std::string("is missing or not a list")
                                              : "has more than " + std::to_string(most) + " entries");
    return empty_;
  }

  /// Members of a newer minor version are kept from being misread by saying that they are not read.
  void note_unknown(const json::value& object, std::span<const std::string_view> known, const std::string& path,
                    std::vector<std::string>& notes) const {
    constexpr std::size_t most = 32;
    if (object.if_object() == nullptr) return;
    for (const auto& m : *object.if_object()) {
      bool found = notes.size() >= most;
      for (const auto k : known) found = found || k == m.key;
      if (!found)
        notes.push_back("the member \"" + path_of(path, m.key) + "\" is not known to this version and was not read");
    }
  }

  static std::string path_of(const std::string& path, std::string_view key) {
    return path.empty() ? std::string(key) : path + "." + std::string(key);
  }

  const json::value& document_;
  std::string_view what_;
  std::optional<failure> problem_;

 private:
  json::array empty_;
};

}  // namespace berth
