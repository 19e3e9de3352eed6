// SPDX-License-Identifier: Apache-2.0
// How fast int8 arithmetic runs on one thread of this processor, every instruction path beside the scalar reference and
// beside products with f32 weights, in one run.
//   berth_bench_int8
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <random>
#include <string>
#include <string_view>
#include <vector>

import berth.int8;

namespace {

namespace int8 = berth::int8;
using berth::dtype;

/// Seconds of one call: the least of several, for at least 0.4 s of measuring.
template <class F>
double seconds(F&& f) {
  using clock = std::chrono::steady_clock;
  double least = 1e9, sum = 0;
  for (int n = 0; n < 3 || (sum < 0.4 && n < 100); ++n) {
    const auto begin = clock::now();
    f();
    const auto t = std::chrono::duration<double>(clock::now() - begin).count();
    least = std::min(least, t);
    sum += t;
  }
  return least;
}

std::string processor() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown processor";
}

std::vector<float> random_floats(std::uint64_t n) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> pattern(65'537), out(n);
  for (auto& v : pattern) v = normal(random);
  for (std::uint64_t i = 0; i < n; ++i) out[i] = pattern[i % pattern.size()];
  return out;
}

struct stored {
  std::vector<std::byte> data;
  int8::float_matrix view;
  stored(const std::vector<float>& values, dtype t, std::uint64_t rows, std::uint64_t columns, bool by_column)
      : data(values.size() * berth::bits_of(t) / 8) {
    int8::narrow(values.data(), values.size(), data.data(), t);
    view = {t, data.data(), rows, columns, by_column ? 1 : columns, by_column ? rows : 1};
  }
};

std::vector<int8::instruction_path> paths() {
  std::vector<int8::instruction_path> out;
  for (const auto p : int8::all_paths)
    if (int8::is_available(p)) out.push_back(p);
  return out;
}

void quantising(std::uint64_t rows, std::uint64_t columns) {
  std::printf("quantise %llu x %llu: GB of source per second (times the reference)\n",
              static_cast<unsigned long long>(rows), static_cast<unsigned long long>(columns));
  std::printf("%-22s %16s", "source", "reference");
  for (const auto p : paths()) std::printf(" %18s", std::string(int8::name_of(p)).c_str());
  std::printf("\n");
  const auto values = random_floats(rows * columns);
  std::vector<std::int8_t> codes(rows * columns);
  std::vector<float> scales(rows);
  for (const auto type : {dtype::f32, dtype::f16, dtype::bf16})
    for (const bool by_column : {false, true}) {
      const stored m(values, type, rows, columns, by_column);
      const auto size = static_cast<double>(m.data.size());
      const auto slow = seconds([&] { (void)int8::quantize_rows_reference(m.view, codes.data(), scales.data()); });
      std::printf("%-8s %-13s %16.3f", std::string(berth::info_of(type).torch).c_str(),
                  by_column ? "as [in, out]" : "as [out, in]", size / slow / 1e9);
      for (const auto p : paths()) {
        const auto t = seconds([&] { (void)int8::quantize_rows(m.view, codes.data(), scales.data(), p); });
        std::printf(" %9.2f (%5.1fx)", size / t / 1e9, slow / t);
      }
      std::printf("\n");
    }
}

void dequantising(std::uint64_t rows, std::uint64_t columns) {
  std::printf("\ndequantise %llu x %llu: GB of target per second\n%-22s", static_cast<unsigned long long>(rows),
              static_cast<unsigned long long>(columns), "target");
  for (const auto p : paths()) std::printf(" %18s", std::string(int8::name_of(p)).c_str());
  std::printf("\n");
  std::vector<std::int8_t> codes(rows * columns, 5);
  const std::vector<float> scales(rows, 0.5f);
  std::vector<std::byte> out(codes.size() * 4);
  for (const auto type : {dtype::f32, dtype::f16, dtype::bf16}) {
    std::printf("%-22s", std::string(berth::info_of(type).torch).c_str());
    for (const auto p : paths()) {
      const auto t =
          seconds([&] { int8::dequantize_rows({codes.data(), scales.data(), rows, columns}, out.data(), type, p); });
      std::printf(" %18.2f", static_cast<double>(codes.size() * berth::bits_of(type) / 8) / t / 1e9);
    }
    std::printf("\n");
  }
}

using lanes = float __attribute__((vector_size(64)));

/// The baseline: the same product with f32 weights, by the same sums.
[[gnu::always_inline]] inline void multiply_floats(const float* w, std::uint64_t rows, std::uint64_t columns,
                                                   const float* x, std::uint64_t tokens, float* y) {
  for (std::uint64_t r = 0; r < rows; ++r)
    for (std::uint64_t t = 0; t < tokens; ++t) {
      lanes even{}, odd{};
      for (std::uint64_t c = 0; c < columns; c += 32) {
        lanes a, b, u, v;
        __builtin_memcpy(&a, w + r * columns + c, 64);
        __builtin_memcpy(&b, w + r * columns + c + 16, 64);
        __builtin_memcpy(&u, x + t * columns + c, 64);
        __builtin_memcpy(&v, x + t * columns + c + 16, 64);
        even += a * u;
        odd += b * v;
      }
      even += odd;
      float sum = 0;
      for (int i = 0; i < 16; ++i) sum += even[i];
      y[t * rows + r] = sum;
    }
}
void floats_portable(const float* w, std::uint64_t rows, std::uint64_t columns, const float* x, std::uint64_t n,
                     float* y) {
  multiply_floats(w, rows, columns, x, n, y);
}
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void floats_avx2(const float* w, std::uint64_t rows, std::uint64_t columns,
                                                     const float* x, std::uint64_t n, float* y) {
  multiply_floats(w, rows, columns, x, n, y);
}
__attribute__((target("avx512f,avx2,fma"))) void floats_avx512(const float* w, std::uint64_t rows,
                                                               std::uint64_t columns, const float* x, std::uint64_t n,
                                                               float* y) {
  multiply_floats(w, rows, columns, x, n, y);
}
#endif

void floats_on(int8::instruction_path p, const std::vector<float>& w, std::uint64_t rows, std::uint64_t columns,
               const std::vector<float>& x, std::uint64_t tokens, std::vector<float>& y) {
#if defined(__x86_64__)
  if (p == int8::instruction_path::avx512) return floats_avx512(w.data(), rows, columns, x.data(), tokens, y.data());
  if (p == int8::instruction_path::avx2) return floats_avx2(w.data(), rows, columns, x.data(), tokens, y.data());
#endif
  floats_portable(w.data(), rows, columns, x.data(), tokens, y.data());
}

void multiplying(std::uint64_t rows, std::uint64_t columns) {
  std::printf("\nproducts with %llu x %llu weights: ms (f32 weights / this)\n%-9s %-10s %12s %20s %20s\n",
              static_cast<unsigned long long>(rows), static_cast<unsigned long long>(columns), "path", "tokens",
              "f32 weights", "W8A16", "LLM.int8");
  const auto floats = random_floats(rows * columns);
  std::vector<std::int8_t> codes(rows * columns);
  std::vector<float> scales(rows);
  const int8::float_matrix m{dtype::f32, reinterpret_cast<const std::byte*>(floats.data()), rows, columns, columns, 1};
  if (int8::quantize_rows(m, codes.data(), scales.data())) return;
  const int8::code_matrix w{codes.data(), scales.data(), rows, columns};
  for (const auto p : paths())
    for (const std::uint64_t tokens : {std::uint64_t{1}, std::uint64_t{4}, std::uint64_t{16}}) {
      auto x = random_floats(tokens * columns);
      for (std::uint64_t t = 0; t < tokens; ++t) x[t * columns + 77] = 9;  // one outlier column
      std::vector<float> y(tokens * rows), activation_scales(tokens);
      std::vector<std::int8_t> activation_codes(tokens * columns);
      std::vector<std::uint32_t> outliers(columns);
      std::vector<std::int32_t> sums(tokens);
      const auto f32 = seconds([&] { floats_on(p, floats, rows, columns, x, tokens, y); });
      const auto w8a16 = seconds([&] { int8::multiply_weights(w, x.data(), tokens, nullptr, y.data(), p); });
      const auto both = seconds([&] {
        (void)int8::matmul(x.data(), tokens, w, int8::default_threshold, nullptr, y.data(),
                           {{activation_codes, activation_scales, outliers}, sums}, p);
      });
      std::printf("%-9s %-10llu %12.2f %12.2f (%4.2fx) %12.2f (%4.2fx)\n", std::string(int8::name_of(p)).c_str(),
                  static_cast<unsigned long long>(tokens), f32 * 1e3, w8a16 * 1e3, f32 / w8a16, both * 1e3, f32 / both);
    }
}

}  // namespace

int main() {
  std::printf("berth_bench_int8; %s; compiler %s; one thread, least of several runs\n\n", processor().c_str(),
              __VERSION__);
  quantising(4096, 4096);
  dequantising(4096, 4096);
  multiplying(14336, 4096);
}
