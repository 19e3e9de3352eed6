// SPDX-License-Identifier: Apache-2.0
// What the cases of the suite share. Include after Boost.Test and the standard headers.
#pragma once

#include <string>

#include "any_machine.hpp"

namespace conformance {

using berth::errc;
inline constexpr berth::bytes small = 64 * berth::KiB;

/// The positions of the devices that every machine under test has.
struct devices {
  explicit devices(any_machine& m)
      : first(*m.topology().find("0")), second(*m.topology().find("1")), cpu(*m.topology().find("cpu")) {}
  berth::device_index first, second, cpu;
};

/// Takes the value or fails the case with the error's words.
template <class T>
T must(berth::result<T> r) {
  BOOST_REQUIRE_MESSAGE(r.has_value(), (r ? "" : std::string(r.error().detail.view())));
  return *std::move(r);
}
template <class T>
void refused(const berth::result<T>& r, errc code) {
  BOOST_REQUIRE(!r.has_value());
  BOOST_TEST(std::string(name_of(r.error().code)) == std::string(name_of(code)));
  BOOST_TEST(!r.error().subject.view().empty());
  BOOST_TEST(!r.error().detail.view().empty());
}

inline berth::launch_request work_of(double bytes, berth::op_tag tag = berth::no_tag) {
  berth::launch_request r;
  r.touched = bytes;
  r.flops = bytes;
  r.tag = tag;
  return r;
}

}  // namespace conformance
