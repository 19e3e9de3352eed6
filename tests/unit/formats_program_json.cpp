// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

import berth.exec;
import berth.formats;

using namespace berth;

namespace {

program random_program(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&](std::uint64_t n) { return static_cast<std::uint32_t>(random() % n); };
  program p;
  p.phase = static_cast<program_phase>(below(3));
  auto& f = p.frame;
  const auto streams = 1 + below(5), buffers = 1 + below(4), rings = below(3);
  f.events = 10 + below(10);
  for (std::uint32_t i = 0; i < streams; ++i)
    f.streams.push_back({below(4), static_cast<stream_role>(below(5)), below(2) ? no_index : below(4)});
  for (std::uint32_t i = 0; i < buffers; ++i)
    f.buffers.push_back(
        {below(4), static_cast<buffer_role>(below(2)), random() >> 1, static_cast<memory_kind>(below(2))});
  for (std::uint32_t i = 0; i < rings; ++i) {
    f.rings.push_back({below(4), 1 + below(3), below(buffers), random() >> 20, random() >> 20, below(3), 3 + below(3)});
    p.copies.push_back(below(100));
  }
  const auto range = [&]() -> program_range {
    if (below(3) == 0) return {};
    return {below(buffers), random() >> 3, random() >> 1, rings > 0 && below(2) ? below(rings) : no_handle, below(3)};
  };
  for (auto n = below(40); n > 0; --n) {
    operation o;
    o.kind = static_cast<op_kind>(below(7));
    if (below(4)) o.stream = below(streams);
    if (below(2)) o.buffer = below(buffers);
    if (below(2)) o.atom = below(1000);
    o.from = range();
    o.to = range();
    o.memory = {range(), range(), range(), range(), range()};
    if (below(2)) o.stored = {below(9), random() >> 1, random() >> 5};
    o.transfer = static_cast<transfer_kind>(below(2));
    if (below(2)) o.event = below(f.events);
    if (rings > 0 && below(2)) o.event_ring = below(rings);
    o.event_step = below(3);
    if (below(2)) o.flops = static_cast<double>(random()) * 1e-3;
    if (below(2)) o.touched = 1.0 / static_cast<double>(1 + below(1000));
    o.compute = static_cast<dtype>(below(22));
    p.operations.push_back(o);
  }
  if (below(2)) p.last_stream = below(streams);
  return p;
}

result<program_document> read_text(std::string_view text) {
  auto document = json::parse(text, "test");
  BOOST_REQUIRE(document.has_value());
  return read_program(*document, "test");
}

/// The text of a small valid program with one part exchanged.
std::string with(std::string_view part, std::string_view other) {
  std::string text =
      R"({"format":"berth.program/1","phase":"decode","streams":[{"device":0,"role":"compute"}],)"
      R"("buffers":[{"device":0,"role":"arena","size":100}],"rings":[{"device":0,"slots":2,"buffer":0,"copied":0,)"
      R"("freed":2}],"events":4,"copies":[3],"operations":[{"kind":"copy","stream":0,"from":{"buffer":0,"size":5}}]})";
  const auto at = text.find(part);
  BOOST_REQUIRE(at != std::string::npos);
  return text.replace(at, part.size(), other);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(formats_program_json)

BOOST_AUTO_TEST_CASE(programs_read_back_equal_through_text) {
  for (std::uint64_t seed = 1; seed <= 1000; ++seed) {
    const auto p = random_program(seed);
    const auto text = json::write(write_program(p), seed % 2 == 0 ? 2 : 0);
    const auto read = read_text(text);
    BOOST_TEST_CONTEXT("seed " << seed) {
      if (!read) BOOST_TEST_MESSAGE(read.error().detail.view());
      BOOST_REQUIRE(read.has_value());
      BOOST_TEST((read->program == p));
      BOOST_TEST(read->notes.empty());
      BOOST_TEST(json::write(write_program(read->program), seed % 2 == 0 ? 2 : 0) == text);
    }
  }
}

BOOST_AUTO_TEST_CASE(unknown_members_are_noted) {
  const auto read = read_text(with(R"("size":5})", R"("size":5,"color":1},"when":2)"));
  BOOST_REQUIRE(read.has_value());
  BOOST_REQUIRE_EQUAL(read->notes.size(), 2u);
  BOOST_TEST(read->notes[0] == "the member \"operations[0].from.color\" is not known to this version and was not read");
  BOOST_TEST(read->notes[1] == "the member \"operations[0].when\" is not known to this version and was not read");
}

BOOST_AUTO_TEST_CASE(other_formats_are_refused) {
  for (const std::string_view name : {"berth.program/2", "berth.plan/1", "berth.program/10"}) {
    const auto read = read_text(with("berth.program/1", name));
    BOOST_REQUIRE(!read.has_value());
    BOOST_TEST((read.error().code == errc::unknown_format));
  }
  BOOST_TEST((read_text("{}").error().code == errc::unknown_format));
  BOOST_TEST((read_text("[]").error().code == errc::unknown_format));
}

BOOST_AUTO_TEST_CASE(wrong_members_are_named_with_their_path) {
  const auto refused = [](std::string_view part, std::string_view other, std::string_view path) {
    const auto read = read_text(with(part, other));
    BOOST_TEST_CONTEXT(other) {
      BOOST_REQUIRE(!read.has_value());
      BOOST_TEST((read.error().code == errc::malformed));
      BOOST_TEST(read.error().detail.view().substr(0, path.size()) == path);
    }
  };
  refused(R"("decode")", R"("dream")", "phase is not known");
  refused(R"("role":"compute")", R"("role":7)", "streams[0].role is missing or not a string");
  refused(R"("size":100)", R"("size":-1)", "buffers[0].size");
  refused(R"("size":100)", R"("size":9223372036854775808)", "buffers[0].size");
  refused(R"("slots":2)", R"("slots":3)", "rings[0] has more slots than there are events");
  refused(R"("copied":0)", R"("copied":4)", "rings[0].copied names what the program does not have");
  refused(R"("copies":[3])", R"("copies":["3"])", "copies");
  refused(R"("stream":0)", R"("stream":1)", "operations[0].stream names what the program does not have");
  refused(R"({"buffer":0,"size":5})", R"({"buffer":1,"size":5})", "operations[0].from.buffer");
  refused(R"({"buffer":0,"size":5})", "[]", "operations[0].from is not an object");
  refused(R"("kind":"copy")", R"("kind":"jump")", "operations[0].kind");
  refused(R"("kind":"copy")", R"("kind":"copy","flops":-2)", "operations[0].flops");
  refused(R"("kind":"copy")", R"("kind":"copy","compute":"BF17")", "operations[0].compute is not a dtype");
  refused(R"("kind":"copy")", R"("kind":"copy","atom":4294967296)", "operations[0].atom is out of range");
  refused(R"("operations":[{)", R"("operations":[3,{)", "operations[0] is not an object");
  refused(R"("events":4)", R"("events":4.0)", "events");
}

BOOST_AUTO_TEST_SUITE_END()
