// SPDX-License-Identifier: Apache-2.0
// Vectors of LLM.int8 quantisation and products, on every instruction path of this processor. Codes, scales, outlier
// columns and integer sums are compared exactly, floats within what the vectors allow.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hex.hpp"
#include "kinds.hpp"
#include "report.hpp"

import berth.int8;

namespace golden {
namespace {

namespace int8 = berth::int8;
constexpr std::string_view kind = "int8_vectors";

/// Numbers of a list, or of a list of lists one after the other.
bool flatten(const json::value& v, std::vector<double>& out) {
  if (const auto n = v.to_double()) return out.push_back(*n), true;
  return v.if_array() != nullptr && std::ranges::all_of(*v.if_array(), [&](const auto& e) { return flatten(e, out); });
}
std::vector<double> numbers(const json::value& v, std::string_view key) {
  std::vector<double> out;
  const auto* m = v.find(key);
  if (m == nullptr || !flatten(*m, out)) return {std::nan("")};  // equals nothing
  return out;
}

/// A stored matrix of a vector: `w` or `a`.
struct stored_matrix {
  berth::dtype type = berth::dtype::f32;
  std::uint64_t rows = 0, columns = 0;
  std::vector<std::byte> data;
};
std::optional<stored_matrix> matrix_of(const json::value& v, const std::string& letter) {
  const auto shape = numbers(v, letter + "_shape");
  const auto* type = v.find(letter + "_dtype");
  const auto* hex = v.find(letter + "_hex");
  if (shape.size() != 2 || type == nullptr || !type->if_string() || hex == nullptr || !hex->if_string())
    return std::nullopt;
  stored_matrix out;
  const auto known = berth::dtype_from_torch(*type->if_string());
  auto data = from_hex(*hex->if_string());
  if (!known || !data) return std::nullopt;
  out.type = *known;
  out.rows = static_cast<std::uint64_t>(shape[0]);
  out.columns = static_cast<std::uint64_t>(shape[1]);
  out.data = *std::move(data);
  if (out.data.size() != out.rows * out.columns * berth::bits_of(out.type) / 8) return std::nullopt;
  return out;
}

/// Compares lists; the first difference becomes the failure.
class comparison {
 public:
  comparison(const std::string& name, report& out) : name_(name), out_(out) {}
  bool failed() const { return failed_; }

  template <class List>
  void exact(std::string_view member, const std::vector<double>& expected, const List& got) {
    within(member, expected, got, [](std::size_t) { return 0.0; });
  }
  template <class List, class Tolerance>
  void within(std::string_view member, const std::vector<double>& expected, const List& got, Tolerance tolerance) {
    if (failed_) return;
    if (expected.size() != got.size())
      return fail(member, std::to_string(expected.size()) + " numbers", std::to_string(got.size()));
    for (std::size_t i = 0; i < expected.size(); ++i)
      if (!(std::fabs(expected[i] - static_cast<double>(got[i])) <= tolerance(i)))
        return fail(std::string(member) + "[" + std::to_string(i) + "]", std::to_string(expected[i]),
                    std::to_string(static_cast<double>(got[i])));
  }
  void fail(std::string_view member, std::string_view expected, std::string_view got) {
    if (!std::exchange(failed_, true)) out_.failed(kind, name_, member, expected, got);
  }

 private:
  const std::string& name_;
  report& out_;
  bool failed_ = false;
};

struct quantized {
  std::vector<std::int8_t> codes;
  std::vector<float> scales;
};

quantized compare_weights(const json::value& v, const stored_matrix& w, int8::instruction_path path, comparison& to) {
  quantized out{std::vector<std::int8_t>(w.rows * w.columns), std::vector<float>(w.rows)};
  const int8::float_matrix m{w.type, w.data.data(), w.rows, w.columns, w.columns, 1};
  if (int8::quantize_rows(m, out.codes.data(), out.scales.data(), path)) to.fail("CB", "codes", "a refused row");
  to.exact("CB", numbers(v, "CB"), out.codes);
  to.exact("SCB", numbers(v, "SCB"), out.scales);
  const auto* dequantized = v.find("dequantized");
  if (dequantized == nullptr || dequantized->is_null()) return out;
  std::vector<float> back(out.codes.size());
  int8::dequantize_rows({out.codes.data(), out.scales.data(), w.rows, w.columns},
                        reinterpret_cast<std::byte*>(back.data()), berth::dtype::f32, path);
  // Two roundings to f32.
  const auto expected = numbers(v, "dequantized");
  to.within("dequantized", expected, back, [&](std::size_t i) { return std::fabs(expected[i]) * 0x1p-23; });
  return out;
}

void compare_product(const json::value& product, const stored_matrix& a, const int8::code_matrix& w,
                     int8::instruction_path path, comparison& to) {
  std::vector<float> values(a.rows * a.columns), scales(a.rows), y(a.rows * w.rows);
  int8::widen(a.data.data(), a.type, values.size(), values.data(), path);
  std::vector<std::int8_t> codes(values.size());
  std::vector<std::uint32_t> outliers(a.columns);
  std::vector<std::int32_t> sums(y.size());
  const auto threshold = static_cast<float>(numbers(product, "threshold").front());
  int8::split_activations parts{codes, scales, outliers};
  if (!int8::split(values.data(), a.rows, a.columns, threshold, parts, path)) to.fail("CA", "codes", "an error");
  to.exact("outlier_columns", numbers(product, "outlier_columns"), parts.outlier_columns);
  to.exact("SCA", numbers(product, "SCA"), scales);
  to.exact("CA", numbers(product, "CA"), codes);
  std::vector<std::int32_t> of_row(a.rows);
  for (std::uint64_t r = 0; r < w.rows; ++r) {
    int8::multiply_codes(w.codes + r * w.columns, codes.data(), a.rows, a.columns, of_row.data(), path);
    for (std::uint64_t t = 0; t < a.rows; ++t) sums[t * w.rows + r] = of_row[t];
  }
  to.exact("I", numbers(product, "I"), sums);
  if (!int8::matmul(values.data(), a.rows, w, threshold, nullptr, y.data(), {{codes, scales, outliers}, sums}, path))
    to.fail("out", "a product", "an error");
  // 1e-5 of the row's maximum for f32 accumulation.
  const auto expected = numbers(product, "out");
  to.within("out", expected, y, [&](std::size_t i) {
    double largest = 0;
    for (std::size_t k = i / w.rows * w.rows; k < (i / w.rows + 1) * w.rows; ++k)
      largest = std::max(largest, std::fabs(expected[k]));
    return 1e-5 * largest;
  });
}

}  // namespace

void run_int8_vector(const std::string& name, const json::value& v, report& out) {
  if (!out.wants(kind, name)) return;
  const auto w = matrix_of(v, "w"), a = matrix_of(v, "a");
  const auto* products = v.find("matmul");
  comparison to(name, out);
  if (!w || !a || products == nullptr || products->if_array() == nullptr || products->if_array()->empty())
    return to.fail("vector", "weights, activations and products", "something else");
  for (const auto path : int8::all_paths) {
    if (!int8::is_available(path)) continue;
    const auto q = compare_weights(v, *w, path, to);
    for (const auto& product : *products->if_array())
      compare_product(product, *a, {q.codes.data(), q.scales.data(), w->rows, w->columns}, path, to);
  }
  if (!to.failed()) out.passed(kind);
}

}  // namespace golden
