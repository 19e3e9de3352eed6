// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

module berth.int8;

namespace berth::int8 {

std::optional<bad_row> quantize_rows_reference(const float_matrix& m, std::int8_t* codes, float* scales) {
#pragma clang fp contract(off)
  for (std::uint64_t r = 0; r < m.rows; ++r) {
    const auto at = [&](std::uint64_t c) { return element_at(m.data, m.type, r * m.row_stride + c * m.column_stride); };
    float largest = 0;
    for (std::uint64_t c = 0; c < m.columns; ++c) {
      if (!std::isfinite(at(c))) return bad_row{r, row_fault::not_finite};
      largest = std::max(largest, std::fabs(at(c)));
    }
    const float factor = largest == 0 ? 0 : 127.0f / largest;
    if (!std::isfinite(factor)) return bad_row{r, row_fault::scale_out_of_range};
    scales[r] = largest;
    for (std::uint64_t c = 0; c < m.columns; ++c)
      codes[r * m.columns + c] = static_cast<std::int8_t>(std::nearbyint(at(c) * factor));
  }
  return std::nullopt;
}

failure failure_of(const bad_row& row, std::string_view tensor) {
  text<416> detail("row ");
  detail.append(row.row);
  if (row.fault == row_fault::not_finite)
    detail.append(" holds a NaN or an infinity, which int8 cannot stand for; mend the checkpoint, or skip this module");
  else
    detail.append(" has values so small (below 3.74e-37) that its scale leaves the range of f32; skip this module");
  return fail(errc::unsupported, tensor, detail);
}

}  // namespace berth::int8
