// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <mutex>
#include <thread>
#include <vector>

// Not exported: what the streams of a machine have to do, in which order, and the threads that do it.
export module berth.host:stream_queues;

import berth.base;
import berth.topology;
import berth.exec;

namespace berth::host {

/// One thing that a stream does when it gets there. Addresses were resolved when it was submitted; `uses` are the
/// buffers that must stay until it is over.
struct task {
  activity what;
  berth::work work;
  work_call call;
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
  storage_range stored;
  std::uint32_t freed = no_handle;
  std::array<std::uint32_t, 5> uses{};
  std::uint32_t used = 0;

  void use(std::uint32_t buffer) { uses[used++] = buffer; }
};

/// Carries tasks out; called without any lock, from several threads at a time.
struct task_performer {
  void* context = nullptr;
  result<done> (*perform)(void* context, const task& t) = nullptr;
};

struct queue_bounds {
  std::uint32_t streams = 0;
  std::uint32_t events = 0;
  std::uint32_t items = 0;  ///< submitted and not yet drained, of all streams
};

/// Streams run their items in the order of submission; different streams run in parallel, on threads of this object,
/// or, without threads, on the caller's in `ready` and `finish`. A stream whose task fails carries nothing out after
/// it, except that it gives memory back; records and waits go on and hand the error to whoever waits for them. Waits
/// refer to records that were submitted before them, so something can always go on.
///
/// One caller. Nothing is allocated after construction.
class stream_queues {
 public:
  /// Fewer threads than asked for, if the system gives no more: see `threads()`.
  stream_queues(const queue_bounds& bounds, int threads, task_performer performer, std::pmr::memory_resource* memory);
  stream_queues(const stream_queues&) = delete;
  stream_queues& operator=(const stream_queues&) = delete;
  /// Waits for the tasks that are being carried out; what has not begun never will.
  ~stream_queues();

  int threads() const { return static_cast<int>(threads_.size()); }
  picoseconds now() const;

  result<std::uint32_t> add_stream();
  result<std::uint32_t> add_event();
  bool has_stream(std::uint32_t stream) const { return stream < stream_count_; }
  bool has_event(std::uint32_t event) const { return event < event_count_; }

  /// Errors of all three: `capacity`.
  result<done> submit(std::uint32_t stream, const task& t);
  result<done> record(std::uint32_t stream, std::uint32_t event);
  result<done> wait(std::uint32_t stream, std::uint32_t event);

  /// Whether the latest record has completed; without threads, after one item of what it waits for. The error of what
  /// went wrong before it.
  result<bool> ready(std::uint32_t event);
  /// Waits, or works, until the stream is idle or the event complete. The error of what went wrong before that.
  result<done> finish_stream(std::uint32_t stream);
  result<done> finish_event(std::uint32_t event);

  /// Calls `over(task, carried out)` for every task that is over, in the order of their ends, on the caller's thread.
  /// Returns a time that no task among them and no draining before is later than, and no task to come is earlier.
  template <class F>
  picoseconds drain(const F& over) {
    std::uint32_t first = none, last = none;
    picoseconds time = 0;
    {
      const std::lock_guard hold(lock_);
      first = finished_first_;
      last = finished_last_;
      finished_first_ = finished_last_ = none;
      time = last_end_ = std::max(now(), last_end_);
    }
    if (first == none) return time;
    for (auto i = first; i != none; i = nodes_[i].next) over(nodes_[i].what, nodes_[i].carried_out);
    const std::lock_guard hold(lock_);
    nodes_[last].next = unused_nodes_;
    unused_nodes_ = first;
    return time;
  }

 private:
  static constexpr std::uint32_t none = 0xffffffffu;

  enum class step : std::uint8_t { task, record, wait };
  struct node {
    step kind = step::task;
    bool carried_out = false;
    std::uint32_t next = none;
    std::uint32_t mark = none;  ///< of a record or a wait
    task what;
  };
  /// One submitted record: waits refer to it, however often its event is recorded again.
  struct mark {
    bool complete = false;
    std::uint32_t users = 0;
    std::uint32_t stream = none;   ///< that reaches it
    std::uint32_t waiting = none;  ///< first stream that waits
    std::uint32_t error = none;
  };
  enum class state : std::uint8_t { resting, runnable, busy, waiting };
  struct queue {
    state now = state::resting;
    std::uint32_t first = none, last = none;
    std::uint32_t next = none;   ///< in a list of streams: those that wait for a mark, those that can run
    std::uint32_t error = none;  ///< of what went wrong in it or before it
    picoseconds last_end = 0;
  };
  using locked = std::unique_lock<std::mutex>;

  result<std::uint32_t> append(std::uint32_t stream, step kind);
  void appended(std::uint32_t stream);
  void settle(std::uint32_t stream);
  bool pass_first(std::uint32_t stream);
  void make_runnable(std::uint32_t stream);
  void run_first(std::uint32_t stream, locked& hold);
  void step_towards(std::uint32_t stream, locked& hold);
  void drop_first(std::uint32_t stream);
  void finish_task(std::uint32_t stream, picoseconds start, bool carried_out);
  void complete_mark(std::uint32_t m, std::uint32_t error);
  void let_go(std::uint32_t m);
  result<done> outcome(std::uint32_t error) const;
  void start_threads(int count);
  void work();

  queue_bounds bounds_;
  task_performer performer_;
  std::chrono::steady_clock::time_point begin_;
  std::uint32_t stream_count_ = 0, event_count_ = 0;
  bool without_threads_ = true;

  std::mutex lock_;                    ///< of all below
  std::condition_variable can_run_;    ///< for the threads
  std::condition_variable something_;  ///< for the caller: a stream came to rest or a record completed
  std::pmr::vector<queue> streams_;
  std::pmr::vector<std::uint32_t> event_marks_;
  std::pmr::vector<node> nodes_;
  std::uint32_t unused_nodes_ = none;
  std::pmr::vector<mark> marks_;
  std::pmr::vector<std::uint32_t> unused_marks_;
  std::pmr::vector<std::uint32_t> moving_;  ///< streams that may go on
  std::pmr::vector<error> errors_;
  std::uint32_t runnable_first_ = none, runnable_last_ = none;
  std::uint32_t finished_first_ = none, finished_last_ = none;
  picoseconds last_end_ = 0;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace berth::host
