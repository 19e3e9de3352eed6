// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>

#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime_support.hpp"

using namespace runtime_test;
using berth::dtype;

namespace {

constexpr std::uint64_t seed = 99;
const exec_test::seat_names g0{"0", "0"}, disk{"disk", "0"};

prepared must(berth::result<prepared> p) {
  BOOST_TEST_REQUIRE(bool(p), (p ? "" : say(p.error())));
  return std::move(*p);
}
std::string text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
std::vector<std::string> names_in(const fs::path& at) {
  std::vector<std::string> out;
  for (const auto& e : fs::directory_iterator(at)) out.push_back(e.path().filename().string());
  std::sort(out.begin(), out.end());
  return out;
}
std::vector<std::uint32_t> all_atoms(const prepared& p) {
  std::vector<std::uint32_t> out(p.images.atoms());
  std::iota(out.begin(), out.end(), 0u);
  return out;
}
wish how(bool int8, std::optional<dtype> load, berth::granularity parts = berth::granularity::blocks) {
  wish w;
  w.how.int8 = int8;
  w.how.load = load;
  w.parts = parts;
  return w;
}

}  // namespace

BOOST_AUTO_TEST_CASE(an_offload_folder_holds_what_the_images_hold) {
  BOOST_TEST_MESSAGE("seed " << seed);
  std::uint64_t n = 0;
  for (const auto f : families)
    for (const auto& w :
         {how(true, std::nullopt), how(false, dtype::f32), how(false, dtype::f16, berth::granularity::experts)}) {
      const auto c = make_checkpoint(f, n % 2 == 0, dtype::bf16, 2, seed + n);
      ++n;
      const auto p = must(prepare(c.at.path, w, {disk}));
      const folder to;
      const auto path = (to.path / "deep" / "offload").string();
      berth::image_storage storage(p.images);
      const auto written = berth::offload_tensors(storage, all_atoms(p), {.folder = path});
      BOOST_TEST_REQUIRE(bool(written), (written ? "" : say(written.error())));
      const auto text = berth::write_offload_index(berth::offload_entries(*written, path));
      BOOST_TEST(bool(berth::replace_file(path + "/index.json", text)));
      BOOST_TEST(names_in(path).size() == written->tensors.size() + 1);

      // Adopted, and found again by a reader: both serve the same bytes, even without the checkpoint's files.
      const auto found = berth::read_offload_folder(path);
      BOOST_TEST_REQUIRE(bool(found), (found ? "" : say(found.error())));
      berth::image_storage again(p.images);
      BOOST_TEST_REQUIRE(bool(storage.adopt(*written)));
      const auto adopted = again.adopt(*found);
      BOOST_TEST_REQUIRE(bool(adopted), (adopted ? "" : say(adopted.error())));
      for (const auto* s : {&storage, &again})
        for (std::uint32_t i = 0; i < p.images.atoms(); ++i) {
          bytes_of_tensor read(static_cast<std::size_t>(p.images.size_of(i)));
          BOOST_TEST_REQUIRE(bool(s->read(i, 0, read)));
          BOOST_TEST((read == expected_image(c, p, i)), p.plan.atoms[i].name);
        }
      for (const auto& file : names_in(c.at.path))
        if (file.ends_with(".safetensors")) fs::remove(c.at.path / file);
      const berth::image_storage bare(p.images);
      berth::image_storage without(p.images);
      BOOST_TEST(bool(without.adopt(*written)));
      std::size_t served = 0;
      for (std::uint32_t i = 0; i < p.images.atoms(); ++i) {
        bytes_of_tensor read(static_cast<std::size_t>(p.images.size_of(i)));
        BOOST_TEST(bool(bare.read(i, 0, read)) == p.images.pieces_of(i).empty());
        if (without.read(i, 0, read)) ++served;
      }
      if (w.how.load) BOOST_TEST(served == p.images.atoms());  // every tensor was converted
    }
}

BOOST_AUTO_TEST_CASE(the_folder_is_as_accelerate_writes_it) {
  const auto c = make_checkpoint(family::llama, false, dtype::f32, 1, seed);
  const auto p = must(prepare(c.at.path, how(false, dtype::bf16), {disk}));
  const folder to;
  const auto path = to.path.string();
  const berth::image_storage storage(p.images);
  const std::vector<std::uint32_t> first{0};
  const auto written = berth::offload_tensors(storage, first, {.folder = path});
  BOOST_TEST_REQUIRE(bool(written));
  BOOST_TEST((names_in(path) == std::vector<std::string>{"model.embed_tokens.weight.dat"}));
  // Raw elements in C order, bfloat16 as its 16 bits, no header.
  const auto* t = p.model.tree().find_tensor("model.embed_tokens.weight");
  const auto wanted = expected(c, *t, {.type = dtype::bf16});
  BOOST_TEST(text_of(to.path / "model.embed_tokens.weight.dat") ==
             std::string(reinterpret_cast<const char*>(wanted.data()), wanted.size()));
  const auto ours = berth::json::parse(berth::write_offload_index(berth::offload_entries(*written, path)), "ours");
  const auto theirs =
      berth::json::parse(R"({"model.embed_tokens.weight": {"dtype": "bfloat16", "shape": [20, 16]}})", "theirs");
  BOOST_TEST_REQUIRE((ours && theirs));
  BOOST_TEST((*ours == *theirs), berth::json::write(*ours));
  const auto older = berth::read_offload_index(
      R"({"a": {"dtype": "float32", "shape": []}, "b": {"dtype": "int8", "shape": [1]}})", "older");
  BOOST_TEST_REQUIRE(bool(older));
  const std::vector<berth::offload_entry> newer{{"b", dtype::f16, std::vector<std::uint64_t>{2}, "", ""}};
  const auto merged = berth::read_offload_index(berth::write_offload_index(newer, *older), "merged");
  BOOST_TEST_REQUIRE(bool(merged));
  BOOST_TEST(merged->size() == 2u);
  BOOST_TEST((merged->front() == older->front()));
  BOOST_TEST((merged->back() == newer.front()));
}

BOOST_AUTO_TEST_CASE(complete_folders_name_what_lies_in_safetensors_files) {
  const auto c = make_checkpoint(family::mixtral, false, dtype::bf16, 3, seed);
  const auto p = must(prepare(c.at.path, {}, {disk}));
  for (const bool copy : {false, true}) {
    const folder to;
    const auto path = to.path.string();
    const berth::image_storage storage(p.images);
    const auto written =
        berth::offload_tensors(storage, all_atoms(p), {.folder = path, .complete = true, .copy = copy});
    BOOST_TEST_REQUIRE(bool(written), (written ? "" : say(written.error())));
    // Stacked experts are put together; everything else stays where it is.
    BOOST_TEST(names_in(path).size() == (copy ? written->tensors.size() : 2 * layers));
    BOOST_TEST(bool(
        berth::replace_file(path + "/index.json", berth::write_offload_index(berth::offload_entries(*written, path)))));
    const auto found = berth::read_offload_folder(path);
    BOOST_TEST_REQUIRE(bool(found), (found ? "" : say(found.error())));
    // Enough to load the model from.
    const auto images = berth::make_images(p.plan, p.model.tree(), p.model.sizes, {}, *found);
    BOOST_TEST_REQUIRE(bool(images), (images ? "" : say(images.error())));
    const berth::image_storage from(*images);
    for (std::uint32_t i = 0; i < images->atoms(); ++i) {
      bytes_of_tensor read(static_cast<std::size_t>(images->size_of(i)));
      BOOST_TEST_REQUIRE(bool(from.read(i, 0, read)));
      BOOST_TEST((read == expected_image(c, p, i)));
    }
  }
}

BOOST_AUTO_TEST_CASE(folders_of_accelerate_are_sources_of_tensors) {
  // What offload_state_dict writes for {"weight": 2x3 bf16, "scale": 0-d f32, "linked": in a safetensors file}.
  const folder at;
  plan_test::dice d(seed);
  const std::vector<stored> linked{{"inner.name", dtype::f16, {4}, draw(d, dtype::f16, 4)}};
  write_safetensors(at.path / "model.safetensors", linked);
  std::ofstream(at.path / "weight.dat", std::ios::binary)
      << std::string("\x80\x3f\x00\x40\x40\x40\x80\x40\xa0\x40\xc0\x40", 12);
  std::ofstream(at.path / "scale.dat", std::ios::binary) << std::string("\x00\x00\x80\x3f", 4);
  const auto index = [&](const std::string& more) {
    std::ofstream(at.path / "index.json")
        << R"({"weight": {"dtype": "bfloat16", "shape": [2, 3]}, "scale": {"dtype": "float32", "shape": []}, )"
        << R"("linked": {"safetensors_file": ")" << (at.path / "model.safetensors").string()
        << R"(", "weight_name": "inner.name", "dtype": "float16"})" << more << "}";
  };
  index("");
  const auto found = berth::read_offload_folder(at.path.string());
  BOOST_TEST_REQUIRE(bool(found), (found ? "" : say(found.error())));
  berth::tree_builder b("Model");
  b.parameter("weight", dtype::f32, {2, 3});
  b.parameter("scale", dtype::f32, {});
  b.parameter("linked", dtype::f16, {4});
  const auto tree = *b.finish();
  const auto sizes = berth::native_sizes(tree);
  const auto chain = berth::derive_model(tree, sizes);
  const auto p = berth::place_fn{exec_test::Told{{disk}}}(chain.view(), exec_test::machine(1), exec_test::options());
  BOOST_TEST_REQUIRE(bool(p), (p ? "" : say(p.error())));
  const auto images = berth::make_images(*p, tree, sizes, {}, *found);
  BOOST_TEST_REQUIRE(bool(images), (images ? "" : say(images.error())));
  const berth::image_storage storage(*images);
  std::size_t seen = 0;
  for (std::uint32_t i = 0; i < images->atoms(); ++i)
    for (const auto& t : images->of(i)) {
      bytes_of_tensor read(static_cast<std::size_t>(t.size));
      BOOST_TEST_REQUIRE(bool(storage.read(i, t.offset, read)));
      std::vector<float> values(read.size() / 4);
      std::memcpy(values.data(), read.data(), values.size() * 4);
      if (t.name == "weight") BOOST_TEST((values == std::vector<float>{1, 2, 3, 4, 5, 6}));
      if (t.name == "scale") BOOST_TEST((values == std::vector<float>{1}));
      if (t.name == "linked") BOOST_TEST((read == linked[0].data));
      ++seen;
    }
  BOOST_TEST(seen == 3u);
  for (const auto& [more, code] :
       {std::pair{R"(, "../out": {"dtype": "int8", "shape": [1]})", berth::errc::unsafe_path},
        {R"(, "gone": {"dtype": "int8", "shape": [1]})", berth::errc::not_found},
        {R"(, "x": {"dtype": "int7", "shape": [1]})", berth::errc::malformed},
        {R"(, "x": {"dtype": "int8"})", berth::errc::malformed},
        {R"(, "x": 3)", berth::errc::malformed}}) {
    index(more);
    const auto bad = berth::read_offload_folder(at.path.string());
    BOOST_TEST_REQUIRE(!bad, more);
    BOOST_TEST((bad.error().code == code), say(bad.error()));
  }
  index("");
  fs::resize_file(at.path / "weight.dat", 11);
  BOOST_TEST((berth::read_offload_folder(at.path.string()).error().code == berth::errc::malformed));
}

BOOST_AUTO_TEST_CASE(tensors_of_a_folder_replace_those_of_the_checkpoint) {
  const auto c = make_checkpoint(family::llama, false, dtype::bf16, 2, seed);
  const auto p = must(prepare(c.at.path, how(false, dtype::f32), {disk, g0}));
  const folder to;
  const berth::image_storage storage(p.images);
  const std::vector<std::uint32_t> some{0, 2};
  const auto written = berth::offload_tensors(storage, some, {.folder = to.path.string()});
  BOOST_TEST_REQUIRE(bool(written));
  const auto mixed = berth::override_sources(p.images.sources(), *written);
  const auto images = berth::make_images(p.plan, p.model.tree(), p.model.sizes, how(false, dtype::f32).how, mixed);
  BOOST_TEST_REQUIRE(bool(images), (images ? "" : say(images.error())));
  const berth::image_storage from(*images);
  for (std::uint32_t i = 0; i < images->atoms(); ++i) {
    bytes_of_tensor read(static_cast<std::size_t>(images->size_of(i)));
    BOOST_TEST_REQUIRE(bool(from.read(i, 0, read)));
    BOOST_TEST((read == expected_image(c, p, i)));
    if (images->pieces_of(i).empty()) continue;
    const bool plain = std::ranges::all_of(images->pieces_of(i), [](const auto& piece) { return piece.plain; });
    BOOST_TEST(plain == (i == 0 || i == 2));
  }
}

BOOST_AUTO_TEST_CASE(a_folder_of_another_precision_is_refused) {
  const auto c = make_checkpoint(family::llama, false, dtype::bf16, 1, seed);
  const auto wide_plan = must(prepare(c.at.path, how(false, dtype::f32), {disk}));
  const auto narrow_plan = must(prepare(c.at.path, how(false, dtype::f16), {disk}));
  const folder to;
  const berth::image_storage storage(wide_plan.images);
  const auto written = berth::offload_tensors(storage, all_atoms(wide_plan), {.folder = to.path.string()});
  BOOST_TEST_REQUIRE(bool(written));
  berth::image_storage other(narrow_plan.images);
  const auto ok = other.adopt(*written);
  BOOST_TEST_REQUIRE(!ok);
  BOOST_TEST((ok.error().code == berth::errc::inconsistent_model), say(ok.error()));
}

BOOST_AUTO_TEST_CASE(failed_writing_leaves_nothing_and_says_how_much_room_it_needs) {
  const auto c = make_checkpoint(family::llama, false, dtype::bf16, 1, seed);
  const auto p = must(prepare(c.at.path, how(false, dtype::f32), {disk}));
  const folder to;
  const berth::image_storage storage(p.images);
  // A file that may not grow is what a full disk is: the first tensors fit, a later one does not.
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  auto limited = before;
  limited.rlim_cur = 1300;
  const auto old = std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &limited);
  const auto written = berth::offload_tensors(storage, all_atoms(p), {.folder = to.path.string()});
  const auto replaced = berth::replace_file((to.path / "index.json").string(), std::string(2000, ' '));
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old);
  BOOST_TEST_REQUIRE(!written);
  BOOST_TEST((written.error().code == berth::errc::unwritable), say(written.error()));
  BOOST_TEST(written.error().needed > 1300u);
  BOOST_TEST((!replaced && replaced.error().code == berth::errc::unwritable));
  BOOST_TEST(names_in(to.path).empty());
  // The second attempt works.
  BOOST_TEST(bool(berth::offload_tensors(storage, all_atoms(p), {.folder = to.path.string()})));
  std::ofstream(to.path / "file") << "in the way";
  const auto blocked = berth::offload_tensors(storage, all_atoms(p), {.folder = (to.path / "file" / "x").string()});
  BOOST_TEST((!blocked && blocked.error().code == berth::errc::unwritable));
}
