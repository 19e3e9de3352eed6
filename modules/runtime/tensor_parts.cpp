// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

module berth.runtime;

import :tensor_parts;

namespace berth {
namespace {

constexpr std::string_view scales_end = ".SCB";

bytes alignment_of(dtype t) { return std::bit_floor(std::max(1u, bits_of(t) / 8)); }

/// The file holds the whole of it, and its length is that of its shape.
result<done> check_place(const stored_tensor& s, const weight_sources& sources, std::string_view name) {
  if (s.file >= sources.files.size() || s.file >= sources.file_sizes.size())
    return fail(errc::inconsistent_model, name,
                "its source names a file that is not listed; read the checkpoint again");
  const auto size = sources.file_sizes[s.file];
  if (s.offset > size || s.length > size - s.offset)
    return fail(errc::malformed, name,
                text<416>("its file ends before it does: ")
                    .append(sources.files[s.file])
                    .append(" is truncated; fetch it again"),
                s.offset + s.length, size);
  const auto elements = element_count(s.shape);
  const auto length = elements ? storage_bytes(s.type, *elements) : elements;
  if (!length || *length != s.length)
    return fail(errc::inconsistent_model, name,
                text<416>("stored as ")
                    .append(s.name)
                    .append(" with ")
                    .append(s.length)
                    .append(" bytes, which its shape and dtype do not give; the file is damaged"));
  return done{};
}

}  // namespace

std::span<const tensor_part> parts_of_kind(std::span<const tensor_part> parts, part_kind kind) {
  const auto first = std::partition_point(parts.begin(), parts.end(), [&](const auto& p) { return p.kind < kind; });
  return {first, std::partition_point(first, parts.end(), [&](const auto& p) { return p.kind == kind; })};
}

std::array<std::span<const tensor_part>, 2> parts_with(std::span<const tensor_part> parts, part_kind kind,
                                                       const leading_rows& rows) {
  const auto all = parts_of_kind(parts, kind);
  const auto single = std::partition_point(all.begin(), all.end(), [](const auto& p) { return !p.single; });
  const std::span<const tensor_part> many(all.begin(), single), ones(single, all.end());
  if (rows.all) return {many, ones};
  const auto before = [](const tensor_part& p, std::uint64_t row) { return p.lead < row; };
  const auto begin = std::lower_bound(ones.begin(), ones.end(), rows.first, before);
  return {many, std::span(begin, std::lower_bound(begin, ones.end(), rows.last, before))};
}

result<tensor_parts> tensor_parts::make(const module_tree& tree, const weight_sources& sources,
                                        const tensor_sizes& stored, const precision& how) {
  const auto n = tree.parameters().size(), m = tree.buffers().size();
  if (stored.parameters.size() != n || stored.buffers.size() != m)
    return fail(errc::invalid_argument, tree.id, "sizes must be given for every tensor of the module tree");
  if (sources.files.size() != sources.file_sizes.size())
    return fail(errc::invalid_argument, tree.id, "the sources must say how large every file is");
  const auto forms = apply_forms(tree, stored, how);
  if (!forms) return forms.propagate();
  const auto sizes = apply_precision(tree, stored, how);
  if (!sizes) return sizes.propagate();
  tensor_parts out(tree, sources);
  out.arriving_.resize(n + m);
  for (std::uint32_t i = 0; i < n + m; ++i) {
    auto& a = out.arriving_[i];
    a.what = &out.tensor_of(i);
    a.form = i < n ? forms->parameters[i] : forms->buffers[i - n];
    a.size = i < n ? sizes->parameters[i] : sizes->buffers[i - n];
    a.alignment = alignment_of(a.form.type);
  }
  if (auto ok = out.collect(); !ok) return ok.propagate();
  out.choose_sources();
  for (std::uint32_t i = 0; i < out.count(); ++i)
    if (auto ok = out.resolve(i); !ok) return ok.propagate();
  return out;
}

/// What the tree does not have is left out.
result<done> tensor_parts::collect() {
  std::unordered_map<std::string_view, std::uint32_t> stored_at, tensor_at;
  stored_at.reserve(sources_->tensors.size());
  for (std::uint32_t i = 0; i < sources_->tensors.size(); ++i)
    if (const auto& name = sources_->tensors[i].name; !stored_at.emplace(name, i).second)
      return fail(errc::inconsistent_model, name, "two files of the checkpoint hold a tensor of this name; remove one");
  tensor_at.reserve(count());
  for (std::uint32_t i = 0; i < count(); ++i) tensor_at.emplace(arriving_[i].what->name, i);
  const auto add = [&](std::string_view stored, std::string_view name, const conversion* from) -> result<done> {
    const auto to = tensor_at.find(name);
    if (to == tensor_at.end()) return done{};
    const auto at = stored_at.find(stored);
    if (at == stored_at.end())
      return fail(errc::inconsistent_model, name,
                  text<416>("its part ").append(stored).append(" is in none of the files; fetch the missing shard"));
    auto& p = parts_.emplace_back();
    p.tensor = to->second;
    p.stored = at->second;
    p.from = from;
    if (from == nullptr) p.kind = stored.ends_with(scales_end) ? part_kind::scales : part_kind::other;
    if (from != nullptr && !from->range.empty()) {
      p.lead = from->range.front().begin;
      p.single = extent_of(from->range.front()) == 1;
    }
    return done{};
  };
  for (const auto& c : sources_->conversions)
    if (auto ok = add(c.stored, c.tensor, &c); !ok) return ok;
  for (const auto& [stored, name] : sources_->companions)
    if (auto ok = add(stored, name, nullptr); !ok) return ok;
  if (!sources_->companions.empty()) place_companions();
  sort_parts();
  return done{};
}

/// A companion belongs to the rows of the data that it shares the module part of its stored name with.
void tensor_parts::place_companions() {
  const auto module_of = [&](const tensor_part& p) {
    const std::string_view name = sources_->tensors[p.stored].name;
    return name.substr(0, std::min(name.rfind('.'), name.size()));
  };
  std::unordered_map<std::string_view, const tensor_part*> data;
  for (const auto& p : parts_)
    if (p.kind == part_kind::data) data.emplace(module_of(p), &p);
  for (auto& p : parts_)
    if (p.kind != part_kind::data)
      if (const auto at = data.find(module_of(p)); at != data.end() && at->second->tensor == p.tensor) {
        p.single = at->second->single;
        p.lead = at->second->lead;
      }
}

void tensor_parts::sort_parts() {
  const auto name = [&](const tensor_part& p) { return std::string_view(sources_->tensors[p.stored].name); };
  std::sort(parts_.begin(), parts_.end(), [&](const tensor_part& a, const tensor_part& b) {
    if (a.tensor != b.tensor) return a.tensor < b.tensor;
    return std::tuple(a.kind, a.single, a.lead, name(a)) < std::tuple(b.kind, b.single, b.lead, name(b));
  });
  begin_.assign(count() + 1, 0);
  for (const auto& p : parts_) ++begin_[p.tensor + 1];
  for (std::size_t i = 1; i < begin_.size(); ++i) begin_[i] += begin_[i - 1];
}

/// Of the names that share a storage one may be stored, or several: the one of which most is stored, the first of them.
void tensor_parts::choose_sources() {
  std::unordered_map<storage_id, std::pair<std::uint32_t, bytes>> best;
  best.reserve(count());
  for (std::uint32_t i = 0; i < count(); ++i) {
    bytes length = 0;
    for (const auto& p : of(i)) length += sources_->tensors[p.stored].length;
    const auto [at, fresh] = best.try_emplace(arriving_[i].what->storage, of(i).empty() ? none : i, length);
    if (!fresh && !of(i).empty() && (at->second.first == none || length > at->second.second)) at->second = {i, length};
  }
  for (auto& a : arriving_) a.source = best[a.what->storage].first;
}

result<done> tensor_parts::resolve(std::uint32_t tensor) {
  auto& t = arriving_[tensor];
  if (t.source == none) {
    if (!t.what->persistent) return done{};
    return fail(errc::inconsistent_model, t.what->name,
                "is in none of the files; the checkpoint is incomplete or of another model");
  }
  for (const auto& p : of(t.source))
    if (auto ok = check_place(sources_->tensors[p.stored], *sources_, t.what->name); !ok) return ok;
  if (arriving_[t.source].what->shape != t.what->shape)
    return fail(errc::inconsistent_model, t.what->name,
                text<416>("shares its storage with ")
                    .append(arriving_[t.source].what->name)
                    .append(", which has another shape"));
  const bool has_companions = of(t.source).back().kind != part_kind::data;
  if (t.form.int8 && has_companions) return resolve_codes(t);
  if (t.form.int8) {
    t.how = arrival::quantize;
    t.alignment = alignof(float);
    for (const auto& p : of(t.source))
      if (const auto type = sources_->tensors[p.stored].type;
          type != dtype::f32 && type != dtype::f16 && type != dtype::bf16)
        return fail(errc::unsupported, t.what->name,
                    text<416>("int8 is made from f32, f16 and bf16, not from ")
                        .append(info_of(type).torch)
                        .append("; skip its module"));
    return check_elements(t);
  }
  if (t.form.packed) return resolve_packed(t);
  t.how = arrival::elements;
  auto ok = check_elements(t);
  // Old checkpoints hold masks and tables that the framework computes, at times in another form: it does not read them.
  if (!ok && !t.what->persistent) {
    t.how = arrival::absent;
    return done{};
  }
  return ok;
}

/// bitsandbytes: codes and SCB are what the form asks for; the order of the bytes in the data is no matter of ours.
result<done> tensor_parts::resolve_codes(arriving_tensor& t) const {
  t.how = arrival::codes;
  t.alignment = alignof(float);
  const auto parts = of(t.source);
  const auto scale_parts = parts_of_kind(parts, part_kind::scales);
  const auto* scales = scale_parts.size() == 1 ? &sources_->tensors[scale_parts.front().stored] : nullptr;
  const auto& data = sources_->tensors[parts.front().stored];
  if (scales == nullptr || parts.front().kind != part_kind::data || data.type != dtype::i8 ||
      scales->type != dtype::f32 || (parts.size() > 1 && parts[1].kind == part_kind::data))
    return fail(errc::unsupported, t.what->name,
                "is quantised already, in a format that int8 cannot be made from; leave int8 out or skip its module");
  const bytes scale_bytes = t.form.rows * sizeof(float);
  if (data.length != t.what->elements || scales->length != scale_bytes)
    return fail(errc::inconsistent_model, t.what->name, "its int8 codes or scales are not those of its shape",
                t.what->elements + scale_bytes, data.length + scales->length);
  return done{};
}

/// Elements of another dtype than the tree's look packed by their size, but are just elements.
result<done> tensor_parts::resolve_packed(arriving_tensor& t) const {
  const auto parts = of(t.source);
  bytes length = 0;
  bool alike = true;
  for (const auto& p : parts) {
    const auto& s = sources_->tensors[p.stored];
    length += s.length;
    alike = alike && p.kind == part_kind::data && s.type == sources_->tensors[parts.front().stored].type;
    t.alignment = std::max(t.alignment, alignment_of(s.type));
  }
  const auto type = sources_->tensors[parts.front().stored].type;
  if (alike && storage_bytes(type, t.what->elements) == t.size) {
    t.how = arrival::elements;
    t.form.type = type;
    t.form.packed = false;
    t.alignment = alignment_of(type);
    return check_elements(t);
  }
  t.how = arrival::packed;
  if (length != t.size)
    return fail(errc::inconsistent_model, t.what->name,
                "what is stored of it is not as large as the model says; read the checkpoint again and make a new plan",
                t.size, length);
  return done{};
}

/// Shapes, dtypes and coverage of what is not left as it is.
result<done> tensor_parts::check_elements(const arriving_tensor& t) const {
  const auto parts = of(t.source);
  for (const auto& p : parts) {
    const auto& s = sources_->tensors[p.stored];
    if (p.kind != part_kind::data)
      return fail(
          errc::inconsistent_model, t.what->name,
          text<416>("is not quantised, yet ").append(s.name).append(" belongs to it; read the checkpoint again"));
    if (s.type != t.form.type && t.how == arrival::elements && !is_convertible(s.type, t.form.type))
      return fail(is_floating(s.type) && is_floating(t.form.type) ? errc::unsupported : errc::inconsistent_model,
                  t.what->name,
                  text<416>("is stored as ")
                      .append(info_of(s.type).torch)
                      .append(", which does not become ")
                      .append(info_of(t.form.type).torch));
    std::vector<std::uint64_t> expected;
    for (const auto& r : p.from->range) expected.push_back(extent_of(r));
    if (p.from->transposed && expected.size() >= 2)
      std::swap(expected[expected.size() - 1], expected[expected.size() - 2]);
    auto shape = std::span<const std::uint64_t>(expected);
    // An expert for itself has no dimension of experts.
    if (s.shape.size() + 1 == shape.size() && shape.front() == 1) shape = shape.subspan(1);
    if (p.from->range.size() != t.what->shape.size() || !std::ranges::equal(shape, s.shape))
      return fail(errc::inconsistent_model, t.what->name,
                  text<416>("is stored as ")
                      .append(s.name)
                      .append(" with shape ")
                      .append(words_of(s.shape))
                      .append(", where ")
                      .append(words_of(shape))
                      .append(" is needed; the checkpoint is of another model"));
  }
  return check_coverage(*t.what, parts);
}

}  // namespace berth
