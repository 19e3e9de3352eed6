// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "runtime_sha256.hpp"
#include "runtime_support.hpp"

using namespace runtime_test;
using berth::dtype;

namespace {

constexpr std::uint64_t seed = 4711;

const exec_test::seat_names g0{"0", "0"};

prepared must(berth::result<prepared> p) {
  BOOST_TEST_REQUIRE(bool(p), (p ? "" : say(p.error())));
  return std::move(*p);
}

wish int8() {
  wish w;
  w.how.int8 = true;
  return w;
}
wish to_f32(berth::granularity parts = berth::granularity::blocks) {
  wish w;
  w.how.load = dtype::f32;
  w.parts = parts;
  return w;
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_range_of_an_image_is_that_part_of_the_whole) {
  BOOST_TEST_MESSAGE("seed " << seed);
  plan_test::dice d(seed);
  for (const auto f : families)
    for (const auto& w : {wish{}, to_f32(), int8(), to_f32(berth::granularity::experts)}) {
      const auto c = make_checkpoint(f, false, dtype::bf16, 3, d.pick(0, 1'000'000));
      const auto p = must(prepare(c.at.path, w, {g0}));
      const berth::image_storage storage(p.images);
      for (std::uint32_t i = 0; i < p.images.atoms(); ++i) {
        const auto whole = expected_image(c, p, i);
        for (std::uint64_t n = 0; n < plan_test::cases(25); ++n) {
          const auto first = d.pick(0, whole.size());
          const auto size = d.one_in(3) ? d.pick(0, std::min<std::uint64_t>(9, whole.size() - first))
                                        : d.pick(0, whole.size() - first);
          bytes_of_tensor part(static_cast<std::size_t>(size), std::byte{0xee});
          BOOST_TEST_REQUIRE(bool(storage.read(i, first, part)));
          BOOST_TEST(std::equal(part.begin(), part.end(), whole.data() + first),
                     p.plan.atoms[i].name << " from " << first << ", " << size << " bytes");
        }
        bytes_of_tensor two(2);
        BOOST_TEST((storage.read(i, whole.size() - 1, two).error().code == berth::errc::invalid_argument));
      }
    }
}

BOOST_AUTO_TEST_CASE(large_tensors_are_transformed_in_parts_and_come_out_the_same) {
  // 3 MB each way round: several parts of a transform.
  plan_test::dice d(seed);
  berth::tree_builder b("Model");
  b.enter("linear", "Linear");
  b.parameter("weight", dtype::bf16, {1500, 1024});
  b.leave();
  b.enter("conv", "Conv1D");
  b.parameter("weight", dtype::bf16, {1024, 1500});
  b.leave();
  const auto tree = *b.finish();
  const folder at;
  checkpoint c;
  std::vector<stored> all{{"linear.weight", dtype::bf16, {1024, 1500}, draw(d, dtype::bf16, 1500 * 1024)},
                          {"conv.weight", dtype::bf16, {1024, 1500}, draw(d, dtype::bf16, 1500 * 1024)}};
  write_safetensors(at.path / "model.safetensors", all);
  const auto header = berth::read_safetensors_file((at.path / "model.safetensors").string());
  BOOST_TEST_REQUIRE(bool(header));
  berth::weight_sources sources{
      {(at.path / "model.safetensors").string()}, {header->file_size}, header->tensors, {}, {}};
  sources.conversions = {{"linear.weight", "linear.weight", {{0, 1500, 1}, {0, 1024, 1}}, true},
                         {"conv.weight", "conv.weight", {{0, 1024, 1}, {0, 1500, 1}}, false}};
  // The oracle takes tensors as they lie in the tree.
  stored turned{"linear.weight", dtype::bf16, {1500, 1024}, bytes_of_tensor(all[0].data.size())};
  for (std::size_t r = 0; r < 1500; ++r)
    for (std::size_t k = 0; k < 1024; ++k)
      std::memcpy(turned.data.data() + 2 * (r * 1024 + k), all[0].data.data() + 2 * (k * 1500 + r), 2);
  c.tensors = {{"linear.weight", turned}, {"conv.weight", all[1]}};
  berth::precision quantised;
  quantised.int8 = true;
  for (const auto& how : {berth::precision{}, to_f32().how, quantised}) {
    const auto stored_sizes = berth::native_sizes(tree);
    const auto chain = berth::derive_model(tree, *berth::apply_precision(tree, stored_sizes, how));
    const auto p = berth::place_fn{exec_test::Told{{g0}}}(chain.view(), exec_test::machine(1), exec_test::options());
    BOOST_TEST_REQUIRE(bool(p));
    const auto images = berth::make_images(*p, tree, stored_sizes, how, sources);
    BOOST_TEST_REQUIRE(bool(images), (images ? "" : say(images.error())));
    const berth::image_storage storage(*images);
    for (std::uint32_t i = 0; i < images->atoms(); ++i) {
      const auto& t = images->of(i).front();
      const auto wanted = expected(c, *tree.find_tensor(t.name), t.form);
      bytes_of_tensor read(static_cast<std::size_t>(images->size_of(i)));
      BOOST_TEST_REQUIRE(bool(storage.read(i, 0, read)));
      BOOST_TEST((read == wanted), t.name << " " << berth::words_of(how));
      bytes_of_tensor part(700'001);
      BOOST_TEST_REQUIRE(bool(storage.read(i, 123'457, part)));
      BOOST_TEST((std::memcmp(part.data(), wanted.data() + 123'457, part.size()) == 0), t.name);
    }
  }
}

BOOST_AUTO_TEST_CASE(threads_read_at_once_through_few_descriptors) {
  const auto c = make_checkpoint(family::mixtral, false, dtype::bf16, 7, seed);
  const auto p = must(prepare(c.at.path, to_f32(), {g0}));
  berth::image_storage storage(p.images, {.open_files = 1});
  const auto as = storage.as_storage();
  std::vector<bytes_of_tensor> whole;
  for (std::uint32_t i = 0; i < p.images.atoms(); ++i) whole.push_back(expected_image(c, p, i));
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      plan_test::dice d(seed + t);
      for (int n = 0; n < 100; ++n) {
        const auto i = static_cast<std::uint32_t>(d.pick(0, whole.size() - 1));
        const auto first = d.pick(0, whole[i].size() - 1);
        bytes_of_tensor part(static_cast<std::size_t>(d.pick(1, whole[i].size() - first)));
        const auto ok = as({i, first, part.size()}, part);
        if (!ok || !std::equal(part.begin(), part.end(), whole[i].data() + first)) ++wrong;
      }
    });
  for (auto& t : threads) t.join();
  BOOST_TEST(wrong == 0);
}

BOOST_AUTO_TEST_CASE(files_that_change_shrink_or_vanish_are_errors_that_name_them) {
  using berth::errc;
  const auto file = [](const checkpoint& c) { return c.at.path / "model.safetensors"; };
  const auto error_after = [&](auto change, bool before_first_read) {
    const auto c = make_checkpoint(family::llama, false, dtype::bf16, 1, seed);
    const auto p = must(prepare(c.at.path, {}, {g0}));
    const berth::image_storage storage(p.images);
    bytes_of_tensor read(static_cast<std::size_t>(p.images.size_of(1)));
    if (!before_first_read) BOOST_TEST(bool(storage.read(1, 0, read)));
    change(file(c));
    const auto ok = storage.read(1, 0, read);
    BOOST_TEST_REQUIRE(!ok);
    BOOST_TEST((ok.error().subject.view().find("model.safetensors") != std::string_view::npos));
    return ok.error();
  };
  const auto shrink = [](const fs::path& f) { fs::resize_file(f, 2000); };
  const auto touch = [](const fs::path& f) {
    std::fstream(f, std::ios::binary | std::ios::in | std::ios::out).seekp(3000).put('x');
    fs::last_write_time(f, fs::file_time_type::clock::now() + std::chrono::seconds(7));
  };
  for (const bool before : {true, false}) {
    const auto shrunk = error_after(shrink, before), touched = error_after(touch, before);
    BOOST_TEST((shrunk.code == errc::corrupted), say(shrunk));
    BOOST_TEST((touched.code == errc::corrupted), say(touched));
    BOOST_TEST((touched.detail.view().find("changed while it was read") != std::string_view::npos));
  }
  const auto gone = error_after([](const fs::path& f) { fs::remove(f); }, true);
  BOOST_TEST((gone.code == errc::not_found), say(gone));
}

BOOST_AUTO_TEST_CASE(rows_that_int8_cannot_hold_are_named) {
  for (const auto bad :
       std::array<std::uint16_t, 4>{0x7f80, 0x7fc1, 0xff80, 0x0040}) {  // infinity, NaN, -infinity, subnormal
    auto c = make_checkpoint(family::llama, false, dtype::bf16, 1, seed);
    std::vector<stored> all;
    for (const auto& [name, shape] : shapes_of(family::llama, false)) all.push_back(c.tensors.at(name));
    for (auto& t : all)
      if (t.name == "model.layers.1.mlp.up_proj.weight") {
        auto* row = t.data.data() + 5 * hidden * 2;
        std::memset(row, 0, hidden * 2);
        std::memcpy(row + 6, &bad, 2);
      }
    write_safetensors(c.at.path / "model.safetensors", all);
    const auto p = must(prepare(c.at.path, int8(), {g0}));
    const berth::image_storage storage(p.images);
    for (std::uint32_t i = 0; i < p.images.atoms(); ++i) {
      bytes_of_tensor read(static_cast<std::size_t>(p.images.size_of(i)));
      const auto ok = storage.read(i, 0, read);
      BOOST_TEST(bool(ok) == (p.plan.atoms[i].name != "model.layers.1"));
      if (ok) continue;
      BOOST_TEST(ok.error().subject.view() == "model.layers.1.mlp.up_proj.weight");
      BOOST_TEST((ok.error().detail.view().find("row 5 ") != std::string_view::npos), say(ok.error()));
    }
  }
}

BOOST_AUTO_TEST_CASE(codes_of_bitsandbytes_stay_as_they_are_stored) {
  const std::string target = "model.layers.0.mlp.up_proj.";
  const auto base = make_checkpoint(family::llama, false, dtype::f16, 1, seed);
  plan_test::dice d(seed);
  std::vector<stored> all;
  for (const auto& [name, shape] : shapes_of(family::llama, false)) {
    auto t = base.tensors.at(name);
    if (name == target + "weight") {
      t = {name, dtype::i8, {wide, hidden}, draw(d, dtype::i8, wide * hidden)};
      all.push_back({target + "SCB", dtype::f32, {wide}, draw(d, dtype::f32, wide)});
      all.push_back({target + "weight_format", dtype::u8, {}, draw(d, dtype::u8, 1)});
    }
    all.push_back(std::move(t));
  }
  const folder at;
  auto config = config_of(family::llama, false, "float16");
  config.insert(1, R"("quantization_config":{"quant_method":"bitsandbytes","load_in_8bit":true},)");
  write_checkpoint(at.path, config, all, 1);
  const auto named = [&](const std::string& name) -> const stored& {
    return *std::find_if(all.begin(), all.end(), [&](const auto& t) { return t.name == name; });
  };
  for (const bool again : {false, true}) {  // as it is; and as the int8 that the plan asks for
    const auto p = must(prepare(at.path, again ? int8() : wish{}, {g0}));
    const berth::image_storage storage(p.images);
    const berth::image_tensor* t = nullptr;
    std::uint32_t atom = 0;
    for (std::uint32_t i = 0; i < p.images.atoms() && t == nullptr; ++i) t = p.images.find(atom = i, target + "weight");
    BOOST_TEST_REQUIRE(t != nullptr);
    BOOST_TEST(t->form.int8 == again);
    BOOST_TEST(t->form.packed == !again);
    auto wanted = named(target + "SCB").data;
    for (const auto* part : {"weight", "weight_format"}) {
      const auto& more = named(target + part).data;
      if (!again || std::string_view(part) == "weight") wanted.insert(wanted.end(), more.begin(), more.end());
    }
    BOOST_TEST(t->size == wanted.size());
    bytes_of_tensor read(wanted.size());
    BOOST_TEST_REQUIRE(bool(storage.read(atom, t->offset, read)));
    BOOST_TEST((read == wanted));
  }
}

BOOST_AUTO_TEST_CASE(buffers_that_no_file_holds_are_zeros) {
  berth::tree_builder b("Model");
  b.parameter("weight", dtype::f32, {8});
  b.buffer("mask", dtype::f32, {4}, false);
  b.buffer("mean", dtype::f32, {4}, true);
  b.tree().no_split_modules = {"Model"};
  const auto tree = *b.finish();
  const folder at;
  plan_test::dice d(seed);
  std::vector<stored> all{{"weight", dtype::f32, {8}, draw(d, dtype::f32, 8)},
                          {"mean", dtype::f32, {4}, draw(d, dtype::f32, 4)}};
  write_safetensors(at.path / "model.safetensors", all);
  const auto header = berth::read_safetensors_file((at.path / "model.safetensors").string());
  BOOST_TEST_REQUIRE(bool(header));
  berth::weight_sources sources{
      {(at.path / "model.safetensors").string()}, {header->file_size}, header->tensors, {}, {}};
  sources.conversions = {{"weight", "weight", {{0, 8, 1}}, false}, {"mean", "mean", {{0, 4, 1}}, false}};
  const auto sizes = berth::native_sizes(tree);
  const auto chain = berth::derive_model(tree, sizes);
  const auto p = berth::place_fn{exec_test::Told{{g0}}}(chain.view(), exec_test::machine(1), exec_test::options());
  BOOST_TEST_REQUIRE(bool(p));
  const auto images = berth::make_images(*p, tree, sizes, {}, sources);
  BOOST_TEST_REQUIRE(bool(images), (images ? "" : say(images.error())));
  const berth::image_storage storage(*images);
  for (std::uint32_t i = 0; i < images->atoms(); ++i)
    for (const auto& t : images->of(i)) {
      bytes_of_tensor read(static_cast<std::size_t>(t.size), std::byte{1}), wanted(read.size());
      if (t.name != "mask") wanted = all[t.name == "weight" ? 0 : 1].data;
      BOOST_TEST_REQUIRE(bool(storage.read(i, t.offset, read)));
      BOOST_TEST((read == wanted), t.name);
      BOOST_TEST(t.stored == (t.name != "mask"));
    }
  std::erase_if(sources.conversions, [](const auto& c) { return c.stored == "mean"; });
  BOOST_TEST(berth::make_images(*p, tree, sizes, {}, sources).error().subject.view() == "mean");
}

BOOST_AUTO_TEST_CASE(tiny_models_give_the_bytes_whose_checksums_are_published) {
  const char* data = std::getenv("BERTH_DATA");
  if (data == nullptr) {
    BOOST_TEST_MESSAGE("skipped: BERTH_DATA does not say where the tiny models are");
    return;
  }
  std::size_t checked = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(data) / "tiny_models")) {
    const auto document = berth::read_json_file((entry.path() / "expected.json").string());
    BOOST_TEST_REQUIRE(bool(document));
    const auto p = must(prepare(entry.path(), {{}, berth::granularity::experts}, {g0, {"cpu", "0"}, {"disk", "0"}}));
    const berth::image_storage storage(p.images);
    std::map<std::string, std::string> sums;  // by stored name, from what the images hold of it
    for (std::uint32_t i = 0; i < p.images.atoms(); ++i)
      for (const auto& piece : p.images.pieces_of(i)) {
        BOOST_TEST_REQUIRE(piece.plain);  // nothing is to be converted
        bytes_of_tensor read(static_cast<std::size_t>(piece.length));
        BOOST_TEST_REQUIRE(bool(storage.read(i, piece.image_offset, read)));
        sums[p.images.sources().tensors[piece.stored].name] = sha256(read);
      }
    for (const auto& [name, facts] : *document->find("tensors")->if_object()) {
      BOOST_TEST(sums[name] == *facts.find("sha256")->if_string(), entry.path().filename().string() << " " << name);
      ++checked;
    }
  }
  BOOST_TEST_MESSAGE(checked << " tensors");
  BOOST_TEST(checked > 100);
}
