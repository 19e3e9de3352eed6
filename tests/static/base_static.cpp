// SPDX-License-Identifier: Apache-2.0
// berth.base in constant expressions: what planning at compile time stands on.
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <type_traits>

import berth.base;

namespace {

using berth::dtype;
using berth::errc;
using berth::result;
using berth::text;

// text
static_assert(std::is_trivially_copyable_v<text<16>>);
static_assert(text<8>("abc").view() == "abc");
static_assert(text<5>("abcdef").view() == "ab...");
static_assert(text<24>("n=").append(std::uint64_t{18446744073709551615u}).view() == "n=18446744073709551615");
static_assert(text<4>("a") < text<4>("b"));

// result
static_assert(std::is_trivially_copyable_v<berth::error>);
static_assert(!std::is_convertible_v<result<int>, bool>);
static_assert(!std::is_default_constructible_v<result<int>>);
constexpr result<int> half(int n) {
  if (n % 2 != 0) return berth::fail(errc::invalid_argument, "n", "odd");
  return n / 2;
}
static_assert(half(8).and_then(half).value_or(-1) == 2);
static_assert(half(6).and_then(half).error().code == errc::invalid_argument);
static_assert(half(3).transform([](int n) { return n + 0.5; }).error().detail.view() == "odd");
static_assert(*half(8).transform([](int n) { return n + 0.5; }) == 4.5);

// Error codes are stored in files and logs: their numbers stay.
static_assert(static_cast<int>(errc::invalid_argument) == 100);
static_assert(static_cast<int>(errc::not_found) == 200);
static_assert(static_cast<int>(errc::unknown_architecture) == 300);
static_assert(static_cast<int>(errc::unknown_device) == 400);
static_assert(static_cast<int>(errc::does_not_fit) == 500);
static_assert(name_of(errc::unsafe_path) == "unsafe_path");

// units
static_assert(*berth::checked_mul(berth::GiB, 4) == 4 * berth::GiB);
static_assert(!berth::checked_mul(berth::max_bytes, 2));
static_assert(!berth::checked_add(berth::max_bytes, 1));
static_assert(berth::round_up(257, 256) == 512);

// dtype
constexpr bool table_is_in_order() {
  for (std::size_t i = 0; i < berth::dtype_table.size(); ++i)
    if (static_cast<std::size_t>(berth::dtype_table[i].type) != i) return false;
  return true;
}
static_assert(table_is_in_order());
static_assert(berth::bits_of(dtype::bf16) == 16);
static_assert(berth::dtype_from_safetensors("F8_E4M3") == dtype::f8_e4m3);
static_assert(berth::dtype_from_torch("torch.float16") == dtype::f16);
static_assert(berth::storage_bytes(dtype::f4, 3) == std::uint64_t{2});
static_assert(berth::element_count(std::array<std::uint64_t, 2>{4096, 32000}) == std::uint64_t{131'072'000});
static_assert(!berth::element_count(std::array<std::uint64_t, 2>{std::numeric_limits<std::uint64_t>::max(), 2}));

}  // namespace
