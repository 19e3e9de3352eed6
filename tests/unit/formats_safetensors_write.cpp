// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

import berth.formats;

namespace fs = std::filesystem;
using berth::dtype;
using berth::errc;
using berth::safetensors_writer;
using berth::tensor_outline;

namespace {

/// A folder of its own, gone after the test.
struct folder {
  fs::path path;
  folder() {
    std::string pattern = (fs::temp_directory_path() / "berth-test-XXXXXX").string();
    path = mkdtemp(pattern.data());
  }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;
  ~folder() {
    std::error_code e;
    fs::remove_all(path, e);
  }
  std::string at(const char* name) const { return (path / name).string(); }
  std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(path), fs::directory_iterator()));
  }
};

std::string content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<std::byte> random_bytes(std::size_t n, std::mt19937& random) {
  std::vector<std::byte> out(n);
  for (auto& b : out) b = static_cast<std::byte>(random() & 0xff);
  return out;
}

const std::vector<tensor_outline> outlines{{"codes", dtype::i8, {3, 5}}, {"format", dtype::u8, {}},
                                           {"b", dtype::f16, {2, 2}},    {"a", dtype::bf16, {7}},
                                           {"scales", dtype::f32, {3}},  {"empty", dtype::i64, {0, 4}}};

}  // namespace

BOOST_AUTO_TEST_SUITE(safetensors_write)

BOOST_AUTO_TEST_CASE(what_is_written_in_pieces_and_any_order_is_read_back) {
  const auto seed = std::random_device{}();
  BOOST_TEST_MESSAGE("seed " << seed);
  std::mt19937 random(seed);
  const folder f;
  const auto path = f.at("model.safetensors");
  const std::vector<std::pair<std::string, std::string>> metadata{{"format", "pt"}};
  std::vector<std::vector<std::byte>> data;
  {
    auto w = safetensors_writer::create(path, outlines, metadata);
    BOOST_REQUIRE(w.has_value());
    BOOST_TEST(!fs::exists(path));
    for (const auto& t : outlines) data.push_back(random_bytes(*berth::size_of(t), random));
    for (std::size_t i = outlines.size(); i-- > 0;)
      for (std::size_t at = 0; at < data[i].size(); at += 4)
        BOOST_REQUIRE(w->write(i, at, std::span(data[i]).subspan(at, std::min<std::size_t>(4, data[i].size() - at))));
    BOOST_REQUIRE(w->finish());
    BOOST_TEST(w->file_size() == fs::file_size(path));
    BOOST_TEST((w->finish().error().code == errc::invalid_argument));
  }
  BOOST_TEST(f.entries() == 1u);
  const auto header = berth::read_safetensors_file(path);
  BOOST_REQUIRE(header.has_value());
  BOOST_TEST((header->metadata == metadata));
  const auto bytes = content(path);
  // Widest elements first, then by name, all of them aligned.
  const std::vector<std::string> order{"empty", "scales", "a", "b", "codes", "format"};
  BOOST_REQUIRE_EQUAL(header->tensors.size(), order.size());
  for (std::size_t k = 0; k < order.size(); ++k) {
    const auto& t = header->tensors[k];
    BOOST_TEST(t.name == order[k]);
    BOOST_TEST(t.offset % (berth::bits_of(t.type) / 8) == 0u);
    for (std::size_t i = 0; i < outlines.size(); ++i)
      if (outlines[i].name == t.name) {
        BOOST_TEST((t.shape == outlines[i].shape));
        BOOST_REQUIRE_EQUAL(t.length, data[i].size());
        BOOST_TEST(std::string_view(bytes).substr(t.offset, t.length) ==
                   std::string_view(reinterpret_cast<const char*>(data[i].data()), data[i].size()));
      }
  }
}

BOOST_AUTO_TEST_CASE(an_unfinished_file_leaves_nothing_and_the_old_one_as_it_was) {
  const folder f;
  const auto path = f.at("model.safetensors");
  std::ofstream(path) << "old";
  {
    auto w = safetensors_writer::create(path, outlines, {});
    BOOST_REQUIRE(w.has_value());
    const std::vector<std::byte> some(14);
    BOOST_REQUIRE(w->write(0, 1, some));
    const auto early = w->finish();
    BOOST_REQUIRE(!early);
    BOOST_TEST((early.error().code == errc::invalid_argument));
    auto moved = *std::move(w);
    BOOST_TEST(f.entries() == 2u);
  }
  BOOST_TEST(f.entries() == 1u);
  BOOST_TEST(content(path) == "old");
}

BOOST_AUTO_TEST_CASE(bytes_outside_a_tensor_are_refused) {
  const folder f;
  auto w = safetensors_writer::create(f.at("m"), outlines, {});
  BOOST_REQUIRE(w.has_value());
  const std::vector<std::byte> sixteen(16);
  BOOST_TEST((w->write(0, 0, sixteen).error().code == errc::invalid_argument));
  BOOST_TEST((w->write(0, 16, {}).error().code == errc::invalid_argument));
  BOOST_TEST((w->write(0, ~std::uint64_t{0}, sixteen).error().code == errc::invalid_argument));
  BOOST_TEST((w->write(outlines.size(), 0, {}).error().code == errc::invalid_argument));
}

BOOST_AUTO_TEST_CASE(headers_that_no_reader_takes_are_not_written) {
  const folder f;
  const auto code = [&](const std::vector<tensor_outline>& list) {
    const auto w = safetensors_writer::create(f.at("m"), list, {});
    return w ? errc{} : w.error().code;
  };
  BOOST_TEST((code({{"a", dtype::f32, {1}}, {"a", dtype::f16, {1}}}) == errc::invalid_argument));
  BOOST_TEST((code({{"", dtype::f32, {1}}}) == errc::invalid_argument));
  BOOST_TEST((code({{"__metadata__", dtype::f32, {1}}}) == errc::invalid_argument));
  BOOST_TEST((code({{"odd", dtype::f4, {3}}}) == errc::invalid_argument));
  BOOST_TEST((code({{"huge", dtype::f32, {1ull << 40, 1ull << 40}}}) == errc::overflow));
  BOOST_TEST((code({{"x", dtype::u8, {1ull << 62}}, {"y", dtype::u8, {1ull << 62}}}) == errc::overflow));
  BOOST_TEST(f.entries() == 0u);
}

BOOST_AUTO_TEST_CASE(a_folder_that_is_not_there_or_takes_nothing_is_an_error_that_names_the_file) {
  for (const char* path : {"/nonexistent/folder/model.safetensors", "/proc/model.safetensors"}) {
    const auto w = safetensors_writer::create(path, outlines, {});
    BOOST_REQUIRE(!w);
    BOOST_TEST((w.error().code == errc::unwritable));
    BOOST_TEST(w.error().subject.view() == path);
  }
  const folder f;
  // More than any disk has.
  const std::vector<tensor_outline> petabytes{{"x", dtype::u8, {1ull << 55}}};
  const auto w = safetensors_writer::create(f.at("m"), petabytes, {});
  BOOST_REQUIRE(!w);
  BOOST_TEST((w.error().code == errc::unwritable));
  BOOST_TEST(w.error().needed > (1ull << 55));
  BOOST_TEST(f.entries() == 0u);
}

BOOST_AUTO_TEST_CASE(shards_are_numbered_as_other_writers_do) {
  BOOST_TEST(berth::shard_name(0, 1) == "model.safetensors");
  BOOST_TEST(berth::shard_name(1, 7) == "model-00002-of-00007.safetensors");
  BOOST_TEST(berth::shard_name(99'999, 100'000) == "model-100000-of-100000.safetensors");
  const auto index = berth::json::parse(berth::write_index({{"b", "two"}, {"a", "one"}}, 12), "index");
  BOOST_REQUIRE(index.has_value());
  const auto read = berth::read_index(*index, "index");
  BOOST_REQUIRE(read.has_value());
  BOOST_TEST((read->total_size == 12));
  BOOST_TEST(read->entries[0].first == "a");
  BOOST_TEST(read->shards[read->entries[1].second] == "two");
}

BOOST_AUTO_TEST_SUITE_END()
