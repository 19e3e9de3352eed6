// SPDX-License-Identifier: Apache-2.0
// Loads on the CUDA machine over a fake CUDA runtime: the same bytes, whatever the order in which streams get on, and
// nothing left behind whichever call fails.
#include <boost/test/unit_test.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fake_cuda.hpp"
#include "runtime_loading.hpp"

import berth;
import berth.cuda;
import berth.formats;
import berth.host;
import berth.runtime;

BOOST_AUTO_TEST_SUITE(materialise_cuda)

namespace {

using namespace load_test;
using berth::errc;

/// On GPUs transforms are enqueued as kernels are; on the CPU they are done at once.
void enqueue_transform(void* context, const berth::transform& t, const berth::work_call& call) {
  const auto engine = berth::cpu_transforms();
  if (call.native_stream == nullptr) return engine.run(engine.context, t, call);
  static_cast<fake_cuda::runtime*>(context)->enqueue(call.native_stream,
                                                     [engine, t] { engine.run(engine.context, t, {}); });
}

place_wish spread_over_all(bool int8) {
  place_wish w;
  w.map = {{"", "0"}, {"model.layers.1", "1"}, {"model.layers.2", "cpu"}, {"model.layers.3", "disk"}};
  w.how.int8 = int8;
  return w;
}

struct subject {
  checkpoint c{{.seed = 9}};
  std::unique_ptr<job> j;
  folder offload;

  explicit subject(bool int8) {
    auto made = make_job(c.at.path(), spread_over_all(int8));
    BOOST_REQUIRE_MESSAGE(made.has_value(), (made ? "" : words_of(made.error())));
    j = std::move(*made);
  }
  template <class M>
  berth::result<berth::loaded> load(M& machine, fake_cuda::runtime& cuda, berth::image_storage& storage, int readers) {
    berth::materialise_options o;
    o.readers = readers;
    o.staging = 256 * berth::KiB;
    o.slots = 2;
    o.gpu = {&cuda, &enqueue_transform};
    o.storage = &storage;
    o.offload_folder = offload.path();
    return berth::materialise(machine, j->plan, j->programs, j->images, o);
  }
};

}  // namespace

BOOST_AUTO_TEST_CASE(any_order_of_streams_gives_the_same_bytes) {
  for (const bool int8 : {false, true}) {
    subject s(int8);
    for (const std::uint64_t seed : {0u, 1u, 2u, 3u, 4u, 5u, 6u, 7u}) {
      fake_cuda::runtime cuda({.seed = seed});
      {
        berth::image_storage storage(s.j->images);
        berth::cuda::machine machine(cuda.table(), s.j->plan.topology(), {.storage = storage.as_storage()});
        auto done = s.load(machine, cuda, storage, seed % 2 == 0 ? 0 : 2);
        BOOST_REQUIRE_MESSAGE(done.has_value(), "seed " << seed << ": " << (done ? "" : words_of(done.error())));
        BOOST_TEST(wrong_in(s.c, *s.j, machine, done->handles) == "", "seed " << seed);
        BOOST_TEST(berth::release_loaded(machine, s.j->programs, done->handles).has_value());
      }
      BOOST_TEST(cuda.misuse().empty(), (cuda.misuse().empty() ? "" : cuda.misuse().front()));
      BOOST_TEST(cuda.live().total() == 0u);
    }
  }
}

BOOST_AUTO_TEST_CASE(every_call_that_fails_ends_the_load_or_is_got_over_and_nothing_is_left) {
  subject s(true);
  std::uint64_t calls = 0;
  {
    fake_cuda::runtime cuda;
    berth::image_storage storage(s.j->images);
    berth::cuda::machine machine(cuda.table(), s.j->plan.topology(), {.storage = storage.as_storage()});
    BOOST_REQUIRE(s.load(machine, cuda, storage, 0).has_value());
    calls = cuda.calls();
  }
  BOOST_TEST(calls > 100u);
  for (const bool sticky : {false, true})
    for (std::uint64_t n = 1; n <= calls; n += 1 + n / 40) {
      fake_cuda::runtime cuda;
      {
        berth::image_storage storage(s.j->images);
        berth::cuda::machine machine(cuda.table(), s.j->plan.topology(), {.storage = storage.as_storage()});
        const auto what = sticky ? berth::cuda::status::illegal_address : berth::cuda::status::memory_allocation;
        cuda.fail_any(n, what, sticky);
        auto done = s.load(machine, cuda, storage, 0);
        if (done) {
          BOOST_TEST(!sticky, "call " << n);
          BOOST_TEST(wrong_in(s.c, *s.j, machine, done->handles) == "", "call " << n);
          BOOST_TEST(berth::release_loaded(machine, s.j->programs, done->handles).has_value());
        } else if (sticky) {
          BOOST_TEST((done.error().code == errc::device_lost), "call " << n << ": " << words_of(done.error()));
        } else {
          auto again = s.load(machine, cuda, storage, 0);
          BOOST_TEST(again.has_value(), "call " << n << ": " << (again ? "" : words_of(again.error())));
          if (again) BOOST_TEST(wrong_in(s.c, *s.j, machine, again->handles) == "", "call " << n);
        }
      }
      BOOST_TEST(cuda.misuse().empty(), "call " << n << ": " << (cuda.misuse().empty() ? "" : cuda.misuse().front()));
      BOOST_TEST(cuda.live().allocations == 0u, "call " << n);
    }
}

BOOST_AUTO_TEST_SUITE_END()
