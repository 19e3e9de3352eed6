// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

module berth.runtime;

import :pieces;
import :tensor_parts;

namespace berth {
namespace {

/// Runs of elements that stay as they are become copies of their own from this size on; shorter ones are moved
/// together by a transform.
constexpr bytes long_run = bytes{256} << 10;
/// Pieces that one stored tensor may be cut into.
constexpr std::uint64_t most_pieces = std::uint64_t{1} << 20;

/// Elements from the first to the last of a matrix, both included.
std::uint64_t span_of(std::uint64_t rows, std::uint64_t columns, std::uint64_t row_stride,
                      std::uint64_t column_stride) {
  return rows == 0 || columns == 0 ? 0 : (rows - 1) * row_stride + (columns - 1) * column_stride + 1;
}

/// Rows [first, last) of `rows` that a slice has, counted within the slice.
std::pair<std::uint64_t, std::uint64_t> within(const slice& s, const leading_rows& rows) {
  const auto n = extent_of(s);
  if (rows.all) return {0, n};
  const auto index = [&](std::uint64_t row) {
    return row <= s.begin ? 0 : std::min(n, (row - s.begin + s.step - 1) / s.step);
  };
  return {index(rows.first), index(rows.last)};
}

}  // namespace

void measure(image_piece& piece) {
  const auto& t = piece.how;
  piece.length = span_of(t.rows, t.columns, t.source_row_stride, t.source_column_stride) * (bits_of(t.from) / 8);
  piece.image_size =
      t.kind == transform_kind::quantize
          ? t.rows * t.columns
          : span_of(t.rows, t.columns, t.target_row_stride, t.target_column_stride) * (bits_of(t.to) / 8);
}

std::uint64_t steps_of(const image_piece& piece) {
  const auto& t = piece.how;
  if (piece.plain) return piece.length;
  const bool by_rows = t.source_row_stride >= t.source_column_stride;
  if (t.kind == transform_kind::quantize) return by_rows || t.columns == 1 ? t.rows : 1;
  return (by_rows && t.rows > 1) || t.columns == 1 ? t.rows : t.columns;
}

image_piece steps(const image_piece& piece, std::uint64_t first, std::uint64_t count) {
  auto out = piece;
  if (piece.plain) {
    out.file_offset += first;
    out.image_offset += first;
    out.length = out.image_size = count;
    return out;
  }
  auto& t = out.how;
  const auto all = steps_of(piece);
  if (first == 0 && count == all) return out;
  const bool by_rows = t.kind == transform_kind::quantize ||
                       (t.source_row_stride >= t.source_column_stride && t.rows > 1) || t.columns == 1;
  out.file_offset += first * (by_rows ? t.source_row_stride : t.source_column_stride) * (bits_of(t.from) / 8);
  if (t.kind == transform_kind::quantize) {
    out.image_offset += first * t.columns;
    out.scales_offset += first * sizeof(float);
  } else {
    out.image_offset += first * (by_rows ? t.target_row_stride : t.target_column_stride) * (bits_of(t.to) / 8);
  }
  (by_rows ? t.rows : t.columns) = count;
  measure(out);
  return out;
}

result<bytes> piece_writer::add(std::uint32_t tensor, const leading_rows& rows, bytes at, std::uint32_t number) {
  at_ = at;
  number_ = number;
  const auto& t = parts_.arriving(tensor);
  if (t.how == arrival::absent || t.size == 0) return bytes{0};
  if (t.how == arrival::packed) return add_packed(t, rows);
  if (t.how == arrival::codes) return add_codes(t);
  bytes filled = 0;
  for (const auto list : parts_with(parts_.of(t.source), part_kind::data, rows))
    for (const auto& p : list) {
      const auto added = t.how == arrival::quantize ? add_quantized(t, p) : add_elements(t, p, rows);
      if (!added) return added.propagate();
      filled += *added;
    }
  return filled;
}

image_piece& piece_writer::append(const stored_tensor& s, bytes from, bytes length, bytes to) {
  auto& piece = out_.emplace_back();
  piece.file = s.file;
  piece.file_offset = s.offset + from;
  piece.length = piece.image_size = length;
  piece.image_offset = at_ + to;
  piece.tensor = number_;
  piece.stored = static_cast<std::uint32_t>(&s - sources_.tensors.data());
  return piece;
}

/// Outer dimensions first; afterwards no two neighbours could be one. An empty list stands for one element.
void piece_writer::merge(std::vector<dimension>& d) {
  std::size_t kept = 0;
  for (const auto& next : d) {
    if (next.extent == 1) continue;
    auto* last = kept > 0 ? &d[kept - 1] : nullptr;
    if (last != nullptr && last->source == next.extent * next.source && last->target == next.extent * next.target)
      *last = {last->extent * next.extent, next.source, next.target};
    else
      d[kept++] = next;
  }
  d.resize(kept);
}

result<bytes> piece_writer::add_elements(const arriving_tensor& t, const tensor_part& p, const leading_rows& rows) {
  const auto& s = sources_.tensors[p.stored];
  const auto rank = t.what->shape.size();
  std::vector<dimension> d(rank);
  std::uint64_t source_stride = 1, target_stride = 1, from = 0, to = 0, elements = 1;
  const auto swapped = [&](std::size_t k) {
    return p.from->transposed && rank >= 2 && k + 2 >= rank ? 2 * rank - 3 - k : k;
  };
  for (auto k = rank; k-- > 0;) {
    const auto& at = p.from->range[swapped(k)];
    d[swapped(k)].extent = extent_of(at);
    d[swapped(k)].source = source_stride;
    source_stride *= extent_of(at);
    const auto& own = p.from->range[k];
    d[k].target = own.step * target_stride;
    if (k > 0) {
      to += own.begin * target_stride;
    } else {
      const auto [first, last] = within(own, rows);
      d[0].extent = last > first ? last - first : 0;
      if (d[0].extent == 0) return bytes{0};
      to += (own.begin + first * own.step - rows.first) * target_stride;
      from += first;  // in rows until the stride is known
    }
    target_stride *= t.what->shape[k];
  }
  if (rank > 0) from *= d[0].source;
  for (const auto& x : d) elements *= x.extent;
  if (elements == 0) return bytes{0};
  merge(d);
  const bool contiguous = d.empty() || (d.size() == 1 && d[0].source == 1 && d[0].target == 1);
  const auto width = bits_of(t.form.type);
  const auto added = contiguous && s.type == t.form.type ? add_run(t, s, from * width, to * width, elements)
                                                         : add_matrices(t, s, std::move(d), from, to);
  if (!added) return added.propagate();
  return elements * width / 8 + (elements * width % 8 != 0 ? 1 : 0);
}

/// Elements that lie side by side in both and stay what they are.
result<done> piece_writer::add_run(const arriving_tensor& t, const stored_tensor& s, bytes bits_from, bytes bits_to,
                                   std::uint64_t elements) {
  const auto bits = elements * bits_of(s.type);
  if (bits_from % 8 != 0 || bits_to % 8 != 0 || (bits % 8 != 0 && elements != t.what->elements))
    return fail(errc::unsupported, t.what->name, "is cut within a byte; place the whole module on one device");
  append(s, bits_from / 8, (bits + 7) / 8, bits_to / 8);
  return done{};
}

/// Everything else: matrices, one for each index of the dimensions further out.
result<done> piece_writer::add_matrices(const arriving_tensor& t, const stored_tensor& s, std::vector<dimension> d,
                                        std::uint64_t from, std::uint64_t to) {
  const auto from_bits = bits_of(s.type), to_bits = bits_of(t.form.type);
  if (from_bits % 8 != 0 || to_bits % 8 != 0)
    return fail(errc::unsupported, t.what->name, "elements of less than a byte can only be moved side by side");
  const auto size = to_bits / 8;
  if (d.empty()) d.push_back({1, 1, 1});
  const bool runs =
      s.type == t.form.type && d.back().source == 1 && d.back().target == 1 && d.back().extent * size >= long_run;
  if (d.size() == 1 && !runs) {
    // Any split will do; that of the tensor gives rows that are neither all nor nothing.
    const auto columns =
        t.what->shape.empty() || d[0].extent % t.what->shape.back() != 0 ? d[0].extent : t.what->shape.back();
    d = {{d[0].extent / columns, columns * d[0].source, columns * d[0].target}, {columns, d[0].source, d[0].target}};
  }
  const auto outer = d.size() - (runs ? 1 : 2);
  std::uint64_t count = 1;
  for (std::size_t k = 0; k < outer; ++k) count *= d[k].extent;
  if (count > most_pieces) return fail(errc::unsupported, t.what->name, "is stored in too many small parts");
  for (std::uint64_t i = 0; i < count; ++i) {
    auto left = i;
    auto source = from, target = to;
    for (auto k = outer; k-- > 0; left /= d[k].extent) {
      source += left % d[k].extent * d[k].source;
      target += left % d[k].extent * d[k].target;
    }
    auto& piece = append(s, source * (from_bits / 8), d.back().extent * size, target * size);
    if (runs) continue;
    piece.plain = false;
    const auto& rows = d[outer];
    piece.how = {.kind = transform_kind::convert,
                 .from = s.type,
                 .to = t.form.type,
                 .rows = rows.extent,
                 .columns = d.back().extent,
                 .source_row_stride = rows.source,
                 .source_column_stride = d.back().source,
                 .target_row_stride = rows.target,
                 .target_column_stride = d.back().target};
    measure(piece);
  }
  return done{};
}

/// A stored tensor that holds whole rows of codes: rows of a Linear, columns of a Conv1D.
result<bytes> piece_writer::add_quantized(const arriving_tensor& t, const tensor_part& p) {
  const auto& s = sources_.tensors[p.stored];
  const std::size_t over = t.form.by_column ? 1 : 0;
  const auto& rows = p.from->range[over];
  const auto& columns = p.from->range[1 - over];
  const auto width = t.what->shape[1 - over];
  if (rows.step != 1 || columns.step != 1 || extent_of(columns) != width)
    return fail(errc::unsupported, t.what->name,
                "its rows are spread over several stored tensors, which int8 cannot scale one by one; skip its module");
  const auto count = extent_of(rows);
  if (count == 0 || width == 0) return bytes{0};
  const bool rows_outside = (over == 0) != p.from->transposed;
  auto& piece = append(s, 0, s.length, t.form.rows * sizeof(float) + rows.begin * width);
  piece.plain = false;
  piece.scales_offset = at_ + rows.begin * sizeof(float);
  piece.how = {.kind = transform_kind::quantize,
               .from = s.type,
               .to = dtype::i8,
               .rows = count,
               .columns = width,
               .source_row_stride = rows_outside ? width : 1,
               .source_column_stride = rows_outside ? 1 : count,
               .target_row_stride = width};
  measure(piece);
  return count * (width + sizeof(float));
}

result<bytes> piece_writer::add_codes(const arriving_tensor& t) {
  bytes filled = 0;
  // Other companions say which layout the codes had on some GPU.
  for (const auto kind : {part_kind::scales, part_kind::data})
    for (const auto& p : parts_of_kind(parts_.of(t.source), kind)) {
      const auto& s = sources_.tensors[p.stored];
      append(s, 0, s.length, filled);
      filled += s.length;
    }
  return filled;
}

/// Stored bytes one after the other. A slice takes those of its own rows: whole tensors that are stored row by row, or
/// its share of those that are stacked.
result<bytes> piece_writer::add_packed(const arriving_tensor& t, const leading_rows& rows) {
  const auto leads = t.what->shape.empty() ? 1 : t.what->shape.front();
  bytes filled = 0;
  for (const auto kind : {part_kind::scales, part_kind::data, part_kind::other})
    for (const auto list : parts_with(parts_.of(t.source), kind, rows))
      for (const auto& p : list) {
        const auto& s = sources_.tensors[p.stored];
        bytes from = 0, length = s.length;
        if (!rows.all && !p.single) {
          if (s.shape.empty() || s.shape.front() != leads || s.length % leads != 0)
            return fail(
                errc::unsupported, t.what->name,
                text<416>("its part ").append(s.name).append(" cannot be cut into experts; plan with whole bundles"));
          from = s.length / leads * rows.first;
          length = s.length / leads * (rows.last - rows.first);
        }
        append(s, from, length, filled);
        filled += length;
      }
  return filled;
}

}  // namespace berth
