// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

module berth.formats;

namespace berth {
namespace {

/// total_size as written by some writer: an integer, or a whole number with a point.
std::optional<bytes> whole_bytes(const json::value& v) {
  if (const auto n = v.to_uint64(); n && *n <= max_bytes) return n;
  const auto* d = v.if_double();
  if (d == nullptr || !(*d >= 0) || *d >= 9.2e18 || std::trunc(*d) != *d) return std::nullopt;
  return static_cast<bytes>(*d);
}

void read_total(const json::value& document, std::string_view what, checkpoint_index& out) {
  const auto* metadata = document.find("metadata");
  const auto* total = metadata != nullptr ? metadata->find("total_size") : nullptr;
  if (total == nullptr || total->is_null()) return;
  out.total_size = whole_bytes(*total);
  if (!out.total_size)
    out.warnings.push_back(std::string(what) + ": metadata.total_size is not a number of bytes; ignored");
}

}  // namespace

bool is_plain_file_name(std::string_view name) {
  if (name.empty() || name == "." || name == "..") return false;
  if (name.size() >= 2 && name[1] == ':') return false;
  return std::ranges::none_of(name, [](char c) {
    return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) == 0x7f;
  });
}

result<checkpoint_index> read_index(const json::value& document, std::string_view what) {
  if (document.if_object() == nullptr) return fail(errc::malformed, what, "an index is a JSON object");
  const auto* map = document.find("weight_map");
  if (map == nullptr || map->if_object() == nullptr)
    return fail(errc::malformed, what, "\"weight_map\" is missing or not an object; not a checkpoint index?");
  if (map->if_object()->empty()) return fail(errc::malformed, what, "\"weight_map\" names no tensor");

  checkpoint_index out;
  read_total(document, what, out);
  out.entries.reserve(map->if_object()->size());
  std::unordered_map<std::string_view, std::uint32_t> shard_of;
  for (const auto& m : *map->if_object()) {
    const auto* shard = m.value.if_string();
    if (m.key.empty()) return fail(errc::malformed, what, "\"weight_map\" has a tensor without a name");
    if (shard == nullptr)
      return fail(errc::malformed, what,
                  text<416>("the shard of \"").append(m.key.substr(0, 200)).append("\" is not a file name"));
    const auto [it, fresh] = shard_of.try_emplace(*shard, static_cast<std::uint32_t>(out.shards.size()));
    if (fresh) {
      if (!is_plain_file_name(*shard))
        return fail(errc::unsafe_path, what,
                    text<416>("the shard \"")
                        .append(std::string_view(*shard).substr(0, 200))
                        .append("\" is not a plain file name; an index must not point outside its folder"));
      out.shards.push_back(*shard);
    }
    out.entries.emplace_back(m.key, it->second);
  }
  return out;
}

result<checkpoint_index> read_index_file(const std::string& path) {
  const auto document = read_json_file(path);
  if (!document) return document.propagate();
  return read_index(*document, path);
}

}  // namespace berth
