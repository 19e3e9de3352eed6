// SPDX-License-Identifier: Apache-2.0
// The program of a user of berth.
#include <cstdio>
#include <string>

#ifdef HAVE_UMBRELLA
import berth;
#else
import berth.base;
#endif

int main() {
  const auto size = berth::parse_size("1.5GiB");
  if (!size) return 1;
  std::printf("%s\n", berth::format_size(*size).c_str());
  return 0;
}
