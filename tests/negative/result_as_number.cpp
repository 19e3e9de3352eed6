// SPDX-License-Identifier: Apache-2.0
// Success is asked for, not added up: the conversion to bool is explicit.
// expect: no viable conversion from 'result<bytes>'
#include <string_view>

import berth.base;

bool readable(std::string_view text) {
#ifdef FIXED
  const bool ok = berth::parse_size(text).has_value();
#else
  const bool ok = berth::parse_size(text);
#endif
  return ok;
}
