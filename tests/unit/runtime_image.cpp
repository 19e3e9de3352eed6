// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime_support.hpp"

using namespace runtime_test;
using berth::dtype;

namespace {

constexpr std::uint64_t seed = 20261121;

std::vector<wish> wishes() {
  std::vector<wish> out;
  for (const auto parts : {berth::granularity::blocks, berth::granularity::parts, berth::granularity::experts}) {
    out.push_back({{}, parts});
    berth::precision p;
    p.load = dtype::f32;
    out.push_back({p, parts});
    p.load = dtype::f16;
    p.overrides = {{"lm_head", dtype::f32}, {"model.norm", dtype::f32}};
    out.push_back({p, parts});
  }
  berth::precision p;
  p.int8 = true;
  out.push_back({p, berth::granularity::blocks});
  out.push_back({p, berth::granularity::parts});
  return out;
}

std::vector<std::vector<exec_test::seat_names>> seatings() {
  const exec_test::seat_names g0{"0", "0"}, g1{"1", "1"}, cpu{"cpu", "cpu"}, streamed{"cpu", "0"}, disk{"disk", "0"};
  return {{g0}, {g0, g1, cpu}, {streamed, g0, disk, g1}, {disk}};
}

/// What a test case is about, for messages.
std::string title(family f, bool tied, dtype type, const wish& w) {
  return std::string(family_names[static_cast<std::size_t>(f)]) + (tied ? " tied " : " untied ") +
         std::string(berth::info_of(type).torch) + " \"" + berth::words_of(w.how) + "\" by " +
         std::string(berth::name_of(w.parts));
}

void check_images(const checkpoint& c, const prepared& p, const std::string& what) {
  const berth::image_storage storage(p.images);
  BOOST_TEST(p.images.atoms() == p.plan.atoms.size());
  for (std::uint32_t i = 0; i < p.images.atoms(); ++i) {
    bytes_of_tensor read(static_cast<std::size_t>(p.images.size_of(i)));
    const auto ok = storage.read(i, 0, read);
    BOOST_TEST_REQUIRE(bool(ok), what << ", " << p.plan.atoms[i].name << ": " << (ok ? "" : say(ok.error())));
    BOOST_TEST((read == expected_image(c, p, i)), what << ", " << p.plan.atoms[i].name);
    BOOST_TEST(read.size() == p.plan.atoms[i].weights);
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(images_are_what_the_tree_asks_for_element_by_element) {
  BOOST_TEST_MESSAGE("seed " << seed);
  std::uint64_t n = 0, made = 0;
  for (const auto f : families)
    for (const bool tied : {true, false})
      for (const auto type : {dtype::bf16, dtype::f32, dtype::f16}) {
        const auto c = make_checkpoint(f, tied, type, 1 + n % 4, seed + n);
        for (auto w : wishes()) {
          if (f == family::gpt2 || (tied && !w.how.overrides.empty())) w.how.overrides.clear();
          const auto seats = seatings();
          const auto p = prepare(c.at.path, w, seats[n++ % seats.size()]);
          const auto what = title(f, tied, type, w);
          BOOST_TEST_REQUIRE(bool(p), what << ": " << (p ? "" : say(p.error())));
          check_images(c, *p, what);
          ++made;
        }
      }
  BOOST_TEST(made == 4u * 2 * 3 * 11);
}

BOOST_AUTO_TEST_CASE(tensors_follow_without_gaps_multiples_of_256_first) {
  for (const auto f : families) {
    const auto c = make_checkpoint(f, false, dtype::bf16, 1, seed);
    berth::precision how;
    how.int8 = f != family::mixtral;
    const auto p = prepare(c.at.path, {how, berth::granularity::blocks}, {{"0", "0"}});
    BOOST_TEST_REQUIRE(bool(p), (p ? "" : say(p.error())));
    for (std::uint32_t i = 0; i < p->images.atoms(); ++i) {
      berth::bytes at = 0;
      bool odd = false;
      for (const auto& t : p->images.of(i)) {
        BOOST_TEST(t.offset == at);
        at += t.size;
        BOOST_TEST(!(odd && t.size % 256 == 0), t.name);
        odd = odd || t.size % 256 != 0;
        const auto needs = t.form.int8 ? 4 : berth::bits_of(t.form.type) / 8;
        BOOST_TEST(t.offset % needs == 0, t.name);
        BOOST_TEST(p->images.find(i, t.name) == &t);
      }
      BOOST_TEST(at == p->images.size_of(i));
      BOOST_TEST(p->images.find(i, "no.such.tensor") == nullptr);
    }
  }
}

namespace {

/// Carries out what a program moves, in the order of submission, on memory of its own.
class carrier {
 public:
  carrier(const prepared& p, const berth::image_storage& storage, const berth::program& load)
      : p_(p), storage_(storage) {
    for (const auto& b : load.frame.buffers) memory_.emplace_back(static_cast<std::size_t>(b.size));
    heads_.resize(load.frame.rings.size());
  }

  std::uint64_t launches = 0;

  void run(const berth::program& what, const checkpoint& c) {
    for (const auto& op : what.operations) {
      if (op.kind == berth::op_kind::read) {
        const auto to = place(what, op.to);
        BOOST_TEST_REQUIRE(bool(storage_.read(op.stored.file, op.stored.offset, to)));
      } else if (op.kind == berth::op_kind::copy && op.transfer == berth::transfer_kind::copy && op.to.size > 0) {
        const auto from = place(what, op.from), to = place(what, op.to);
        std::memmove(to.data(), from.data(), to.size());
      } else if (op.kind == berth::op_kind::launch) {
        check_launch(what, op, c);
      }
    }
    for (std::size_t r = 0; r < heads_.size(); ++r)
      heads_[r] = (heads_[r] + what.copies[r]) % what.frame.rings[r].slots;
  }

 private:
  std::span<std::byte> place(const berth::program& what, const berth::program_range& r) {
    if (r.buffer == berth::no_handle) return {};
    auto offset = r.offset;
    if (r.ring != berth::no_handle) {
      const auto& ring = what.frame.rings[r.ring];
      offset += ring.offset + (heads_[r.ring] + r.step) % ring.slots * ring.slot_size;
    }
    return std::span(memory_[r.buffer]).subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(r.size));
  }

  void check_launch(const berth::program& what, const berth::operation& op, const checkpoint& c) {
    ++launches;
    berth::work_call call;
    const auto view = [&](const berth::program_range& r) {
      const auto at = place(what, r);
      return at.empty() ? berth::memory_view{} : berth::memory_view{at.data(), at.size()};
    };
    call.memory.weights = view(op.memory.weights);
    call.memory.workspace = view(op.memory.workspace);
    const auto ph = what.phase == berth::program_phase::prefill ? berth::phase::prefill : berth::phase::decode;
    const bool streamed = p_.plan.placements[op.atom].streamed(ph);
    for (const auto& t : p_.images.of(op.atom)) {
      if (!t.stored) continue;
      const auto wanted = expected(c, *p_.model.tree().find_tensor(t.name), t.form, p_.plan.atoms[op.atom]);
      const auto* at = berth::address_of(t, call, streamed);
      BOOST_TEST_REQUIRE(at != nullptr, t.name);
      BOOST_TEST((std::memcmp(at, wanted.data(), wanted.size()) == 0), t.name << " of " << p_.plan.atoms[op.atom].name);
    }
  }

  const prepared& p_;
  const berth::image_storage& storage_;
  std::vector<bytes_of_tensor> memory_;
  std::vector<std::uint64_t> heads_;
};

}  // namespace

BOOST_AUTO_TEST_CASE(programs_put_every_tensor_where_address_of_says) {
  BOOST_TEST_MESSAGE("seed " << seed);
  const exec_test::seat_names g0{"0", "0"}, g1{"1", "1"}, cpu{"cpu", "cpu"}, streamed{"cpu", "0"}, stored{"disk", "0"},
      prompt{"cpu", "cpu", "0"};
  std::uint64_t n = 0;
  for (const auto f : families)
    for (const bool tied : {true, false})
      for (const auto& seats : std::vector<std::vector<exec_test::seat_names>>{
               {g0}, {cpu}, {streamed}, {stored}, {g0, streamed}, {streamed, g1, cpu}, {stored, g0, prompt}}) {
        const auto c = make_checkpoint(f, tied, dtype::bf16, 2, seed + n++);
        const auto p =
            prepare(c.at.path, {{}, n % 2 == 0 ? berth::granularity::parts : berth::granularity::blocks}, seats);
        BOOST_TEST_REQUIRE(bool(p), (p ? "" : say(p.error())));
        const auto programs = exec_test::compile_phases(p->plan);
        BOOST_TEST_REQUIRE(bool(programs), (programs ? "" : say(programs.error())));
        const berth::image_storage storage(p->images);
        carrier run(*p, storage, programs->load);
        run.run(programs->load, c);
        run.run(programs->prefill, c);
        for (int round = 0; round < 3; ++round) run.run(programs->decode, c);
        BOOST_TEST(run.launches == 4 * p->plan.atoms.size());
      }
}

namespace {

/// Sources of a small Llama that a test breaks in one way; the error of making images of them.
struct breakable {
  checkpoint files = make_checkpoint(family::llama, false, dtype::bf16, 2, seed);
  berth::loaded_model model = *berth::load_model(files.at.path.string());
  berth::plan plan = *plan_for(model, {}, {{"0", "0"}});
  berth::weight_sources sources = *berth::sources_of(model);

  berth::error error(const berth::precision& how = {}) const {
    const auto made = berth::make_images(plan, model.tree(), model.sizes, how, sources);
    return made ? berth::error{} : made.error();
  }
  berth::stored_tensor& stored(std::string_view name) {
    return *std::find_if(sources.tensors.begin(), sources.tensors.end(), [&](const auto& t) { return t.name == name; });
  }
  berth::conversion& conversion(std::string_view name) {
    return *std::find_if(sources.conversions.begin(), sources.conversions.end(),
                         [&](const auto& c) { return c.tensor == name; });
  }
};

const std::string broken = "model.layers.1.mlp.up_proj.weight";

void check_error(const berth::error& e, berth::errc code, std::string_view says) {
  BOOST_TEST((e.code == code), say(e));
  BOOST_TEST(e.subject.view() == broken);
  BOOST_TEST((e.detail.view().find(says) != std::string_view::npos), say(e));
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_headers_tell_is_refused_with_the_name_of_the_tensor) {
  using berth::errc;
  {
    breakable b;
    BOOST_TEST(bool(berth::make_images(b.plan, b.model.tree(), b.model.sizes, {}, b.sources)));
    std::erase_if(b.sources.conversions, [](const auto& c) { return c.tensor == broken; });
    check_error(b.error(), errc::inconsistent_model, "in none of the files");
  }
  {
    breakable b;
    std::erase_if(b.sources.tensors, [](const auto& t) { return t.name == broken; });
    check_error(b.error(), errc::inconsistent_model, "missing shard");
  }
  {
    breakable b;
    std::swap(b.stored(broken).shape[0], b.stored(broken).shape[1]);
    check_error(b.error(), errc::inconsistent_model, "[16, 24]");
  }
  {
    breakable b;
    b.stored(broken).type = dtype::i16;
    check_error(b.error(), errc::inconsistent_model, "int16");
  }
  {
    breakable b;
    b.sources.file_sizes[b.stored(broken).file] = b.stored(broken).offset + 5;
    const auto made = berth::make_images(b.plan, b.model.tree(), b.model.sizes, {}, b.sources);
    BOOST_TEST_REQUIRE(!made);
    BOOST_TEST((made.error().code == errc::malformed));
    BOOST_TEST((made.error().detail.view().find("truncated") != std::string_view::npos));
  }
  {
    breakable b;
    b.sources.tensors.push_back(b.stored(broken));
    check_error(b.error(), errc::inconsistent_model, "two files");
  }
}

BOOST_AUTO_TEST_CASE(parts_that_overlap_or_leave_holes_are_refused) {
  using berth::errc;
  const auto half = [](breakable& b, std::uint64_t begin, std::uint64_t end) {
    auto t = b.stored(broken);
    t.name += "." + std::to_string(begin);
    t.shape[0] = end - begin;
    t.length = t.shape[0] * t.shape[1] * 2;
    berth::conversion c{t.name, broken, {{begin, end, 1}, {0, hidden, 1}}, false};
    b.sources.tensors.push_back(t);
    b.sources.conversions.push_back(c);
  };
  breakable whole;
  std::erase_if(whole.sources.conversions, [](const auto& c) { return c.tensor == broken; });
  half(whole, 0, 12);
  auto overlapping = whole.sources;
  half(whole, 12, 24);
  BOOST_TEST(bool(berth::make_images(whole.plan, whole.model.tree(), whole.model.sizes, {}, whole.sources)));
  whole.sources = overlapping;
  half(whole, 11, 23);
  check_error(whole.error(), errc::inconsistent_model, "stored twice");
  whole.sources = overlapping;
  half(whole, 13, 24);
  check_error(whole.error(), errc::inconsistent_model, "368 of its 384");
}

BOOST_AUTO_TEST_CASE(a_plan_of_another_precision_or_model_is_refused) {
  breakable b;
  berth::precision how;
  how.load = dtype::f32;
  const auto other = b.error(how);
  BOOST_TEST((other.code == berth::errc::inconsistent_model), say(other));
  BOOST_TEST(other.needed == 2 * other.available);
  const auto qwen = make_checkpoint(family::qwen2, false, dtype::bf16, 1, seed);
  auto m = berth::load_model(qwen.at.path.string());
  BOOST_TEST_REQUIRE(bool(m));
  auto sources = berth::sources_of(*m);
  BOOST_TEST(!berth::make_images(b.plan, m->tree(), m->sizes, {}, *sources));
  const auto tree_only = berth::load_model_text(config_of(family::llama, false, "bfloat16"), "config");
  BOOST_TEST_REQUIRE(bool(tree_only));
  const auto none = berth::sources_of(*tree_only);
  BOOST_TEST((!none && none.error().code == berth::errc::not_found));
}

namespace {

/// A model of many small tensors, one stored tensor each.
struct large_model {
  berth::module_tree tree;
  berth::weight_sources sources;
};
large_model make_large(std::uint64_t blocks, std::uint64_t per_block) {
  berth::tree_builder b("Model");
  large_model out;
  out.sources.files = {"/nowhere/model.safetensors"};
  std::uint64_t at = 0;
  b.enter("layers", "ModuleList");
  for (std::uint64_t i = 0; i < blocks; ++i) {
    b.enter(std::to_string(i), "Block");
    for (std::uint64_t k = 0; k < per_block; ++k) {
      b.enter("linear" + std::to_string(k), "Linear");
      b.parameter("weight", dtype::bf16, {8, 8});
      berth::stored_tensor t;
      t.name = std::string(b.current()) + ".weight";
      t.type = dtype::bf16;
      t.shape = {8, 8};
      t.offset = at;
      t.length = 128;
      at += t.length;
      out.sources.conversions.push_back({t.name, t.name, {{0, 8, 1}, {0, 8, 1}}, false});
      out.sources.tensors.push_back(std::move(t));
      b.leave();
    }
    b.leave();
  }
  b.leave();
  b.tree().no_split_modules = {"Block"};
  out.sources.file_sizes = {at};
  out.tree = *b.finish();
  return out;
}

}  // namespace

#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr double most_seconds = 15;
#else
constexpr double most_seconds = 1;
#endif

BOOST_AUTO_TEST_CASE(a_hundred_thousand_tensors_take_well_under_a_second) {
  for (const auto& [blocks, per_block] : {std::pair<std::uint64_t, std::uint64_t>{1000, 100}, {2, 50000}}) {
    const auto m = make_large(blocks, per_block);
    const auto sizes = berth::native_sizes(m.tree);
    const auto chain = berth::derive_model(m.tree, sizes);
    const auto p =
        berth::place_fn{exec_test::Told{{{"0", "0"}}}}(chain.view(), exec_test::machine(2), exec_test::options());
    BOOST_TEST_REQUIRE(bool(p), (p ? "" : say(p.error())));
    auto sources = m.sources;
    const auto start = std::clock();  // of this process: machines under test are busy with others
    const auto images = berth::make_images(*p, m.tree, sizes, {}, std::move(sources));
    const auto taken = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    BOOST_TEST_REQUIRE(bool(images), (images ? "" : say(images.error())));
    BOOST_TEST_MESSAGE(blocks << " blocks of " << per_block << " tensors: " << taken << " s of processor time");
    BOOST_TEST(images->pieces_of(0).size() == per_block);
    BOOST_TEST(taken < most_seconds);
  }
}
