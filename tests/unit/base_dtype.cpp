// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <boost/test/unit_test.hpp>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

import berth.base;

using berth::dtype;

BOOST_AUTO_TEST_SUITE(dtypes)

BOOST_AUTO_TEST_CASE(the_table_is_in_the_order_of_the_enumeration) {
  for (std::size_t i = 0; i < berth::dtype_table.size(); ++i)
    BOOST_TEST(static_cast<std::size_t>(berth::dtype_table[i].type) == i);
  BOOST_TEST(static_cast<std::size_t>(dtype::u64) + 1 == berth::dtype_table.size());
}

BOOST_AUTO_TEST_CASE(every_spelling_leads_back_to_its_type) {
  for (const auto& i : berth::dtype_table) {
    BOOST_TEST((berth::dtype_from_safetensors(i.safetensors) == i.type), i.safetensors);
    BOOST_TEST((berth::dtype_from_torch(i.torch) == i.type), i.torch);
  }
}

BOOST_AUTO_TEST_CASE(torch_prefix_and_short_forms_are_understood) {
  BOOST_TEST((berth::dtype_from_torch("torch.bfloat16") == dtype::bf16));
  BOOST_TEST((berth::dtype_from_torch("bf16") == dtype::bf16));
  BOOST_TEST((berth::dtype_from_torch("half") == dtype::f16));
  BOOST_TEST((berth::dtype_from_torch("float") == dtype::f32));
  BOOST_TEST((berth::dtype_from_torch("double") == dtype::f64));
}

BOOST_AUTO_TEST_CASE(other_spellings_are_refused) {
  BOOST_TEST(!berth::dtype_from_torch(""));
  BOOST_TEST(!berth::dtype_from_torch("torch."));
  BOOST_TEST(!berth::dtype_from_torch("BF16"));
  BOOST_TEST(!berth::dtype_from_safetensors("bf16"));
  BOOST_TEST(!berth::dtype_from_safetensors(""));
}

BOOST_AUTO_TEST_CASE(only_floating_types_are_converted_on_loading) {
  for (auto t :
       {dtype::f4, dtype::f6_e2m3, dtype::f8_e4m3, dtype::f8_e8m0, dtype::f16, dtype::bf16, dtype::f32, dtype::f64})
    BOOST_TEST(berth::is_floating(t), berth::info_of(t).torch);
  for (auto t : {dtype::boolean, dtype::u8, dtype::i8, dtype::i64, dtype::u64, dtype::c64})
    BOOST_TEST(!berth::is_floating(t), berth::info_of(t).torch);
}

BOOST_AUTO_TEST_CASE(sub_byte_types_round_up_to_whole_bytes) {
  BOOST_TEST(*berth::storage_bytes(dtype::f4, 0) == 0u);
  BOOST_TEST(*berth::storage_bytes(dtype::f4, 1) == 1u);
  BOOST_TEST(*berth::storage_bytes(dtype::f4, 2) == 1u);
  BOOST_TEST(*berth::storage_bytes(dtype::f6_e2m3, 4) == 3u);
  BOOST_TEST(*berth::storage_bytes(dtype::f6_e2m3, 5) == 4u);
  BOOST_TEST(*berth::storage_bytes(dtype::bf16, 3) == 6u);
  BOOST_TEST(!berth::storage_bytes(dtype::f64, berth::max_bytes / 8));
}

BOOST_AUTO_TEST_CASE(element_counts_know_scalars_empty_shapes_and_overflow) {
  using shape = std::vector<std::uint64_t>;
  constexpr auto huge = std::numeric_limits<std::uint64_t>::max();
  BOOST_TEST(*berth::element_count(shape{}) == 1u);
  BOOST_TEST(*berth::element_count(shape{4096, 32000}) == 131'072'000u);
  BOOST_TEST(*berth::element_count(shape{3, 0, 5}) == 0u);
  BOOST_TEST(!berth::element_count(shape{berth::max_bytes, 2}));
  BOOST_TEST(!berth::element_count(shape{huge}));
  BOOST_TEST(*berth::element_count(shape{0, huge, huge}) == 0u);
}

BOOST_AUTO_TEST_SUITE_END()
