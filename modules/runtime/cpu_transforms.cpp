// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

module berth.runtime;

import berth.base;
import berth.exec;
import berth.int8;
import :float_codes;

namespace berth {
namespace {

/// Elements per tile of a transposing move: both sides stay in cache.
constexpr std::uint64_t tile = 64;

/// Calls `f(row, first column, columns)` over a matrix, by tiles where neither side runs along the columns.
template <class F>
void over_runs(const transform& t, F&& f) {
  const bool along = t.source_column_stride == 1 || t.target_column_stride == 1;
  const bool transposing = along && t.source_column_stride != t.target_column_stride;
  if (!transposing) {
    for (std::uint64_t r = 0; r < t.rows; ++r) f(r, std::uint64_t{0}, t.columns);
    return;
  }
  for (std::uint64_t r0 = 0; r0 < t.rows; r0 += tile)
    for (std::uint64_t c0 = 0; c0 < t.columns; c0 += tile)
      for (std::uint64_t r = r0; r < std::min(r0 + tile, t.rows); ++r) f(r, c0, std::min(tile, t.columns - c0));
}

template <std::size_t Size>
void move_elements(const transform& t) {
  over_runs(t, [&t](std::uint64_t r, std::uint64_t c, std::uint64_t n) {
    const auto* from = t.source + (r * t.source_row_stride + c * t.source_column_stride) * Size;
    auto* to = t.target + (r * t.target_row_stride + c * t.target_column_stride) * Size;
    if (t.source_column_stride == 1 && t.target_column_stride == 1) {
      std::memcpy(to, from, n * Size);
      return;
    }
    for (std::uint64_t i = 0; i < n; ++i)
      std::memcpy(to + i * t.target_column_stride * Size, from + i * t.source_column_stride * Size, Size);
  });
}

template <class From, class To>
void convert_elements(const transform& t) {
  using source = typename From::code;
  using target = typename To::code;
  over_runs(t, [&t](std::uint64_t r, std::uint64_t c, std::uint64_t n) {
    const auto* from = t.source + (r * t.source_row_stride + c * t.source_column_stride) * sizeof(source);
    auto* to = t.target + (r * t.target_row_stride + c * t.target_column_stride) * sizeof(target);
    if (t.source_column_stride == 1 && t.target_column_stride == 1) {  // the compiler makes vectors of it
      for (std::uint64_t i = 0; i < n; ++i)
        detail::store_element(to + i * sizeof(target),
                              To::write(From::read(detail::load_element<source>(from + i * sizeof(source)))));
      return;
    }
    for (std::uint64_t i = 0; i < n; ++i)
      detail::store_element(
          to + i * t.target_column_stride * sizeof(target),
          To::write(From::read(detail::load_element<source>(from + i * t.source_column_stride * sizeof(source)))));
  });
}

void convert(const transform& t) {
  if (t.from == t.to) {
    switch (bits_of(t.from)) {
      case 8:
        return move_elements<1>(t);
      case 16:
        return move_elements<2>(t);
      case 32:
        return move_elements<4>(t);
      default:
        return move_elements<8>(t);
    }
  }
  detail::with_code(t.from, [&t]<class From>(From) {
    detail::with_code(t.to, [&t]<class To>(To) { convert_elements<From, To>(t); });
  });
}

/// Scales are written through floats of this function's own: they need not be aligned.
void quantize(const transform& t) {
  constexpr std::uint64_t rows_at_a_time = 64;
  std::array<float, rows_at_a_time> scales;
  const auto element = bits_of(t.from) / 8;
  for (std::uint64_t r = 0; r < t.rows; r += rows_at_a_time) {
    const auto rows = std::min(rows_at_a_time, t.rows - r);
    const int8::float_matrix part{t.from,
                                  t.source + r * t.source_row_stride * element,
                                  rows,
                                  t.columns,
                                  t.source_row_stride,
                                  t.source_column_stride};
    const auto bad = int8::quantize_rows(part, reinterpret_cast<std::int8_t*>(t.target + r * t.columns), scales.data());
    std::memcpy(reinterpret_cast<std::byte*>(t.scales) + r * sizeof(float), scales.data(), rows * sizeof(float));
    if (!bad) continue;
    if (t.bad_row != nullptr) *t.bad_row = std::min(*t.bad_row, static_cast<std::uint32_t>(r + bad->row));
    return;
  }
}

void run(void*, const transform& t, const work_call&) {
  if (t.kind == transform_kind::quantize)
    quantize(t);
  else
    convert(t);
}

}  // namespace

transform_engine cpu_transforms() { return {nullptr, &run}; }

bool has_transform(transform_kind kind, dtype from, dtype to) {
  const auto known = [](dtype t) { return detail::with_code(t, [](auto) {}); };
  if (kind == transform_kind::quantize)
    return to == dtype::i8 && (from == dtype::f32 || from == dtype::f16 || from == dtype::bf16);
  return from == to ? bits_of(from) % 8 == 0 : known(from) && known(to);
}

}  // namespace berth
