// SPDX-License-Identifier: Apache-2.0
// Memory that closes, and flows run to their ends, for the simulator's tests. Include before the imports of a file.
#pragma once

#include <cstddef>
#include <memory_resource>
#include <new>

/// Counts allocations; once closed it refuses them, so that a test fails that allocates after set-up.
class closing_memory final : public std::pmr::memory_resource {
 public:
  void close() { closed_ = true; }
  std::size_t calls() const { return calls_; }

 private:
  void* do_allocate(std::size_t size, std::size_t alignment) override {
    if (closed_) throw std::bad_alloc();
    ++calls_;
    return std::pmr::new_delete_resource()->allocate(size, alignment);
  }
  void do_deallocate(void* p, std::size_t size, std::size_t alignment) override {
    std::pmr::new_delete_resource()->deallocate(p, size, alignment);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }

  std::size_t calls_ = 0;
  bool closed_ = false;
};
