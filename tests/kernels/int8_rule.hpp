// SPDX-License-Identifier: Apache-2.0
// LLM.int8 products in double precision, written down from the rule.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace int8_rule {

struct weights {
  std::uint64_t rows, columns;
  std::vector<std::int8_t> codes;
  std::vector<float> scales;
};

/// out[t, r] for inputs [tokens, columns]; an entry is an outlier from the threshold on (0: none is).
inline std::vector<double> product(const weights& w, const std::vector<double>& inputs, double threshold) {
  const auto tokens = inputs.size() / w.columns;
  const auto outlier = [&](double v) { return threshold > 0 && std::fabs(v) >= threshold; };
  std::vector<bool> whole(w.columns, false);
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (outlier(inputs[i])) whole[i % w.columns] = true;
  std::vector<double> out;
  for (std::size_t t = 0; t < tokens; ++t) {
    const auto* a = inputs.data() + t * w.columns;
    double scale = 0;
    for (std::uint64_t c = 0; c < w.columns; ++c)
      if (!outlier(a[c])) scale = std::max(scale, std::fabs(a[c]));
    std::vector<double> codes(w.columns, 0);
    for (std::uint64_t c = 0; c < w.columns; ++c)
      if (!whole[c] && scale > 0) {
        const auto inverse = 127.0f / static_cast<float>(scale);
        const auto scaled = static_cast<float>(a[c]) * inverse;
        codes[c] = std::nearbyint(scaled);
      }
    for (std::uint64_t r = 0; r < w.rows; ++r) {
      double integers = 0, rest = 0;
      for (std::uint64_t c = 0; c < w.columns; ++c) {
        const double code = w.codes[r * w.columns + c];
        if (whole[c])
          rest += a[c] * code;
        else
          integers += codes[c] * code;
      }
      out.push_back((integers * scale / 127 + rest) * (static_cast<double>(w.scales[r]) / 127));
    }
  }
  return out;
}

}  // namespace int8_rule
