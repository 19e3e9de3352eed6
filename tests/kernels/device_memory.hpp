// SPDX-License-Identifier: Apache-2.0
// Memory that the kernels can reach: on a GPU in berth_kernels_gpu, ordinary memory in berth_kernels_emulated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace device {

/// Why there is no device to test on; empty if there is one.
std::string missing();
/// Aligned to 256 bytes. Ends the program when there is no such memory.
void* take(std::size_t size);
void give(void* p);
void write(void* to, const void* from, std::size_t size);
/// After all kernels have finished.
void read(void* to, const void* from, std::size_t size);
/// A word that the host and the kernels see.
std::uint32_t* take_host_word();
void give_host_word(std::uint32_t* p);
/// Waits for the kernels.
void finish();

/// Elements on the device, `offset` bytes after a multiple of 256. Untouched elements are bytes 0xAA.
template <class T>
class array {
 public:
  explicit array(std::size_t count, std::size_t offset = 0) : array(blank(count), offset) {}
  explicit array(const std::vector<T>& values, std::size_t offset = 0)
      : count_(values.size()),
        base_(static_cast<std::byte*>(take(values.size() * sizeof(T) + offset))),
        offset_(offset) {
    if (count_ > 0) write(base_ + offset_, values.data(), count_ * sizeof(T));
  }
  array(const array&) = delete;
  array& operator=(const array&) = delete;
  ~array() { give(base_); }

  /// Of untyped bytes, because it need not be aligned.
  void* at(std::size_t index = 0) const { return base_ + offset_ + index * sizeof(T); }
  T* typed() const { return reinterpret_cast<T*>(base_ + offset_); }
  std::vector<T> values() const {
    std::vector<T> out(count_);
    if (count_ > 0) read(out.data(), at(), count_ * sizeof(T));
    return out;
  }

 private:
  static std::vector<T> blank(std::size_t count) {
    std::vector<T> v(count);
    if (count > 0) std::memset(static_cast<void*>(v.data()), 0xaa, count * sizeof(T));
    return v;
  }
  std::size_t count_;
  std::byte* base_;
  std::size_t offset_;
};

class host_word {
 public:
  explicit host_word(std::uint32_t value) : at_(take_host_word()) { *at_ = value; }
  host_word(const host_word&) = delete;
  host_word& operator=(const host_word&) = delete;
  ~host_word() { give_host_word(at_); }
  std::uint32_t* at() const { return at_; }
  std::uint32_t value() const {
    finish();
    return *at_;
  }

 private:
  std::uint32_t* at_;
};

}  // namespace device
