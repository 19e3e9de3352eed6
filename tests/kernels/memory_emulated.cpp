// SPDX-License-Identifier: Apache-2.0
#include <new>

#include "device_memory.hpp"

namespace device {

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BERTH_FIBERS_UNKNOWN 1
#endif
#endif

std::string missing() {
#ifdef BERTH_FIBERS_UNKNOWN
  return "the emulation runs on one thread and the thread sanitizer does not know its fibers";
#else
  return {};
#endif
}
void* take(std::size_t size) { return ::operator new(size, std::align_val_t{256}); }
void give(void* p) { ::operator delete(p, std::align_val_t{256}); }
void write(void* to, const void* from, std::size_t size) { std::memcpy(to, from, size); }
void read(void* to, const void* from, std::size_t size) { std::memcpy(to, from, size); }
std::uint32_t* take_host_word() { return new std::uint32_t; }
void give_host_word(std::uint32_t* p) { delete p; }
void finish() {}

}  // namespace device
