// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <utility>
#include <vector>

export module berth.exec:trace;

import berth.base;
import berth.topology;
import :activity;

export namespace berth {

/// What happened in a run, the same for a simulated and a real one: activities in the order of their ends. Bounded:
/// what does not fit is counted, not kept.
class trace {
 public:
  explicit trace(std::size_t capacity, std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : records_(memory), capacity_(capacity) {
    records_.reserve(capacity);
  }

  void add(const activity& a) {
    if (records_.size() < capacity_)
      records_.push_back(a);
    else
      ++lost_;
  }
  void clear() {
    records_.clear();
    lost_ = 0;
  }

  std::span<const activity> records() const { return records_; }
  std::size_t lost() const { return lost_; }

 private:
  std::pmr::vector<activity> records_;
  std::size_t capacity_;
  std::size_t lost_ = 0;
};

/// An FNV-1a fingerprint of all members of all records: equal for byte-identical traces.
std::uint64_t fingerprint(const trace& t);

}  // namespace berth
