// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

import berth.formats;

using berth::safetensors_fault;

namespace {

std::string file_with(std::string_view header, std::size_t data, std::optional<std::uint64_t> length = {}) {
  std::string out;
  const auto n = length.value_or(header.size());
  for (int i = 0; i < 8; ++i) out += static_cast<char>(n >> (8 * i) & 0xff);
  return out.append(header).append(data, '\0');
}

berth::result<berth::safetensors_header> read(std::string_view file) {
  return berth::read_safetensors(std::as_bytes(std::span(file)), file.size(), "test");
}

std::optional<safetensors_fault> fault(std::string_view file) {
  const auto r = read(file);
  return r ? std::nullopt : berth::fault_of(r.error());
}

std::string name(std::optional<safetensors_fault> f) { return std::string(f ? berth::name_of(*f) : "accepted"); }

}  // namespace

BOOST_AUTO_TEST_SUITE(safetensors)

BOOST_AUTO_TEST_CASE(gives_offsets_from_the_start_of_the_file) {
  const std::string header =
      R"({"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
      R"("empty":{"dtype":"I64","shape":[0,7],"data_offsets":[16,16]},"__metadata__":{"format":"pt"}})";
  const auto r = read(file_with(header, 16));
  BOOST_REQUIRE(r.has_value());
  BOOST_REQUIRE_EQUAL(r->tensors.size(), 3u);
  BOOST_TEST(r->tensors[0].name == "a");
  BOOST_TEST(r->tensors[0].offset == 8 + header.size());
  BOOST_TEST(r->tensors[0].length == 4u);
  BOOST_TEST(r->tensors[1].name == "b");
  BOOST_TEST(r->tensors[1].offset == 12 + header.size());
  BOOST_TEST(r->tensors[1].length == 12u);
  BOOST_TEST(r->tensors[2].length == 0u);
  BOOST_REQUIRE_EQUAL(r->metadata.size(), 1u);
  BOOST_TEST(r->metadata[0].first == "format");
}

BOOST_AUTO_TEST_CASE(a_header_length_that_wraps_around_is_refused) {
  BOOST_TEST(name(fault(file_with("{}", 0, std::uint64_t{1} << 63))) == "HeaderTooLarge");
  BOOST_TEST(name(fault(file_with("{}", 0, UINT64_MAX - 7))) == "HeaderTooLarge");
  BOOST_TEST(name(fault(file_with("{}", 0, 100'000'000))) == "InvalidHeaderLength");
  BOOST_TEST(name(fault(file_with("{}", 0, 3))) == "InvalidHeaderLength");
}

BOOST_AUTO_TEST_CASE(a_truncated_file_says_so) {
  const std::string header = R"({"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}})";
  const auto whole = file_with(header, 9);
  BOOST_TEST(name(fault(whole)) == "accepted");
  BOOST_TEST(name(fault(whole.substr(0, whole.size() - 1))) == "MetadataIncompleteBuffer");
  BOOST_TEST(name(fault(whole + "x")) == "MetadataIncompleteBuffer");
  BOOST_TEST(name(fault(whole.substr(0, 30))) == "InvalidHeaderLength");
  BOOST_TEST(name(fault(whole.substr(0, 7))) == "HeaderTooSmall");
  BOOST_TEST(name(fault("")) == "HeaderTooSmall");
}

BOOST_AUTO_TEST_CASE(holes_and_overlaps_are_refused) {
  const auto two = [](int begin) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[)" +
           std::to_string(begin) + "," + std::to_string(begin + 4) + "]}}";
  };
  BOOST_TEST(name(fault(file_with(two(4), 8))) == "accepted");
  BOOST_TEST(name(fault(file_with(two(5), 9))) == "InvalidOffset");
  BOOST_TEST(name(fault(file_with(two(3), 7))) == "InvalidOffset");
}

BOOST_AUTO_TEST_CASE(duplicate_keys_are_refused) {
  const std::string one = R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  BOOST_TEST(name(fault(file_with("{" + one + "," + one + "}", 4))) == "DuplicateKey");
  BOOST_TEST(name(fault(file_with(R"({"a":{"dtype":"U8","dtype":"I8","shape":[4],"data_offsets":[0,4]}})", 4))) ==
             "DuplicateKey");
}

BOOST_AUTO_TEST_CASE(only_json_of_three_levels_and_integers_is_a_header) {
  BOOST_TEST(name(fault(file_with(R"({"a":{"dtype":"U8","shape":[[4]],"data_offsets":[0,4]}})", 4))) ==
             "InvalidHeaderDeserialization");
  BOOST_TEST(name(fault(file_with(std::string(5000, '['), 0))) == "InvalidHeaderDeserialization");
  BOOST_TEST(name(fault(file_with(R"({"a":{"dtype":"U8","shape":[4.0],"data_offsets":[0,4]}})", 4))) ==
             "InvalidHeaderDeserialization");
  BOOST_TEST(name(fault(file_with(R"({"a":{"dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,4]}})", 4))) ==
             "InvalidHeaderDeserialization");
  BOOST_TEST(name(fault(file_with(R"({"a":{"dtype":"U8","shape":[4]}})", 4))) == "InvalidHeaderDeserialization");
  BOOST_TEST(name(fault(file_with("[]", 0))) == "InvalidHeaderDeserialization");
  BOOST_TEST(name(fault(file_with("{\"\xc0\x80\":1}", 0))) == "InvalidHeader");
}

BOOST_AUTO_TEST_CASE(sizes_that_overflow_are_refused_even_beside_a_zero) {
  BOOST_TEST(name(fault(file_with(R"({"a":{"dtype":"U8","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}})",
                                  0))) == "ValidationOverflow");
  BOOST_TEST(name(fault(file_with(R"({"a":{"dtype":"F64","shape":[1152921504606846976],"data_offsets":[0,0]}})", 0))) ==
             "ValidationOverflow");
}

BOOST_AUTO_TEST_CASE(unknown_members_are_told_not_refused) {
  const auto r = read(file_with(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"note":"x"}})", 1));
  BOOST_REQUIRE(r.has_value());
  BOOST_TEST(r->warnings.size() == 1u);
}

BOOST_AUTO_TEST_CASE(an_lfs_pointer_is_recognised) {
  const auto r = read("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n");
  BOOST_REQUIRE(!r.has_value());
  BOOST_TEST(r.error().detail.view().find("git-LFS") != std::string_view::npos);
}

BOOST_AUTO_TEST_SUITE_END()
