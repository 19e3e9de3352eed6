// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <utility>
#include <variant>
#include <vector>

export module berth.exec:joined_queue;

import berth.base;
import berth.topology;
import :handles;
import :requests;

// What `joined` keeps that does not depend on its machines.
namespace berth::detail {

/// One call of `record`: events name the latest of them, queued waits the one that they are bound to. The event
/// underneath is used again when nobody refers to the mark any more.
struct joined_mark {
  std::uint32_t machine = 0;
  event_id inner;
  stream_id stream;                ///< of the machine: where it is recorded
  std::uint32_t lane = no_handle;  ///< whose queue holds the record until it is submitted
  std::uint32_t references = 0;
  std::uint32_t next_unused = no_handle;
  bool submitted = false;
  bool failed = false;  ///< an earlier item of its lane failed: it will never be reached
};

struct free_op {
  buffer_id buffer;
};
struct record_op {
  std::uint32_t mark = no_handle;
};
struct wait_op {
  std::uint32_t mark = no_handle;
};
/// An operation in handles of the machine that it is for. Records and waits own one reference to their mark.
using queued_op = std::variant<copy_request, read_request, launch_request, free_op, record_op, wait_op>;

/// A stream of a machine and what waits to be submitted to it.
struct joined_lane {
  std::uint32_t machine = 0;
  stream_id stream;
  device_index device = no_index;    ///< of the machine
  std::uint32_t parent = no_handle;  ///< the joined stream that it belongs to: itself, or whose copies it carries
  std::uint32_t first = no_handle, last = no_handle;
  bool failed = false;
  error why;  ///< of what was submitted later than its call
};

/// Queues of all lanes in one array of operations.
class op_queue {
 public:
  op_queue(std::size_t bound, std::pmr::memory_resource* memory) : nodes_(memory), bound_(bound) {
    nodes_.reserve(bound);
  }

  std::size_t used() const { return used_; }
  std::size_t bound() const { return bound_; }
  bool has_room(std::size_t n) const { return bound_ - used_ >= n; }

  /// Precondition: room for one.
  void push(joined_lane& l, const queued_op& op) {
    std::uint32_t i = free_;
    if (i == no_handle) {
      i = static_cast<std::uint32_t>(nodes_.size());
      nodes_.push_back({});
    } else {
      free_ = nodes_[i].next;
    }
    nodes_[i] = {op, no_handle};
    if (l.last == no_handle)
      l.first = i;
    else
      nodes_[l.last].next = i;
    l.last = i;
    ++used_;
  }
  /// Precondition: the lane has one.
  const queued_op& front(const joined_lane& l) const { return nodes_[l.first].op; }
  queued_op pop(joined_lane& l) {
    const auto i = l.first;
    l.first = nodes_[i].next;
    if (l.first == no_handle) l.last = no_handle;
    nodes_[i].next = free_;
    free_ = i;
    --used_;
    return nodes_[i].op;
  }

 private:
  struct node {
    queued_op op;
    std::uint32_t next = no_handle;
  };

  std::pmr::vector<node> nodes_;
  std::size_t bound_;
  std::size_t used_ = 0;
  std::uint32_t free_ = no_handle;
};

/// All marks. Those without references keep their machine's event for the next record there.
class mark_pool {
 public:
  mark_pool(std::size_t bound, std::size_t machines, std::pmr::memory_resource* memory)
      : marks_(memory), unused_(machines, no_handle, memory), bound_(bound) {
    marks_.reserve(bound);
  }

  joined_mark& operator[](std::uint32_t i) { return marks_[i]; }
  const joined_mark& operator[](std::uint32_t i) const { return marks_[i]; }
  std::size_t bound() const { return bound_; }
  bool full() const { return marks_.size() == bound_; }

  /// Takes an unused mark with an event of the machine; `no_handle`: there is none.
  std::uint32_t take(std::uint32_t machine) {
    const auto i = unused_[machine];
    if (i != no_handle) unused_[machine] = marks_[i].next_unused;
    return i;
  }
  /// Precondition: not full.
  std::uint32_t add(std::uint32_t machine, event_id inner) {
    joined_mark m;
    m.machine = machine;
    m.inner = inner;
    marks_.push_back(m);
    return static_cast<std::uint32_t>(marks_.size() - 1);
  }
  void retain(std::uint32_t i) { ++marks_[i].references; }
  void release(std::uint32_t i) {
    if (i == no_handle || --marks_[i].references != 0) return;
    marks_[i].next_unused = std::exchange(unused_[marks_[i].machine], i);
  }

 private:
  std::pmr::vector<joined_mark> marks_;
  std::pmr::vector<std::uint32_t> unused_;  // per machine: the first of its unused marks
  std::size_t bound_;
};

}  // namespace berth::detail
