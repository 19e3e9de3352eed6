// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.formats;

namespace berth {
namespace {

failure wrong(std::string_view what, std::string_view name, std::string_view detail) {
  return fail(errc::malformed, what, text<416>("\"").append(name).append("\" ").append(detail));
}

result<offload_entry> read_entry(const std::string& name, const json::value& v, std::string_view what) {
  if (name.empty() || name.find('/') != std::string::npos || name.find('\0') != std::string::npos)
    return fail(errc::unsafe_path, what, text<416>("\"").append(name).append("\" is no name of a file in the folder"));
  if (v.if_object() == nullptr) return wrong(what, name, "is no object");
  offload_entry out;
  out.name = name;
  if (const auto* type = v.find("dtype"); type != nullptr && !type->is_null()) {
    out.type = type->if_string() != nullptr ? dtype_from_torch(*type->if_string()) : std::nullopt;
    if (!out.type) return wrong(what, name, "has a dtype that is not known");
  }
  if (const auto* file = v.find("safetensors_file"); file != nullptr && !file->is_null()) {
    if (file->if_string() == nullptr || file->if_string()->empty())
      return wrong(what, name, "names its safetensors_file by something else than a text");
    out.safetensors_file = *file->if_string();
    const auto* stored = v.find("weight_name");
    if (stored != nullptr && stored->if_string() == nullptr && !stored->is_null())
      return wrong(what, name, "has a weight_name that is no text");
    if (stored != nullptr && stored->if_string() != nullptr) out.weight_name = *stored->if_string();
    return out;
  }
  const auto* shape = v.find("shape");
  if (!out.type || shape == nullptr || shape->if_array() == nullptr)
    return wrong(what, name, "needs a dtype and a shape, or a safetensors_file");
  auto& dimensions = out.shape.emplace();
  for (const auto& d : *shape->if_array()) {
    const auto n = d.to_uint64();
    if (!n) return wrong(what, name, "has a shape that is no list of sizes");
    dimensions.push_back(*n);
  }
  return out;
}

json::value written(const offload_entry& e) {
  json::object out;
  if (!e.safetensors_file.empty()) {
    out.push_back({"safetensors_file", e.safetensors_file});
    out.push_back({"weight_name", e.weight_name.empty() ? e.name : e.weight_name});
  }
  if (e.type) out.push_back({"dtype", info_of(*e.type).torch});
  if (e.shape && e.safetensors_file.empty()) {
    json::array shape;
    for (const auto n : *e.shape) shape.emplace_back(n);
    out.push_back({"shape", std::move(shape)});
  }
  return out;
}

}  // namespace

result<std::vector<offload_entry>> read_offload_index(std::string_view text, std::string_view what) {
  const auto document = json::parse(text, what);
  if (!document) return document.propagate();
  const auto* object = document->if_object();
  if (object == nullptr) return fail(errc::malformed, what, "an offload index is an object from names to tensors");
  std::vector<offload_entry> out;
  for (const auto& [name, value] : *object) {
    auto entry = read_entry(name, value, what);
    if (!entry) return entry.propagate();
    out.push_back(*std::move(entry));
  }
  return out;
}

std::string write_offload_index(std::span<const offload_entry> entries, std::span<const offload_entry> older) {
  std::unordered_set<std::string_view> names;
  for (const auto& e : entries) names.insert(e.name);
  json::object out;
  for (const auto& e : older)
    if (!names.contains(e.name)) out.push_back({e.name, written(e)});
  for (const auto& e : entries) out.push_back({e.name, written(e)});
  return json::write(out, 2);
}

std::vector<offload_entry> offload_entries(const weight_sources& offloaded, std::string_view folder) {
  std::unordered_map<std::string_view, std::string_view> tree_name;
  for (const auto& c : offloaded.conversions) tree_name.emplace(c.stored, c.tensor);
  std::vector<offload_entry> out;
  for (const auto& t : offloaded.tensors) {
    auto& e = out.emplace_back();
    const auto known = tree_name.find(t.name);
    e.name = known == tree_name.end() ? t.name : known->second;
    e.type = t.type;
    const auto& path = offloaded.files[t.file];
    if (path == std::string(folder) + "/" + e.name + ".dat") {
      e.shape = t.shape;
    } else {
      e.safetensors_file = path;
      e.weight_name = t.name;
    }
  }
  return out;
}

}  // namespace berth
