// SPDX-License-Identifier: Apache-2.0
// A result that nobody looks at is an error that nobody sees.
// expect: ignoring return value of function declared with 'nodiscard' attribute
#include <cstdint>
#include <string_view>

import berth.base;

std::uint64_t read(std::string_view text) {
#ifdef FIXED
  return berth::parse_size(text).value_or(0);
#else
  berth::parse_size(text);
  return 0;
#endif
}
