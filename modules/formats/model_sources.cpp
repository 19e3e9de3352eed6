// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

module berth.formats;

import :input_file;

namespace berth {
namespace {

constexpr std::string_view scales_end = ".SCB", data_end = ".weight";

/// Puts the sources of an offload folder together, entry by entry.
class offload_reader {
 public:
  explicit offload_reader(std::string folder) : folder_(std::move(folder)) {}

  result<weight_sources> run() {
    const auto index = folder_ + "/index.json";
    const auto text = read_text_file(index);
    if (!text) return text.propagate();
    const auto entries = read_offload_index(*text, index);
    if (!entries) return entries.propagate();
    for (const auto& e : *entries) {
      auto t = e.safetensors_file.empty() ? raw(e) : named(e);
      if (!t) return t.propagate();
      t->name = e.name;
      out_.tensors.push_back(*std::move(t));
      names_.insert(e.name);
    }
    for (const auto& t : out_.tensors) map(t);
    return std::move(out_);
  }

 private:
  result<stored_tensor> raw(const offload_entry& e) {
    const auto path = folder_ + "/" + e.name + ".dat";
    const auto file = input_file::open(path);
    if (!file) return file.propagate();
    const auto elements = element_count(*e.shape);
    const auto size = elements ? storage_bytes(*e.type, *elements) : elements;
    if (!size || file->size() != *size)
      return fail(errc::malformed, path, "is not as large as its shape and dtype in index.json say; write it again",
                  size ? *size : 0, file->size());
    stored_tensor t;
    t.type = *e.type;
    t.shape = *e.shape;
    t.length = *size;
    t.file = add_file(path, file->size());
    return t;
  }

  result<stored_tensor> named(const offload_entry& e) {
    const auto known = headers_.find(e.safetensors_file);
    if (known == headers_.end()) {
      auto header = read_safetensors_file(e.safetensors_file);
      if (!header) return header.propagate();
      const auto file = add_file(e.safetensors_file, header->file_size);
      auto& tensors = headers_[e.safetensors_file];
      for (auto& t : header->tensors) {
        t.file = file;
        auto name = t.name;
        tensors.emplace(std::move(name), std::move(t));
      }
      return named(e);
    }
    const auto& name = e.weight_name.empty() ? e.name : e.weight_name;
    const auto at = known->second.find(name);
    if (at == known->second.end())
      return fail(errc::malformed, e.safetensors_file,
                  text<416>("holds no tensor \"").append(name).append("\", which index.json takes from it"));
    return at->second;
  }

  std::uint32_t add_file(const std::string& path, bytes size) {
    out_.files.push_back(path);
    out_.file_sizes.push_back(size);
    return static_cast<std::uint32_t>(out_.files.size() - 1);
  }

  /// The scales of int8 codes go with their weight; everything else is the tensor of its name.
  void map(const stored_tensor& t) {
    if (std::string_view(t.name).ends_with(scales_end)) {
      auto weight = t.name.substr(0, t.name.size() - scales_end.size()).append(data_end);
      if (names_.contains(weight)) {
        out_.companions.emplace_back(t.name, std::move(weight));
        return;
      }
    }
    std::vector<slice> range;
    for (const auto n : t.shape) range.push_back({0, n, 1});
    out_.conversions.push_back({t.name, t.name, std::move(range), false});
  }

  std::string folder_;
  weight_sources out_;
  std::unordered_map<std::string, std::unordered_map<std::string, stored_tensor>> headers_;
  std::unordered_set<std::string> names_;
};

}  // namespace

result<weight_sources> sources_of(const loaded_model& m) {
  if (!m.checkpoint)
    return fail(errc::not_found, m.tree().id,
                "a module tree says how a model is built, not where its weights are; give the folder of a checkpoint");
  const auto& c = *m.checkpoint;
  if (!c.has_headers())
    return fail(errc::not_found, c.location,
                text<416>("the weights are not there: ")
                    .append(describe(c.source))
                    .append("; put the .safetensors files beside it"));
  weight_sources out;
  for (const auto& f : c.files) {
    out.files.push_back(f.path);
    out.file_sizes.push_back(f.size);
  }
  out.tensors = c.tensors;
  out.conversions = m.names.conversions;
  for (const auto& k : m.names.companions) out.companions.emplace_back(k.stored, k.tensor);
  return out;
}

result<weight_sources> read_offload_folder(const std::string& folder) { return offload_reader(folder).run(); }

weight_sources override_sources(weight_sources base, const weight_sources& over) {
  std::unordered_set<std::string_view> replaced;
  for (const auto& c : over.conversions) replaced.insert(c.tensor);
  for (const auto& [stored, tensor] : over.companions) replaced.insert(tensor);
  std::erase_if(base.conversions, [&](const conversion& c) { return replaced.contains(c.tensor); });
  std::erase_if(base.companions, [&](const auto& c) { return replaced.contains(c.second); });
  std::unordered_set<std::string_view> used;
  for (const auto& c : base.conversions) used.insert(c.stored);
  for (const auto& c : base.companions) used.insert(c.first);
  // Names in both: the base's own is not needed any more, unless another tensor is made of it.
  std::unordered_map<std::string_view, std::string> renamed;
  for (const auto& t : over.tensors)
    if (used.contains(t.name)) renamed.emplace(t.name, t.name + " (offloaded)");
  std::unordered_set<std::string_view> names;
  for (const auto& t : over.tensors) names.insert(t.name);
  std::erase_if(base.tensors, [&](const stored_tensor& t) { return names.contains(t.name) && !used.contains(t.name); });
  const auto name_of = [&](const std::string& name) {
    const auto at = renamed.find(name);
    return at == renamed.end() ? name : at->second;
  };
  const auto first = static_cast<std::uint32_t>(base.files.size());
  base.files.insert(base.files.end(), over.files.begin(), over.files.end());
  base.file_sizes.insert(base.file_sizes.end(), over.file_sizes.begin(), over.file_sizes.end());
  for (auto t : over.tensors) {
    t.file += first;
    t.name = name_of(t.name);
    base.tensors.push_back(std::move(t));
  }
  for (auto c : over.conversions) {
    c.stored = name_of(c.stored);
    base.conversions.push_back(std::move(c));
  }
  for (const auto& [stored, tensor] : over.companions) base.companions.emplace_back(name_of(stored), tensor);
  return base;
}

}  // namespace berth
