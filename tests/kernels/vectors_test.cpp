// SPDX-License-Identifier: Apache-2.0
// The stored LLM.int8 vectors (int8_vectors.json of the golden data); skipped without them.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "device_memory.hpp"
#include "numbers.hpp"

import berth.formats;

namespace {

using berth::json::value;

std::string stored_text() {
  const char* data = std::getenv("BERTH_DATA");
  if (data == nullptr) return {};
  std::ifstream file(std::string(data) + "/golden/int8_vectors.json", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

const value& member(const value& v, std::string_view key) {
  const auto* found = v.find(key);
  BOOST_REQUIRE_MESSAGE(found != nullptr, "no member " << key);
  return *found;
}
double number(const value& v) {
  const auto n = v.to_double();
  BOOST_REQUIRE(n.has_value());
  return *n;
}
/// Rows of a matrix after one another.
std::vector<double> flat(const value& v) {
  std::vector<double> out;
  if (v.is_null()) return out;
  if (const auto* list = v.if_array()) {
    for (const auto& item : *list) {
      const auto inner = flat(item);
      out.insert(out.end(), inner.begin(), inner.end());
    }
    return out;
  }
  return {number(v)};
}
std::vector<std::uint8_t> bytes_of(const value& hex) {
  const auto& s = *hex.if_string();
  std::vector<std::uint8_t> out;
  for (std::size_t i = 0; i + 1 < s.size(); i += 2)
    out.push_back(static_cast<std::uint8_t>(std::stoi(s.substr(i, 2), nullptr, 16)));
  return out;
}
int type_of(const value& name) {
  const auto& s = *name.if_string();
  return s == "float32" ? BERTH_CUDA_F32 : s == "float16" ? BERTH_CUDA_F16 : BERTH_CUDA_BF16;
}

struct on_device {
  std::uint64_t rows, columns;
  device::array<std::int8_t> codes;
  device::array<float> scales;
  on_device(std::uint64_t r, std::uint64_t c) : rows(r), columns(c), codes(r * c), scales(r) {}
};

void check_weights(const value& v, const on_device& w) {
  const device::array<std::uint8_t> raw(bytes_of(member(v, "w_hex")));
  const device::host_word bad(0xffffffffu);
  BOOST_REQUIRE_EQUAL(berth_cuda_quantize(w.rows, w.columns, type_of(member(v, "w_dtype")), raw.at(), w.columns, 1,
                                          w.codes.typed(), w.scales.typed(), bad.at(), nullptr),
                      0);
  BOOST_TEST(bad.value() == 0xffffffffu);
  const auto codes = w.codes.values();
  const auto scales = w.scales.values();
  BOOST_TEST(flat(member(v, "CB")) == std::vector<double>(codes.begin(), codes.end()),
             boost::test_tools::per_element());
  BOOST_TEST(flat(member(v, "SCB")) == std::vector<double>(scales.begin(), scales.end()),
             boost::test_tools::per_element());
  const device::array<float> numbers(w.rows * w.columns);
  BOOST_REQUIRE_EQUAL(berth_cuda_dequantize(w.rows, w.columns, w.codes.typed(), w.scales.typed(), BERTH_CUDA_F32,
                                            numbers.at(), nullptr),
                      0);
  const auto want = flat(member(v, "dequantized"));
  const auto got = numbers.values();
  for (std::size_t i = 0; i < want.size(); ++i) BOOST_TEST(std::fabs(got[i] - want[i]) <= 1.5e-7 * std::fabs(want[i]));
}

void check_product(const value& v, const value& m, const on_device& w) {
  const auto shape = flat(member(v, "a_shape"));
  const auto tokens = static_cast<std::uint64_t>(shape[0]);
  const device::array<std::uint8_t> inputs(bytes_of(member(v, "a_hex")));
  const device::array<std::byte> work(berth_cuda_product_int8_workspace(tokens, w.columns));
  const device::array<float> full(tokens * w.rows);
  const device::array<numbers::f16> half(tokens * w.rows);
  const auto threshold = static_cast<float>(number(member(m, "threshold")));
  const auto run = [&](int type, void* to) {
    return berth_cuda_product_int8(w.rows, w.columns, w.codes.typed(), w.scales.typed(), tokens, threshold,
                                   type_of(member(v, "a_dtype")), inputs.at(), type, to, work.at(), nullptr);
  };
  BOOST_REQUIRE_EQUAL(run(BERTH_CUDA_F32, full.at()), 0);
  BOOST_REQUIRE_EQUAL(run(BERTH_CUDA_F16, half.at()), 0);
  const auto want = flat(member(m, "out"));
  const auto got = full.values();
  const auto got_half = half.values();
  BOOST_REQUIRE_EQUAL(want.size(), got.size());
  for (std::uint64_t t = 0; t < tokens; ++t) {
    double most = 0;
    for (std::uint64_t r = 0; r < w.rows; ++r) most = std::max(most, std::fabs(want[t * w.rows + r]));
    for (std::uint64_t i = t * w.rows; i < (t + 1) * w.rows; ++i) {
      BOOST_TEST(std::fabs(got[i] - want[i]) <= 1e-5 * most);
      BOOST_TEST(std::fabs(numbers::type<numbers::f16>::read(got_half[i]) - want[i]) <= 2e-3 * most);
    }
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(vectors)

BOOST_AUTO_TEST_CASE(stored_vectors_are_quantized_and_multiplied_as_stored) {
  const auto text = stored_text();
  if (text.empty()) {
    BOOST_TEST_MESSAGE("skipped: BERTH_DATA has no golden/int8_vectors.json");
    return;
  }
  const auto document = berth::json::parse(text, "int8_vectors.json");
  BOOST_REQUIRE(document.has_value());
  const auto* list = member(*document, "vectors").if_array();
  BOOST_REQUIRE(list != nullptr);
  BOOST_TEST(list->size() > 0u);
  for (const auto& v : *list) BOOST_TEST_CONTEXT(*member(v, "name").if_string()) {
      const auto shape = flat(member(v, "w_shape"));
      const on_device w(static_cast<std::uint64_t>(shape[0]), static_cast<std::uint64_t>(shape[1]));
      check_weights(v, w);
      const auto* products = member(v, "matmul").if_array();
      BOOST_REQUIRE(products != nullptr);
      for (const auto& m : *products) check_product(v, m, w);
    }
}

BOOST_AUTO_TEST_SUITE_END()
