// SPDX-License-Identifier: Apache-2.0
module;

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory_resource>
#include <span>
#include <vector>

module berth.cuda;

import berth.base;
import berth.exec;

namespace berth::cuda::detail {

void host_work::run() {
  if (store != nullptr) {
    if (const auto ok = (*store)(stored, std::span(to, size)); !ok) failed->put(ok.error());
  } else if (from != nullptr) {
    std::memcpy(to, from, size);
  } else {
    callable(call);
  }
}

void run_host_work(void* context) {
  auto& w = *static_cast<host_work*>(context);
  w.run();
  w.busy.store(false, std::memory_order_release);
}

host_work* host_work_pool::take() {
  if (unused_.empty())
    for (auto& w : all_)
      if (!w.busy.load(std::memory_order_acquire)) unused_.push_back(&w);
  if (unused_.empty()) return nullptr;
  auto* w = unused_.back();
  unused_.pop_back();
  w->from = nullptr;
  w->to = nullptr;
  w->store = nullptr;
  w->busy.store(true, std::memory_order_relaxed);
  return w;
}

}  // namespace berth::cuda::detail
