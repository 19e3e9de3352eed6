// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

import berth.formats;

namespace fs = std::filesystem;
using berth::checkpoint_source;
using berth::errc;

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
    fs::permissions(path, fs::perms::owner_all, e);
    fs::remove_all(path, e);
  }
  void write(const fs::path& name, std::string_view content) const {
    fs::create_directories((path / name).parent_path());
    std::ofstream(path / name, std::ios::binary) << content;
  }
};

using tensors = std::vector<std::pair<std::string, std::uint64_t>>;  // name, bytes

std::string safetensors(const tensors& list) {
  std::string header = "{";
  std::uint64_t at = 0;
  for (const auto& [name, n] : list) {
    if (at > 0 || header.size() > 1) header += ",";
    header += "\"" + name + "\":{\"dtype\":\"U8\",\"shape\":[" + std::to_string(n) + "],\"data_offsets\":[" +
              std::to_string(at) + "," + std::to_string(at + n) + "]}";
    at += n;
  }
  header += "}";
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(std::uint64_t{header.size()} >> (8 * i) & 0xff);
  return out.append(header).append(at, '\0');
}

std::string index(const std::vector<std::pair<std::string, std::string>>& map, std::string_view total = "12") {
  std::string out = "{\"metadata\":{\"total_size\":" + std::string(total) + "},\"weight_map\":{";
  for (const auto& [tensor, shard] : map) out += (out.back() == '{' ? "\"" : ",\"") + tensor + "\":\"" + shard + "\"";
  return out + "}}";
}

constexpr std::string_view config = R"({"model_type":"llama","limit":[0.0,Infinity]})";

berth::error refusal(const fs::path& path) {
  const auto r = berth::read_checkpoint(path.string());
  BOOST_REQUIRE(!r.has_value());
  BOOST_TEST(!r.error().detail.empty());
  return r.error();
}

bool says(const berth::error& e, std::string_view words) {
  return e.detail.view().find(words) != std::string_view::npos;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(checkpoints)

BOOST_AUTO_TEST_CASE(shards_are_read_through_their_index) {
  const folder f;
  f.write("config.json", config);
  f.write("model-00001-of-00002.safetensors", safetensors({{"a", 4}, {"b", 2}}));
  f.write("model-00002-of-00002.safetensors", safetensors({{"c", 6}}));
  f.write("model.safetensors.index.json", index({{"a", "model-00001-of-00002.safetensors"},
                                                 {"b", "model-00001-of-00002.safetensors"},
                                                 {"c", "model-00002-of-00002.safetensors"}}));
  std::vector<std::string> read;
  const auto r =
      berth::read_checkpoint(f.path.string(), {.progress = [&](std::size_t, std::size_t of, std::string_view name) {
                               BOOST_TEST(of == 2u);
                               read.emplace_back(name);
                             }});
  BOOST_REQUIRE(r.has_value());
  BOOST_TEST((r->source == checkpoint_source::safetensors_headers));
  BOOST_TEST(r->tensors.size() == 3u);
  BOOST_TEST(r->stored_bytes() == 12u);
  BOOST_TEST(r->index_total_size.value_or(0) == 12u);
  BOOST_TEST(r->files[r->tensors[2].file].name == "model-00002-of-00002.safetensors");
  BOOST_TEST(r->config.has_value());
  BOOST_TEST(read.size() == 2u);
  BOOST_TEST(r->warnings.empty());
}

BOOST_AUTO_TEST_CASE(a_missing_shard_is_named) {
  const folder f;
  f.write("model-00001-of-00002.safetensors", safetensors({{"a", 4}}));
  f.write("model.safetensors.index.json",
          index({{"a", "model-00001-of-00002.safetensors"}, {"c", "model-00002-of-00002.safetensors"}}));
  const auto e = refusal(f.path);
  BOOST_TEST((e.code == errc::not_found));
  BOOST_TEST(e.subject.view().find("model-00002-of-00002") != std::string_view::npos);
}

BOOST_AUTO_TEST_CASE(an_index_without_any_shard_gives_names) {
  const folder f;
  f.write("config.json", config);
  f.write("model.safetensors.index.json", index({{"a", "x-00001-of-00001.safetensors"}}, "10.0"));
  const auto r = berth::read_checkpoint(f.path.string());
  BOOST_REQUIRE(r.has_value());
  BOOST_TEST((r->source == checkpoint_source::safetensors_index));
  BOOST_TEST(r->names.size() == 1u);
  BOOST_TEST(!r->files[0].present);
  BOOST_TEST(r->index_total_size.value_or(0) == 10u);
}

BOOST_AUTO_TEST_CASE(pickled_shards_are_never_opened) {
  const folder f;
  f.write("pytorch_model-00001-of-00001.bin", "not a pickle");
  f.write("pytorch_model.bin.index.json", index({{"a", "pytorch_model-00001-of-00001.bin"}}));
  const auto r = berth::read_checkpoint(f.path.string());
  BOOST_REQUIRE(r.has_value());
  BOOST_TEST((r->source == checkpoint_source::bin_index));
  BOOST_TEST(r->tensors.empty());
  BOOST_TEST((refusal(f.path / "pytorch_model-00001-of-00001.bin").code == errc::unsupported));
}

BOOST_AUTO_TEST_CASE(safetensors_win_over_pickled_files_and_are_not_added) {
  const folder f;
  f.write("model.safetensors", safetensors({{"a", 4}}));
  f.write("pytorch_model.bin.index.json", index({{"a", "pytorch_model-00001-of-00001.bin"}}));
  const auto r = berth::read_checkpoint(f.path.string());
  BOOST_REQUIRE(r.has_value());
  BOOST_TEST(r->stored_bytes() == 4u);
  BOOST_TEST(r->files.size() == 1u);
  BOOST_TEST(r->warnings.size() == 1u);
}

BOOST_AUTO_TEST_CASE(index_and_headers_must_agree) {
  const folder f;
  f.write("s.safetensors", safetensors({{"a", 4}, {"extra", 1}}));
  f.write("model.safetensors.index.json", index({{"a", "s.safetensors"}}));
  const auto r = berth::read_checkpoint(f.path.string());
  BOOST_REQUIRE(r.has_value());
  BOOST_TEST(r->tensors.size() == 1u);
  BOOST_TEST(r->warnings.size() == 1u);
  f.write("model.safetensors.index.json", index({{"a", "s.safetensors"}, {"gone", "s.safetensors"}}));
  const auto e = refusal(f.path);
  BOOST_TEST((e.code == errc::inconsistent_model));
  BOOST_TEST(says(e, "gone"));
}

BOOST_AUTO_TEST_CASE(copies_in_two_shards_need_an_index) {
  const folder f;
  f.write("m-00001-of-00002.safetensors", safetensors({{"a", 4}}));
  f.write("m-00002-of-00002.safetensors", safetensors({{"a", 4}, {"b", 1}}));
  BOOST_TEST((refusal(f.path).code == errc::inconsistent_model));
  f.write("model.safetensors.index.json",
          index({{"a", "m-00002-of-00002.safetensors"}, {"b", "m-00002-of-00002.safetensors"}}));
  const auto r = berth::read_checkpoint(f.path.string());
  BOOST_REQUIRE(r.has_value());
  BOOST_TEST(r->tensors.size() == 2u);
}

BOOST_AUTO_TEST_CASE(an_incomplete_set_of_shards_without_index_is_refused) {
  const folder f;
  f.write("m-00001-of-00003.safetensors", safetensors({{"a", 4}}));
  f.write("m-00002-of-00003.safetensors", safetensors({{"b", 4}}));
  BOOST_TEST((refusal(f.path).code == errc::not_found));
}

BOOST_AUTO_TEST_CASE(an_index_cannot_point_outside_its_folder) {
  for (const auto* name : {"../x.safetensors", "/etc/passwd", "a\\\\b.safetensors", "C:x.safetensors", "..", "",
                           "a\\u0000b.safetensors", "sub/x.safetensors"}) {
    const folder f;
    f.write("model.safetensors.index.json", index({{"a", name}}));
    BOOST_TEST((refusal(f.path).code == errc::unsafe_path), name);
  }
}

BOOST_AUTO_TEST_CASE(broken_index_files_are_refused) {
  for (const auto* text :
       {"", "{}", "[]", R"({"weight_map":{}})", R"({"weight_map":[1]})", R"({"weight_map":{"a":1}})",
        R"({"weight_map":{"a":"x","a":"y"}})", R"({"weight_map":{"a":"x"}} {})", "../../blobs/0123456789\n",
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"}) {
    const folder f;
    f.write("model.safetensors.index.json", text);
    BOOST_TEST((refusal(f.path).code == errc::malformed), text);
  }
  const folder deep;
  deep.write("model.safetensors.index.json", std::string(100000, '['));
  BOOST_TEST((refusal(deep.path).code == errc::malformed));
}

BOOST_AUTO_TEST_CASE(totals_are_hints) {
  for (const auto* total : {"0", "-5", "\"many\"", "0.5", "1e300", "null"}) {
    const folder f;
    f.write("model.safetensors.index.json", index({{"a", "x"}}, total));
    const auto r = berth::read_checkpoint(f.path.string());
    BOOST_REQUIRE_MESSAGE(r.has_value(), total);
    BOOST_TEST(r->index_total_size.value_or(0) == 0u);
  }
}

BOOST_AUTO_TEST_CASE(a_hub_cache_is_followed_and_reported_by_logical_names) {
  const folder f;
  const fs::path model = "models--org--name";
  f.write(model / "blobs" / "aa", safetensors({{"a", 4}}));
  f.write(model / "blobs" / "bb", config);
  f.write(model / "refs" / "main", "rev1\n");
  const auto snapshot = f.path / model / "snapshots" / "rev1";
  fs::create_directories(snapshot);
  fs::create_directories(f.path / model / "snapshots" / "rev0");
  fs::create_symlink("../../blobs/aa", snapshot / "model.safetensors");
  fs::create_symlink("../../blobs/bb", snapshot / "config.json");
  for (const auto& path : {f.path / model, snapshot}) {
    const auto r = berth::read_checkpoint(path.string());
    BOOST_REQUIRE(r.has_value());
    BOOST_TEST(r->files[0].name == "model.safetensors");
    BOOST_TEST(r->stored_bytes() == 4u);
    BOOST_TEST(r->config.has_value());
  }
  fs::remove(f.path / model / "blobs" / "aa");
  const auto e = refusal(f.path / model);
  BOOST_TEST((e.code == errc::not_found));
  BOOST_TEST(says(e, "symbolic link"));
  fs::remove(f.path / model / "refs" / "main");
  BOOST_TEST(says(refusal(f.path / model), "several snapshots"));
}

BOOST_AUTO_TEST_CASE(single_files_are_read) {
  const folder f;
  f.write("x.safetensors", safetensors({{"a", 4}}));
  const auto one = berth::read_checkpoint((f.path / "x.safetensors").string());
  BOOST_REQUIRE(one.has_value());
  BOOST_TEST(one->tensors.size() == 1u);
  BOOST_TEST(!one->config.has_value());
  f.write("config.json", config);
  const auto bare = berth::read_checkpoint((f.path / "config.json").string());
  BOOST_REQUIRE(bare.has_value());
  BOOST_TEST((bare->source == checkpoint_source::config_only));
  BOOST_TEST(bare->tensors.empty());
}

BOOST_AUTO_TEST_CASE(quantization_beside_the_config_is_read) {
  const folder f;
  f.write("config.json", config);
  f.write("hf_quant_config.json", R"({"quantization":{"quant_algo":"NVFP4"}})");
  const auto r = berth::read_checkpoint(f.path.string());
  BOOST_REQUIRE(r.has_value());
  BOOST_TEST(r->quantization_document.has_value());
}

BOOST_AUTO_TEST_CASE(folders_without_a_checkpoint_say_what_is_missing) {
  const folder f;
  BOOST_TEST(says(refusal(f.path), "empty"));
  f.write("readme.txt", "x");
  BOOST_TEST((refusal(f.path).code == errc::not_found));
  BOOST_TEST((refusal(f.path / "nothing").code == errc::not_found));
  f.write("model.gguf", "GGUF");
  BOOST_TEST((refusal(f.path).code == errc::unsupported));
  f.write("config.json", "[1]");
  BOOST_TEST((refusal(f.path).code == errc::malformed));
}

BOOST_AUTO_TEST_CASE(empty_shards_and_pointers_are_told_apart) {
  const folder f;
  f.write("model.safetensors", "");
  BOOST_TEST(says(refusal(f.path), "empty"));
  f.write("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n");
  BOOST_TEST(says(refusal(f.path), "git-LFS"));
}

BOOST_AUTO_TEST_CASE(an_unreadable_folder_is_told) {
  const folder f;
  f.write("inner/config.json", config);
  fs::permissions(f.path / "inner", fs::perms::none);
  const auto e = berth::read_checkpoint((f.path / "inner").string());
  fs::permissions(f.path / "inner", fs::perms::owner_all);
  if (geteuid() != 0) {
    BOOST_REQUIRE(!e.has_value());
    BOOST_TEST((e.error().code == errc::unreadable));
  }
  // A pipe must not be waited for.
  BOOST_REQUIRE(mkfifo((f.path / "model.safetensors").c_str(), 0600) == 0);
  BOOST_TEST((refusal(f.path / "model.safetensors").code == errc::unreadable));
}

BOOST_AUTO_TEST_SUITE_END()
