// SPDX-License-Identifier: Apache-2.0
#include "device.hpp"

#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "cuda_fp16.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/common_interface_defs.h>
#define BERTH_SWITCHES_ARE_ANNOUNCED 1
#endif
#endif

// The linker's names for the section of shared variables; weak, because a program may have none.
extern "C" char __start_berth_shared[] __attribute__((weak));
extern "C" char __stop_berth_shared[] __attribute__((weak));

namespace emulate {
namespace {

constexpr std::size_t stack_size = 128 * 1024;
constexpr uint32_t lanes = 32;

enum class state { ready, at_barrier, at_shuffle, done };

struct fiber {
  ucontext_t context{};
  std::unique_ptr<char[]> stack{new char[stack_size]};
  state now = state::done;
  uint32_t shuffles = 0;  ///< so far; its parity chooses the words, so that a fast lane overwrites nothing
  void* fake_stack = nullptr;
};
struct warp_words {
  uint32_t word[2][lanes];
};

class device {
 public:
  void run(dim3 grid, dim3 block, const std::function<void()>& thread) {
    while (fibers_.size() < block.x) fibers_.push_back(std::make_unique<fiber>());
    words_.resize((block.x + lanes - 1) / lanes);
    thread_ = &thread;
    at_.grid_size = grid;
    at_.block_size = block;
    for (uint32_t b = 0; b < grid.x; ++b) {
      at_.block = dim3(b);
      run_block(block.x);
    }
  }
  const position& here() const { return at_; }

  void wait(state why) {
    auto& f = *fibers_[at_.thread.x];
    f.now = why;
    leave(f, false);
  }
  uint32_t shuffle(uint32_t word, uint32_t from) {
    auto& f = *fibers_[at_.thread.x];
    const auto side = f.shuffles++ % 2;
    auto& words = words_[at_.thread.x / lanes].word[side];
    words[at_.thread.x % lanes] = word;
    wait(state::at_shuffle);
    return words_[at_.thread.x / lanes].word[side][from];
  }

  static device& the() {
    static device only;
    return only;
  }

 private:
  [[noreturn]] void stop(const char* why) const {
    std::fprintf(stderr, "emulated GPU: block %u of %u threads: %s\n", at_.block.x, at_.block_size.x, why);
    std::abort();
  }

  void run_block(uint32_t threads) {
    if (&__start_berth_shared != nullptr)
      std::memset(__start_berth_shared, 0xff, static_cast<std::size_t>(__stop_berth_shared - __start_berth_shared));
    for (uint32_t i = 0; i < threads; ++i) start(*fibers_[i]);
    for (bool alive = true; alive;) {
      bool moved = false;
      alive = false;
      for (uint32_t i = 0; i < threads; ++i) {
        if (fibers_[i]->now == state::ready) {
          enter(i);
          moved = true;
        }
        alive = alive || fibers_[i]->now != state::done;
      }
      release(threads, moved);
      if (alive && !moved) stop("its threads wait for each other for ever");
    }
  }

  /// Lets those go on whose group has arrived: a warp at a shuffle, the block at a barrier.
  void release(uint32_t threads, bool& moved) {
    for (uint32_t first = 0; first < threads; first += lanes) {
      const auto end = first + lanes < threads ? first + lanes : threads;
      if (all(first, end, state::at_shuffle)) moved = wake(first, end);
    }
    if (all(0, threads, state::at_barrier)) moved = wake(0, threads);
  }
  bool all(uint32_t first, uint32_t end, state s) const {
    for (uint32_t i = first; i < end; ++i)
      if (fibers_[i]->now != s) return false;
    return true;
  }
  bool wake(uint32_t first, uint32_t end) {
    for (uint32_t i = first; i < end; ++i) fibers_[i]->now = state::ready;
    return true;
  }

  void start(fiber& f) {
    f.now = state::ready;
    f.shuffles = 0;
    f.fake_stack = nullptr;
    ::getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.get();
    f.context.uc_stack.ss_size = stack_size;
    f.context.uc_link = nullptr;
    ::makecontext(&f.context, &device::body, 0);
  }
  static void body() {
    auto& d = the();
#ifdef BERTH_SWITCHES_ARE_ANNOUNCED
    __sanitizer_finish_switch_fiber(nullptr, &d.own_bottom_, &d.own_size_);
#endif
    (*d.thread_)();
    auto& f = *d.fibers_[d.at_.thread.x];
    f.now = state::done;
    d.leave(f, true);
  }
  void enter(uint32_t i) {
    at_.thread = dim3(i);
    auto& f = *fibers_[i];
#ifdef BERTH_SWITCHES_ARE_ANNOUNCED
    void* own = nullptr;
    __sanitizer_start_switch_fiber(&own, f.stack.get(), stack_size);
#endif
    ::swapcontext(&own_, &f.context);
#ifdef BERTH_SWITCHES_ARE_ANNOUNCED
    __sanitizer_finish_switch_fiber(own, nullptr, nullptr);
#endif
  }
  void leave(fiber& f, [[maybe_unused]] bool for_ever) {
#ifdef BERTH_SWITCHES_ARE_ANNOUNCED
    __sanitizer_start_switch_fiber(for_ever ? nullptr : &f.fake_stack, own_bottom_, own_size_);
#endif
    ::swapcontext(&f.context, &own_);
#ifdef BERTH_SWITCHES_ARE_ANNOUNCED
    __sanitizer_finish_switch_fiber(f.fake_stack, nullptr, nullptr);
#endif
  }

  std::vector<std::unique_ptr<fiber>> fibers_;
  std::vector<warp_words> words_;
  const std::function<void()>* thread_ = nullptr;
  position at_;
  ucontext_t own_{};
  [[maybe_unused]] const void* own_bottom_ = nullptr;
  [[maybe_unused]] std::size_t own_size_ = 0;
};

}  // namespace

const position& here() { return device::the().here(); }
void run(dim3 grid, dim3 block, const std::function<void()>& thread) { device::the().run(grid, block, thread); }
void barrier() { device::the().wait(state::at_barrier); }
uint32_t shuffle(uint32_t word, uint32_t from) { return device::the().shuffle(word, from); }

}  // namespace emulate

float __half2float(__half h) {
  const uint32_t sign = static_cast<uint32_t>(h.bits & 0x8000u) << 16, magnitude = h.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  const int exponent = static_cast<int>(magnitude >> 10);
  const float value = exponent == 0 ? std::ldexp(static_cast<float>(magnitude), -24)
                                    : std::ldexp(static_cast<float>((magnitude & 0x3ffu) | 0x400u), exponent - 25);
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
}

__half __float2half_rn(float v) {
  const uint16_t sign = static_cast<uint16_t>(std::bit_cast<uint32_t>(v) >> 16 & 0x8000u);
  const float magnitude = std::fabs(v);
  if (std::isnan(v)) return {0x7fff};
  if (magnitude >= 65520.0f) return {static_cast<uint16_t>(sign | 0x7c00u)};  // half a step beyond the largest
  // One step is 2^-24 below 2^-14, then 2^-10 of the power of two below; scaling by it is exact.
  const int exponent = magnitude < 0x1p-14f ? -14 : std::ilogb(magnitude);
  const auto steps = static_cast<uint32_t>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));
  const uint32_t code = (static_cast<uint32_t>(exponent + 14) << 10) + steps;
  return {static_cast<uint16_t>(sign | code)};
}
