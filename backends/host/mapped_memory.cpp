// SPDX-License-Identifier: Apache-2.0
module;

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <string_view>
#include <system_error>
#include <utility>

module berth.host;

import berth.base;

namespace berth::host {
namespace {

constexpr bytes large_page = 2 * MiB;

}  // namespace

mapped_memory::~mapped_memory() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

result<mapped_memory> mapped_memory::make(bytes size) {
  mapped_memory m;
  if (size == 0) return m;
  // Not reserved: a plan for more memory than this machine has can be rehearsed as long as it does not touch all of it.
  auto* p = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return fail(errc::out_of_memory, "host memory", std::generic_category().message(errno), size, 0);
  // Large pages: filling fresh memory is bound by page faults else. A wish; what the system makes of it does not
  // matter.
  if (size >= large_page) (void)::madvise(p, size, MADV_HUGEPAGE);
  m.data_ = static_cast<std::byte*>(p);
  m.size_ = size;
  return m;
}

// Locking all pages at once would touch them: a plan larger than the machine would bring it down instead of failing.
int mapped_memory::lock() {
  if (data_ == nullptr || ::mlock2(data_, size_, MLOCK_ONFAULT) == 0) return 0;
  return errno;
}

}  // namespace berth::host
