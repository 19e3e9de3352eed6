// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>

module berth.int8;

import :lanes;

namespace berth::int8 {
namespace {

struct dequantize_kernel {
  template <instruction_path P>
  [[gnu::always_inline]] static void run(const std::int8_t* codes, float step, std::uint64_t count, float* target) {
    for (std::uint64_t i = 0; i < count; i += lanes) {
      const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(count - i, lanes));
      f32x16 v;
      if (n == lanes)
        load_codes(v, codes + i);
      else
        load_codes(v, codes + i, n);
      v *= step;
      __builtin_memcpy(target + i, &v, n * sizeof(float));
    }
  }
};

}  // namespace

void dequantize_rows(const code_matrix& m, std::byte* target, dtype to, instruction_path path) {
  constexpr std::uint64_t piece = 1024;
  alignas(64) float values[piece];
  const auto width = std::uint64_t{bits_of(to) / 8};
  for (std::uint64_t r = 0; r < m.rows; ++r)
    for (std::uint64_t c = 0; c < m.columns; c += piece) {
      const auto n = std::min(piece, m.columns - c);
      const auto at = r * m.columns + c;
      on_path<dequantize_kernel>(path, m.codes + at, step_of(m.scales[r]), n, +values);
      narrow(values, n, target + at * width, to, path);
    }
}

}  // namespace berth::int8
