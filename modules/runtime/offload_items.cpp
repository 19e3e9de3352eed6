// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.runtime;

import berth.base;
import berth.model;
import berth.exec;
import :offload_items;

namespace berth {
namespace {

std::string_view last_of(std::string_view name) {
  const auto dot = name.rfind('.');
  return dot == std::string_view::npos ? name : name.substr(dot + 1);
}

std::span<const image_piece> pieces_of_tensor(const weight_images& images, std::uint32_t atom, std::uint32_t tensor) {
  const auto all = images.pieces_of(atom);
  const auto first = std::partition_point(all.begin(), all.end(), [&](const auto& p) { return p.tensor < tensor; });
  return {first, std::partition_point(first, all.end(), [&](const auto& p) { return p.tensor == tensor; })};
}

/// A stored tensor that a piece takes as a whole, or null.
const stored_tensor* whole_of(const weight_images& images, const image_piece& p) {
  const auto& s = images.sources().tensors[p.stored];
  const bool safetensors = images.files()[p.file].ends_with(".safetensors");
  return p.plain && p.length == s.length && safetensors ? &s : nullptr;
}

/// What is a slice of a tensor of the tree is called after its atom: "layers.0.mlp.experts" + "3" + "down_proj".
std::string slice_name(const weight_images& images, std::uint32_t atom, std::string_view of) {
  return std::string(images.name_of(atom)).append(1, '.').append(last_of(of));
}

/// Each stored part for itself, under the name that it has in the checkpoint.
std::vector<offload_item> packed_items(const weight_images& images, std::uint32_t atom, const image_tensor& t,
                                       std::span<const image_piece> pieces) {
  std::vector<offload_item> out;
  for (const auto& p : pieces) {
    const auto& s = images.sources().tensors[p.stored];
    const bool whole = p.length == s.length;
    auto& item = out.emplace_back();
    item.name = whole ? s.name : slice_name(images, atom, s.name);
    item.tensor = t.name;
    item.type = s.type;
    item.shape = s.shape;
    if (!whole) item.shape.front() = s.shape.front() * p.length / s.length;
    item.offset = p.image_offset;
    item.size = p.length;
    item.companion = true;
    item.linked = whole_of(images, p);
  }
  return out;
}

/// LLM.int8: codes under the name of the weight, scales under that of their module.
std::vector<offload_item> int8_items(const image_tensor& t) {
  const auto rows = t.form.rows;
  const bytes scale_bytes = rows * sizeof(float);
  const auto columns = rows == 0 ? 0 : (t.size - scale_bytes) / rows;
  std::string scales(t.name.substr(0, t.name.size() - last_of(t.name).size()));
  scales += "SCB";
  return {{std::string(t.name),
           std::string(t.name),
           dtype::i8,
           {rows, columns},
           t.offset + scale_bytes,
           t.size - scale_bytes,
           false,
           nullptr},
          {std::move(scales), std::string(t.name), dtype::f32, {rows}, t.offset, scale_bytes, true, nullptr}};
}

}  // namespace

bool is_plain(const weight_images& images, std::uint32_t atom, std::uint32_t tensor) {
  return std::ranges::all_of(pieces_of_tensor(images, atom, tensor), [](const auto& p) { return p.plain; });
}

std::vector<offload_item> offload_items(const weight_images& images, std::uint32_t atom, std::uint32_t tensor) {
  const auto& t = images.of(atom)[tensor];
  if (!t.stored) return {};
  if (t.form.int8) return int8_items(t);
  const auto pieces = pieces_of_tensor(images, atom, tensor);
  if (t.form.packed) return packed_items(images, atom, t, pieces);
  offload_item item;
  item.name = images.is_slice(atom) ? slice_name(images, atom, t.name) : std::string(t.name);
  item.tensor = item.name;
  item.type = t.form.type;
  item.shape.assign(t.shape.begin(), t.shape.end());
  item.offset = t.offset;
  item.size = t.size;
  if (pieces.size() == 1 && pieces.front().length == t.size) item.linked = whole_of(images, pieces.front());
  return {std::move(item)};
}

}  // namespace berth
