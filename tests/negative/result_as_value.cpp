// SPDX-License-Identifier: Apache-2.0
// A result does not turn into its value by itself: the caller has to look whether there is one.
// expect: no viable conversion from returned value of type 'result<bytes>'
#include <cstdint>
#include <string_view>

import berth.base;

std::uint64_t read(std::string_view text) {
#ifdef FIXED
  const auto size = berth::parse_size(text);
  return size ? *size : 0;
#else
  return berth::parse_size(text);
#endif
}
