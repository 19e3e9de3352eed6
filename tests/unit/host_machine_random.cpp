// SPDX-License-Identifier: Apache-2.0
// Random programs against the same operations one after the other: events order what touches the same memory, so the
// result is the same however the streams overlap.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "host_generated_storage.hpp"
#include "plan_random.hpp"

import berth;
import berth.host;

BOOST_AUTO_TEST_SUITE(machine_random)

namespace {

using namespace berth;
using namespace host_test;
using plan_test::dice;

constexpr std::uint64_t first_seed = 20'261'121;
constexpr bytes file_size = 50'000;

template <class T>
T must(result<T> r) {
  BOOST_REQUIRE_MESSAGE(r.has_value(), (r ? "" : std::string(r.error().detail.view())));
  return *std::move(r);
}

/// Every byte of `out` depends on its own value before, on the inputs and on the tag.
void mix(std::span<const std::byte> a, std::span<const std::byte> b, std::span<std::byte> out, op_tag tag) {
  unsigned carry = tag;
  for (std::size_t i = 0; i < out.size(); ++i) {
    carry = carry * 31 + std::to_integer<unsigned>(out[i]) + std::to_integer<unsigned>(a[(i * 7) % a.size()]) * 3 +
            std::to_integer<unsigned>(b[i % b.size()]);
    out[i] = static_cast<std::byte>(carry >> 3);
  }
}
std::span<const std::byte> seen(const memory_view& v) { return {v.data, static_cast<std::size_t>(v.size)}; }
void mix_work(void*, const work_call& c) {
  mix(seen(c.memory.weights), seen(c.memory.in), {c.memory.out.data, static_cast<std::size_t>(c.memory.out.size)},
      c.tag);
}

/// Submits random operations to a machine and does the same at once to memory of its own.
template <class M>
class random_program {
 public:
  random_program(M& m, std::uint64_t seed) : m_(m), dice_(seed) {
    for (std::size_t i = 0, n = dice_.pick(2, 5); i < n; ++i) {
      const auto device = static_cast<device_index>(dice_.pick(0, 2));
      streams_.push_back({must(m_.make_stream(device)), device, must(m_.make_event())});
    }
    for (std::size_t i = 0, n = dice_.pick(3, 8); i < n; ++i) add_buffer();
  }

  void run(std::size_t operations) {
    for (std::size_t i = 0; i < operations; ++i) {
      switch (dice_.pick(0, 15)) {
        case 0:
          (void)must(m_.ready(streams_[any_stream()].latest));
          break;
        case 1:
          if (dice_.one_in(4)) must(m_.synchronize(streams_[any_stream()].id));
          break;
        case 2:  // an order that nobody needs
          order(any_stream(), any_stream());
          break;
        case 3:
          replace_buffer(dice_.pick(0, buffers_.size() - 1));
          break;
        case 4:
        case 5:
          read();
          break;
        case 6:
        case 7:
        case 8:
        case 9:
          copy();
          break;
        default:
          launch();
      }
    }
  }
  /// Waits for everything, compares and frees.
  void finish() {
    for (const auto& s : streams_) must(m_.synchronize(s.id));
    for (const auto& b : buffers_) {
      const auto* at = m_.address(b.id);
      BOOST_TEST((at != nullptr && std::memcmp(at, b.expected.data(), b.expected.size()) == 0));
    }
    for (auto& b : buffers_) must(m_.deallocate(streams_[any_stream()].id, b.id));
    tasks_ += buffers_.size();
    for (const auto& s : streams_) must(m_.synchronize(s.id));
  }
  /// Operations that a trace shows.
  std::size_t tasks() const { return tasks_; }

 private:
  struct stream {
    stream_id id;
    device_index device;
    event_id latest;
  };
  /// The point in a stream at which an access is over.
  struct access {
    std::size_t stream;
    event_id done;  ///< none: the stream's `latest` is to be recorded when somebody asks
  };
  struct buffer {
    buffer_id id;
    std::vector<std::byte> expected;
    std::vector<access> writes, reads;
  };
  struct place {
    std::size_t buffer;
    bytes offset, size;
  };

  std::size_t any_stream() { return dice_.pick(0, streams_.size() - 1); }
  buffer_range range(const place& p) const { return {buffers_[p.buffer].id, p.offset, p.size}; }
  std::span<std::byte> bytes_of(const place& p) {
    return std::span(buffers_[p.buffer].expected).subspan(p.offset, p.size);
  }
  place any_place(bytes most = 4096) {
    const auto b = dice_.pick(0, buffers_.size() - 1);
    const bytes whole = buffers_[b].expected.size();
    const auto size = dice_.pick(1, std::min(most, whole));
    return {b, dice_.pick(0, whole - size), size};
  }

  void order(std::size_t first, std::size_t then) {
    must(m_.record(streams_[first].id, streams_[first].latest));
    must(m_.wait(streams_[then].id, streams_[first].latest));
  }
  void wait_for(std::size_t s, const std::vector<access>& all) {
    for (const auto& a : all) {
      if (a.stream == s) continue;
      if (a.done == event_id{})
        order(a.stream, s);
      else
        must(m_.wait(streams_[s].id, a.done));
    }
  }
  void before(std::size_t s, const place& p, bool writes) {
    wait_for(s, buffers_[p.buffer].writes);
    if (writes) wait_for(s, buffers_[p.buffer].reads);
  }
  access made(std::size_t s) {
    access a{s, {}};
    if (dice_.one_in(2)) {
      a.done = must(m_.make_event());
      must(m_.record(streams_[s].id, a.done));
    }
    return a;
  }
  void after(const access& a, const place& p, bool writes) {
    auto& b = buffers_[p.buffer];
    if (!writes) return b.reads.push_back(a);
    b.reads.clear();
    b.writes = {a};
  }

  void add_buffer() {
    const auto size = dice_.pick(1, 20'000);
    const auto device = static_cast<device_index>(dice_.pick(0, 2));
    const auto kind = dice_.one_in(2) ? memory_kind::pinned : memory_kind::plain;
    buffers_.push_back({must(m_.allocate(device, size, kind)), std::vector<std::byte>(size), {}, {}});
    fill(buffers_.size() - 1);
  }
  /// New memory may hold anything: it is read into first.
  void fill(std::size_t b) { read_into({b, 0, buffers_[b].expected.size()}); }
  void replace_buffer(std::size_t b) {
    const auto s = any_stream();
    before(s, {b, 0, 0}, true);
    must(m_.deallocate(streams_[s].id, buffers_[b].id));
    ++tasks_;
    std::swap(buffers_[b], buffers_.back());
    buffers_.pop_back();
    add_buffer();
  }
  void read() { read_into(any_place(20'000)); }
  void read_into(const place& to) {
    const auto s = any_stream();
    const auto from = dice_.pick(0, file_size - to.size);
    before(s, to, true);
    must(m_.read(streams_[s].id, {{0, from, to.size}, range(to), 0, 1}));
    ++tasks_;
    after(made(s), to, true);
    const auto out = bytes_of(to);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = byte_at(0, from + i);
  }
  void copy() {
    const auto s = any_stream();
    auto from = any_place(), to = any_place();
    from.size = to.size = std::min(from.size, to.size);
    before(s, from, false);
    before(s, to, true);
    const auto kind = dice_.one_in(3) ? transfer_kind::message : transfer_kind::copy;
    must(m_.copy(streams_[s].id, {range(from), range(to), kind, 0, 2}));
    ++tasks_;
    const auto a = made(s);
    after(a, from, false);
    after(a, to, true);
    std::memmove(bytes_of(to).data(), bytes_of(from).data(), to.size);
  }
  void launch() {
    const auto s = any_stream();
    const auto weights = any_place(), in = any_place(), out = any_place();
    for (const auto& p : {weights, in}) before(s, p, false);
    before(s, out, true);
    launch_request r;
    r.work.run = mix_work;
    r.tag = static_cast<op_tag>(dice_.pick(3, 1000));
    r.memory = {range(weights), {}, {}, range(in), range(out)};
    must(m_.launch(streams_[s].id, r));
    ++tasks_;
    const auto a = made(s);
    for (const auto& p : {weights, in}) after(a, p, false);
    after(a, out, true);
    mix(bytes_of(weights), bytes_of(in), bytes_of(out), r.tag);
  }

  M& m_;
  dice dice_;
  std::vector<stream> streams_;
  std::vector<buffer> buffers_;
  std::size_t tasks_ = 0;
};

/// In one stream an operation begins when the one before has ended; ends ascend over all of them.
void times_are_those_of_streams(const trace& t) {
  std::map<std::uint32_t, picoseconds> ends;
  picoseconds last = 0;
  bool right = t.lost() == 0;
  for (const auto& a : t.records()) {
    right = right && a.end >= last && a.start <= a.end;
    last = a.end;
    if (a.kind == activity_kind::allocate) continue;
    right = right && a.start >= ends[a.stream.index];
    ends[a.stream.index] = a.end;
  }
  BOOST_TEST(right);
}

}  // namespace

BOOST_AUTO_TEST_CASE(any_interleaving_gives_what_the_order_of_events_gives) {
  static const auto box = *preset("2x3090");
  for (std::uint64_t i = 0; i < plan_test::cases(120); ++i)
    for (const int threads : {0, 1, 3}) {
      const auto seed = first_seed + i;
      BOOST_TEST_CONTEXT("seed " << seed << ", threads " << threads) {
        generated_files files({{file_size, 0}});
        host::machine machine(
            box, {.storage = files.as_storage(), .threads = threads, .streams = 8, .events = 512, .items = 4096});
        counted counting(machine);
        trace t(4096);
        traced tracing(counting, t);
        random_program program(tracing, seed);
        program.run(150);
        program.finish();
        BOOST_TEST(counting.live() == 0u);
        for (device_index d = 0; d < box.devices.size(); ++d) BOOST_TEST(machine.used(d) == 0u);
        times_are_those_of_streams(t);
        BOOST_TEST(t.records().size() == counting.total().allocations + program.tasks());
      }
    }
}

BOOST_AUTO_TEST_CASE(a_machine_can_be_destroyed_with_work_under_way) {
  static const auto box = *preset("2x3090");
  for (std::uint64_t i = 0; i < plan_test::cases(60); ++i)
    for (const int threads : {0, 3}) {
      generated_files files({{file_size, 0}});
      host::machine machine(
          box, {.storage = files.as_storage(), .threads = threads, .streams = 8, .events = 512, .items = 4096});
      BOOST_TEST_CONTEXT("seed " << first_seed + i) random_program(machine, first_seed + i).run(40);
    }
}

BOOST_AUTO_TEST_SUITE_END()
