// SPDX-License-Identifier: Apache-2.0
// The plan of `rehearsal` and its programs, made once per test program. Include after Boost.Test, before any import.
#pragma once

#include <string>

#include "rehearsal.hpp"

import berth;

inline const berth::plan& the_plan() {
  static const auto made = rehearsal::streamed_plan();
  BOOST_REQUIRE_MESSAGE(made.has_value(), (made ? "" : std::string(made.error().detail.view())));
  return *made;
}
inline const berth::compiled_plan& programs() {
  static const auto made = berth::compile_all(the_plan());
  BOOST_REQUIRE_MESSAGE(made.has_value(), (made ? "" : std::string(made.error().detail.view())));
  return *made;
}
