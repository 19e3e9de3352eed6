// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <utility>

// Not exported: memory that the operating system gives page by page.
export module berth.host:mapped_memory;

import berth.base;

namespace berth::host {

/// Zeroed private memory of its own pages, given back by the destructor. Pages are taken when they are first touched.
class mapped_memory {
 public:
  mapped_memory() = default;
  mapped_memory(mapped_memory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  mapped_memory& operator=(mapped_memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~mapped_memory();

  /// Nothing for size 0. Error: `out_of_memory` without a subject's name, if the system refuses.
  static result<mapped_memory> make(bytes size);

  std::byte* data() const { return data_; }
  /// Keeps the pages from being swapped out from their first touch on. 0, or the system's error number.
  int lock();

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace berth::host
