// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

module berth.runtime;

import :elements;
import :offload_items;
import :stored_files;

namespace berth {
namespace {

/// Stored bytes that are held at a time, unless one step of a transform needs more.
constexpr bytes chunk = bytes{1} << 20;

/// The part of an image that is asked for. Bytes outside are dropped.
struct window {
  bytes offset = 0;
  std::span<std::byte> bytes_;

  bytes end() const { return offset + bytes_.size(); }
  bool meets(bytes at, bytes size) const { return at < end() && at + size > offset; }
  /// The part of [at, at + size) that is in the window, counted from `at`.
  std::pair<bytes, bytes> common(bytes at, bytes size) const {
    const auto first = std::max(at, offset), last = std::min(at + size, end());
    return {first - at, last > first ? last - first : 0};
  }
  std::byte* place(bytes at) const { return bytes_.data() + (at - offset); }
  void put(bytes at, const std::byte* from, bytes size) const {
    if (!meets(at, size)) return;
    const auto [skip, n] = common(at, size);
    std::memcpy(place(at + skip), from + skip, static_cast<std::size_t>(n));
  }
};

/// Steps [first, last) of which some byte may be in the window; step i fills `width` bytes from `at + i * stride` on.
std::pair<std::uint64_t, std::uint64_t> steps_in(const window& w, bytes at, bytes stride, bytes width,
                                                 std::uint64_t count) {
  if (stride == 0) return {0, count};
  const auto first = w.offset >= at + width ? (w.offset - at - width) / stride + 1 : 0;
  const auto last = w.end() <= at ? 0 : (w.end() - at - 1) / stride + 1;
  return {std::min(first, count), std::min(last, count)};
}

}  // namespace

struct image_storage::state {
  state(const weight_images& of, const image_storage_options& options) : images(&of), files(options.open_files) {}

  const weight_images* images;
  stored_files files;
  /// Tensors that come from an offload folder: (atom, tensor) -> plain pieces with numbers of `files`.
  std::unordered_map<std::uint64_t, std::vector<image_piece>> adopted;

  static std::uint64_t key(std::uint32_t atom, std::uint32_t tensor) {
    return static_cast<std::uint64_t>(atom) << 32 | tensor;
  }

  result<done> fill(std::uint32_t atom, std::uint32_t tensor, const window& to);
  result<done> fill_plain(const image_piece& p, const window& to);
  result<done> fill_converted(const image_piece& p, const window& to);
  result<done> fill_quantized(const image_piece& p, const image_tensor& t, const window& to);
};

image_storage::image_storage(const weight_images& images, const image_storage_options& options)
    : state_(std::make_unique<state>(images, options)) {
  for (std::size_t i = 0; i < images.files().size(); ++i) state_->files.add(images.files()[i], images.file_sizes()[i]);
}
image_storage::image_storage(image_storage&&) noexcept = default;
image_storage& image_storage::operator=(image_storage&&) noexcept = default;
image_storage::~image_storage() = default;

const weight_images& image_storage::images() const { return *state_->images; }

storage image_storage::as_storage() {
  return {this, [](void* self, const storage_range& from, std::span<std::byte> to) {
            return static_cast<const image_storage*>(self)->read(from.file, from.offset, to);
          }};
}

result<done> image_storage::read(std::uint32_t atom, bytes offset, std::span<std::byte> to) const {
  const auto& images = *state_->images;
  if (atom >= images.atoms())
    return fail(errc::invalid_argument, "storage", text<64>("has no atom ").append(std::uint64_t{atom}));
  const auto size = images.size_of(atom);
  if (offset > size || to.size() > size - offset)
    return fail(errc::invalid_argument, images.name_of(atom), "a read goes past the end of its image",
                offset + to.size(), size);
  if (to.empty()) return done{};
  const auto tensors = images.of(atom);
  const window w{offset, to};
  auto at = std::upper_bound(tensors.begin(), tensors.end(), offset,
                             [](bytes o, const image_tensor& t) { return o < t.offset + t.size; });
  for (; at != tensors.end() && at->offset < w.end(); ++at)
    if (auto ok = state_->fill(atom, static_cast<std::uint32_t>(at - tensors.begin()), w); !ok) return ok;
  return done{};
}

result<done> image_storage::state::fill(std::uint32_t atom, std::uint32_t tensor, const window& to) {
  const auto& t = images->of(atom)[tensor];
  const auto other = adopted.find(key(atom, tensor));
  std::span<const image_piece> pieces;
  if (other != adopted.end()) {
    pieces = other->second;
  } else {
    const auto all = images->pieces_of(atom);
    const auto first = std::partition_point(all.begin(), all.end(), [&](const auto& p) { return p.tensor < tensor; });
    pieces = {first, std::partition_point(first, all.end(), [&](const auto& p) { return p.tensor == tensor; })};
  }
  if (pieces.empty() && to.meets(t.offset, t.size)) {
    const auto [skip, n] = to.common(t.offset, t.size);
    std::memset(to.place(t.offset + skip), 0, static_cast<std::size_t>(n));
  }
  for (const auto& p : pieces) {
    auto ok = p.plain                                  ? fill_plain(p, to)
              : p.how.kind == transform_kind::quantize ? fill_quantized(p, t, to)
                                                       : fill_converted(p, to);
    if (!ok) return ok;
  }
  return done{};
}

result<done> image_storage::state::fill_plain(const image_piece& p, const window& to) {
  if (!to.meets(p.image_offset, p.length)) return done{};
  const auto [skip, n] = to.common(p.image_offset, p.length);
  return files.read(p.file, p.file_offset + skip,
                    std::span(to.place(p.image_offset + skip), static_cast<std::size_t>(n)));
}

result<done> image_storage::state::fill_converted(const image_piece& p, const window& to) {
  if (!to.meets(p.image_offset, p.image_size)) return done{};
  const auto all = steps_of(p);
  const auto one = steps(p, 0, 1);
  const auto stride = all > 1 ? steps(p, 1, 1).image_offset - p.image_offset : 0;
  const auto [first, last] = steps_in(to, p.image_offset, stride, one.image_size, all);
  const auto at_once = std::max<std::uint64_t>(1, chunk / std::max<bytes>(one.length, 1));
  const bytes width = bits_of(p.how.to) / 8, source_width = bits_of(p.how.from) / 8;
  std::vector<std::byte> source, row;
  for (auto i = first; i < last; i += at_once) {
    const auto part = steps(p, i, std::min(at_once, last - i));
    const auto& t = part.how;
    source.resize(static_cast<std::size_t>(part.length));
    row.resize(static_cast<std::size_t>(t.columns * width));
    if (auto ok = files.read(part.file, part.file_offset, source); !ok) return ok;
    for (std::uint64_t r = 0; r < t.rows; ++r) {
      convert_run(t.from, source.data() + r * t.source_row_stride * source_width, t.source_column_stride, t.to,
                  row.data(), t.columns);
      const auto at = part.image_offset + r * t.target_row_stride * width;
      if (t.target_column_stride == 1) {
        to.put(at, row.data(), t.columns * width);
        continue;
      }
      for (std::uint64_t c = 0; c < t.columns; ++c)
        to.put(at + c * t.target_column_stride * width, row.data() + c * width, width);
    }
  }
  return done{};
}

result<done> image_storage::state::fill_quantized(const image_piece& p, const image_tensor& tensor, const window& to) {
  const auto columns = p.how.columns;
  const auto codes = steps_in(to, p.image_offset, columns, columns, p.how.rows);
  const auto scales = steps_in(to, p.scales_offset, sizeof(float), sizeof(float), p.how.rows);
  const auto wanted = [](const auto& range, std::uint64_t first, std::uint64_t last) {
    return range.first < range.second && range.first < last && range.second > first;
  };
  const auto all = steps_of(p);
  const auto rows_of_step = p.how.rows / all;
  const auto at_once = std::max<std::uint64_t>(1, chunk / std::max<bytes>(steps(p, 0, 1).length, 1));
  const auto first_row = (p.image_offset - tensor.offset - tensor.form.rows * sizeof(float)) / columns;
  std::vector<std::byte> source, coded(static_cast<std::size_t>(columns));
  std::vector<float> row(static_cast<std::size_t>(columns));
  const bytes width = bits_of(p.how.from) / 8;
  for (std::uint64_t i = 0; i < all; i += at_once) {
    const auto n = std::min(at_once, all - i);
    if (!wanted(codes, i * rows_of_step, (i + n) * rows_of_step) &&
        !wanted(scales, i * rows_of_step, (i + n) * rows_of_step))
      continue;
    const auto part = steps(p, i, n);
    const auto& t = part.how;
    source.resize(static_cast<std::size_t>(part.length));
    if (auto ok = files.read(part.file, part.file_offset, source); !ok) return ok;
    for (std::uint64_t r = 0; r < t.rows; ++r) {
      const auto number = i * rows_of_step + r;
      if (!wanted(codes, number, number + 1) && !wanted(scales, number, number + 1)) continue;
      convert_run(t.from, source.data() + r * t.source_row_stride * width, t.source_column_stride, dtype::f32,
                  reinterpret_cast<std::byte*>(row.data()), columns);
      float scale = 0;
      if (!quantize_row(row, coded.data(), scale))
        return fail(
            errc::unsupported, tensor.name,
            text<416>("row ")
                .append(first_row + number)
                .append(" has no int8 form (NaN, infinity, or a scale outside the normal range); skip its module"));
      to.put(part.image_offset + r * columns, coded.data(), columns);
      to.put(part.scales_offset + r * sizeof(float), reinterpret_cast<const std::byte*>(&scale), sizeof(float));
    }
  }
  return done{};
}

result<done> image_storage::adopt(const weight_sources& offloaded) {
  const auto& images = *state_->images;
  if (offloaded.files.size() != offloaded.file_sizes.size())
    return fail(errc::invalid_argument, "offload folder", "the sources must say how large every file is");
  std::unordered_map<std::string_view, const stored_tensor*> stored, by_name;
  for (const auto& t : offloaded.tensors) stored.emplace(t.name, &t);
  for (const auto& c : offloaded.conversions)
    if (const auto t = stored.find(c.stored); t != stored.end()) by_name.emplace(c.tensor, t->second);
  for (const auto& [name, tensor] : offloaded.companions)
    if (const auto t = stored.find(name); t != stored.end()) by_name.emplace(name, t->second);
  const auto first_file = state_->files.count();
  for (std::size_t i = 0; i < offloaded.files.size(); ++i)
    state_->files.add(offloaded.files[i], offloaded.file_sizes[i]);
  for (std::uint32_t atom = 0; atom < images.atoms(); ++atom)
    for (std::uint32_t t = 0; t < images.of(atom).size(); ++t) {
      if (is_plain(images, atom, t)) continue;
      std::vector<image_piece> pieces;
      const auto items = offload_items(images, atom, t);
      for (const auto& item : items) {
        const auto at = by_name.find(item.name);
        if (at == by_name.end()) break;
        const auto& s = *at->second;
        if (s.type != item.type || s.shape != item.shape || s.length != item.size || s.file >= offloaded.files.size() ||
            s.offset > offloaded.file_sizes[s.file] || s.length > offloaded.file_sizes[s.file] - s.offset)
          return fail(
              errc::inconsistent_model, item.name,
              "the offload folder holds it in another dtype or shape than the plan wants, or not all of it; use "
              "another folder",
              item.size, s.length);
        auto& p = pieces.emplace_back();
        p.file = first_file + s.file;
        p.file_offset = s.offset;
        p.length = p.image_size = s.length;
        p.image_offset = item.offset;
        p.tensor = t;
      }
      if (!items.empty() && pieces.size() == items.size()) state_->adopted[state::key(atom, t)] = std::move(pieces);
    }
  return done{};
}

}  // namespace berth
