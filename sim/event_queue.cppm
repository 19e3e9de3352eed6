// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <vector>

export module berth.sim:event_queue;

import berth.base;

export namespace berth::sim {

/// What happens to an item of work at a known time.
struct event {
  picoseconds time = 0;
  std::uint64_t sequence = 0;  ///< of scheduling: equal times keep this order
  std::uint32_t item = 0;
  bool begins_flow = false;  ///< else: its fixed part is over

  friend constexpr bool operator<(const event& a, const event& b) {
    return a.time != b.time ? a.time < b.time : a.sequence < b.sequence;
  }
};

/// Events by time, then by sequence. A binary heap; never grows beyond the capacity it was made with.
class event_queue {
 public:
  event_queue(std::size_t capacity, std::pmr::memory_resource* memory) : heap_(memory) { heap_.reserve(capacity); }

  bool empty() const { return heap_.empty(); }
  const event& top() const { return heap_.front(); }
  picoseconds next() const { return heap_.empty() ? never : heap_.front().time; }

  void push(picoseconds time, std::uint32_t item, bool begins_flow) {
    const event e{time, sequence_++, item, begins_flow};
    heap_.push_back(e);
    std::size_t at = heap_.size() - 1;
    while (at > 0 && e < heap_[(at - 1) / 2]) {
      heap_[at] = heap_[(at - 1) / 2];
      at = (at - 1) / 2;
    }
    heap_[at] = e;
  }

  event pop() {
    const auto first = heap_.front();
    const auto last = heap_.back();
    heap_.pop_back();
    const std::size_t n = heap_.size();
    std::size_t at = 0;
    for (std::size_t child = 1; child < n; child = 2 * at + 1) {
      if (child + 1 < n && heap_[child + 1] < heap_[child]) ++child;
      if (!(heap_[child] < last)) break;
      heap_[at] = heap_[child];
      at = child;
    }
    if (n > 0) heap_[at] = last;
    return first;
  }

 private:
  std::pmr::vector<event> heap_;
  std::uint64_t sequence_ = 0;
};

}  // namespace berth::sim
