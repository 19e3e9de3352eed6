// SPDX-License-Identifier: Apache-2.0
// The few lines that a test program without Boost.Test needs.
#pragma once

#include <cstdio>

namespace embedded {

inline constinit int failures = 0;

inline void check(bool ok, const char* what, const char* file, int line) {
  if (ok) return;
  ++failures;
  std::fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
}

}  // namespace embedded

#define CHECK(...) ::embedded::check(static_cast<bool>(__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)
