// SPDX-License-Identifier: Apache-2.0
module;

#include <sys/resource.h>

module berth.runtime;

import berth.base;

namespace berth {

bytes peak_resident_memory() {
  rusage use{};
  if (::getrusage(RUSAGE_SELF, &use) != 0 || use.ru_maxrss < 0) return 0;
  return static_cast<bytes>(use.ru_maxrss) * KiB;
}

}  // namespace berth
