// SPDX-License-Identifier: Apache-2.0
// An error always has a code and a subject; a bare message is not an error.
// expect: no viable conversion from 'const char[8]' to 'berth::failure'
#include <string_view>

import berth.base;

berth::failure refuse() {
#ifdef FIXED
  return berth::fail(berth::errc::malformed, "file", "too big");
#else
  berth::failure f = "too big";
  return f;
#endif
}
