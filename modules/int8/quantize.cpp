// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>

module berth.int8;

import :lanes;

namespace berth::int8 {
namespace {

/// What the bits of a row's largest magnitude make of it.
struct row_scale {
  float scale = 0, factor = 0;
  std::optional<row_fault> fault;
};

[[gnu::always_inline]] inline row_scale scale_of(std::int32_t largest_bits) {
  if (largest_bits >= 0x7f800000) return {0, 0, row_fault::not_finite};
  const auto largest = std::bit_cast<float>(largest_bits);
  const float factor = largest_bits == 0 ? 0 : 127.0f / largest;
  if (std::bit_cast<std::int32_t>(factor) >= 0x7f800000) return {0, 0, row_fault::scale_out_of_range};
  return {largest, factor, std::nullopt};
}

/// One row whose elements lie side by side: the largest magnitude.
template <dtype T, instruction_path P>
[[gnu::always_inline]] inline void largest_of(i32x16& largest, const std::byte* row, std::uint64_t columns) {
  for (std::uint64_t c = 0; c < columns; c += lanes) {
    f32x16 v;
    i32x16 magnitude;
    load_at_most<T, P>(v, row + c * element_size<T>, columns - c);
    magnitude_bits(magnitude, v);
    keep_larger(largest, magnitude);
  }
}

/// The same row: its codes.
template <dtype T, instruction_path P>
[[gnu::always_inline]] inline void encode(const std::byte* row, std::uint64_t columns, float factor,
                                          std::int8_t* codes) {
  const f32x16 factors = factor - f32x16{};
  for (std::uint64_t c = 0; c < columns; c += lanes) {
    f32x16 v;
    i32x16 rounded;
    load_at_most<T, P>(v, row + c * element_size<T>, columns - c);
    round_products(rounded, v, factors);
    if (columns - c >= lanes) {
      store_codes(codes + c, rounded);
    } else {
      std::int8_t last[lanes];
      store_codes(last, rounded);
      __builtin_memcpy(codes + c, last, columns - c);
    }
  }
}

[[gnu::always_inline]] inline std::int32_t largest_lane(const i32x16& v) {
  std::int32_t out = 0;
  for (std::size_t i = 0; i < lanes; ++i) out = std::max(out, v[i]);
  return out;
}

template <dtype T, instruction_path P>
[[gnu::always_inline]] inline std::optional<bad_row> by_rows(const float_matrix& m, std::int8_t* codes, float* scales) {
  for (std::uint64_t r = 0; r < m.rows; ++r) {
    const auto* row = m.data + r * m.row_stride * element_size<T>;
    i32x16 largest{};
    largest_of<T, P>(largest, row, m.columns);
    const auto s = scale_of(largest_lane(largest));
    if (s.fault) return bad_row{r, *s.fault};
    scales[r] = s.scale;
    encode<T, P>(row, m.columns, s.factor, codes + r * m.columns);
  }
  return std::nullopt;
}

/// Rows whose elements lie `column_stride` apart but beside those of the next row: `block` rows at a time, so that a
/// stored line is read whole. Tiles of codes are turned before they are written.
constexpr std::size_t block = 64;

template <dtype T, instruction_path P>
[[gnu::always_inline]] inline void encode_block(const std::byte* first, std::uint64_t row_bytes, std::uint64_t columns,
                                                std::size_t rows, const float* factors, std::int8_t* codes) {
  std::int8_t tile[block][block];  // [column][row]
  for (std::uint64_t begin = 0; begin < columns; begin += block) {
    const auto width = static_cast<std::size_t>(std::min<std::uint64_t>(block, columns - begin));
    for (std::size_t c = 0; c < width; ++c)
      for (std::size_t r = 0; r < rows; r += lanes) {
        f32x16 v, f;
        i32x16 rounded;
        load_at_most<T, P>(v, first + (begin + c) * row_bytes + r * element_size<T>, rows - r);
        __builtin_memcpy(&f, factors + r, 64);
        round_products(rounded, v, f);
        store_codes(&tile[c][r], rounded);
      }
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < width; ++c) codes[r * columns + begin + c] = tile[c][r];
  }
}

template <dtype T, instruction_path P>
[[gnu::always_inline]] inline std::optional<bad_row> by_columns(const float_matrix& m, std::int8_t* codes,
                                                                float* scales) {
  const auto row_bytes = m.column_stride * element_size<T>;
  for (std::uint64_t begin = 0; begin < m.rows; begin += block) {
    const auto rows = static_cast<std::size_t>(std::min<std::uint64_t>(block, m.rows - begin));
    const auto* first = m.data + begin * element_size<T>;
    i32x16 largest[block / lanes] = {};
    for (std::uint64_t c = 0; c < m.columns; ++c)
      for (std::size_t r = 0; r < rows; r += lanes) {
        f32x16 v;
        i32x16 magnitude;
        load_at_most<T, P>(v, first + c * row_bytes + r * element_size<T>, rows - r);
        magnitude_bits(magnitude, v);
        keep_larger(largest[r / lanes], magnitude);
      }
    float factors[block] = {};
    for (std::size_t r = 0; r < rows; ++r) {
      const auto s = scale_of(largest[r / lanes][r % lanes]);
      if (s.fault) return bad_row{begin + r, *s.fault};
      scales[begin + r] = s.scale;
      factors[r] = s.factor;
    }
    encode_block<T, P>(first, row_bytes, m.columns, rows, factors, codes + begin * m.columns);
  }
  return std::nullopt;
}

/// Any strides: elements are gathered, as f32, a piece of a row at a time.
constexpr std::size_t piece = 256;

[[gnu::always_inline]] inline std::size_t gather(const float_matrix& m, std::uint64_t row, std::uint64_t column,
                                                 float* out) {
  const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(piece, m.columns - column));
  for (std::size_t i = 0; i < n; ++i)
    out[i] = element_at(m.data, m.type, row * m.row_stride + (column + i) * m.column_stride);
  return n;
}

template <instruction_path P>
[[gnu::always_inline]] inline std::optional<bad_row> by_elements(const float_matrix& m, std::int8_t* codes,
                                                                 float* scales) {
  float values[piece];
  const auto* data = reinterpret_cast<const std::byte*>(values);
  for (std::uint64_t r = 0; r < m.rows; ++r) {
    i32x16 largest{};
    for (std::uint64_t c = 0; c < m.columns; c += piece)
      largest_of<dtype::f32, P>(largest, data, gather(m, r, c, values));
    const auto s = scale_of(largest_lane(largest));
    if (s.fault) return bad_row{r, *s.fault};
    scales[r] = s.scale;
    for (std::uint64_t c = 0; c < m.columns; c += piece)
      encode<dtype::f32, P>(data, gather(m, r, c, values), s.factor, codes + r * m.columns + c);
  }
  return std::nullopt;
}

struct quantize_kernel {
  template <instruction_path P>
  [[gnu::always_inline]] static std::optional<bad_row> run(const float_matrix& m, std::int8_t* codes, float* scales) {
    if (m.column_stride == 1) return typed<P, false>(m, codes, scales);
    if (m.row_stride == 1) return typed<P, true>(m, codes, scales);
    return by_elements<P>(m, codes, scales);
  }

 private:
  template <instruction_path P, bool Columns>
  [[gnu::always_inline]] static std::optional<bad_row> typed(const float_matrix& m, std::int8_t* codes, float* scales) {
    if (m.type == dtype::f32) return strided<dtype::f32, P, Columns>(m, codes, scales);
    if (m.type == dtype::f16) return strided<dtype::f16, P, Columns>(m, codes, scales);
    return strided<dtype::bf16, P, Columns>(m, codes, scales);
  }
  template <dtype T, instruction_path P, bool Columns>
  [[gnu::always_inline]] static std::optional<bad_row> strided(const float_matrix& m, std::int8_t* codes,
                                                               float* scales) {
    if constexpr (Columns)
      return by_columns<T, P>(m, codes, scales);
    else
      return by_rows<T, P>(m, codes, scales);
  }
};

}  // namespace

std::optional<bad_row> quantize_rows(const float_matrix& m, std::int8_t* codes, float* scales, instruction_path path) {
  return on_path<quantize_kernel>(path, m, codes, scales);
}

}  // namespace berth::int8
