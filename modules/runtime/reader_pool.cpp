// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <system_error>
#include <thread>
#include <vector>

module berth.runtime;

import berth.base;
import :read_plan;
import :weight_files;
import :reader_pool;

namespace berth::detail {
namespace {

/// A queue of fixed size.
template <class T>
class bounded_queue {
 public:
  explicit bounded_queue(std::size_t capacity) : items_(capacity) {}
  bool empty() const { return size_ == 0; }
  void push(const T& item) {
    items_[(first_ + size_) % items_.size()] = item;
    ++size_;
  }
  T pop() {
    auto out = items_[first_];
    first_ = (first_ + 1) % items_.size();
    --size_;
    return out;
  }
  void clear() { size_ = 0; }

 private:
  std::vector<T> items_;
  std::size_t first_ = 0, size_ = 0;
};

}  // namespace

struct reader_pool::state {
  state(const read_plan& p, weight_files& f, std::size_t capacity)
      : plan(p), files(f), waiting(capacity), finished(capacity) {}

  const read_plan& plan;
  weight_files& files;
  std::mutex lock{};
  std::condition_variable work{}, results{};
  bounded_queue<read_job> waiting;
  bounded_queue<finished_read> finished;
  bool stop = false;
  std::vector<std::thread> threads{};

  finished_read perform(const read_job& job) const {
    const auto begin = std::chrono::steady_clock::now();
    finished_read out;
    out.job = job;
    const auto& step = plan.steps[job.step];
    read_counts sum;
    out.failed_part = step.first;
    const auto ok =
        step.in_place ? in_place(job, step, sum, out.failed_part) : into_slot(job, step, sum, out.failed_part);
    if (ok)
      out.outcome = sum;
    else
      out.outcome = ok.propagate();
    out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return out;
  }

  result<done> into_slot(const read_job& job, const read_step& step, read_counts& sum, std::uint32_t& failed) const {
    if (step.columns == 0)
      return one(step.file, step.offset, {job.memory + step.offset % direct_step, step.length}, direct_step, sum,
                 [&](const error& e) { failed = part_at(step, e.code == errc::unreadable ? e.available : 0); });
    for (std::uint64_t c = 0; c < step.columns; ++c)
      if (auto ok = one(step.file, step.offset + c * step.stride, {job.memory + c * step.width, step.width}, 0, sum,
                        [](const error&) {});
          !ok)
        return ok;
    return done{};
  }
  result<done> in_place(const read_job& job, const read_step& step, read_counts& sum, std::uint32_t& failed) const {
    for (auto p = step.first; p < step.first + step.count; ++p) {
      const auto& part = plan.parts[p];
      failed = p;
      if (auto ok = one(step.file, part.piece.file_offset, {job.memory + part.target, part.piece.length}, 0, sum,
                        [](const error&) {});
          !ok)
        return ok;
    }
    return done{};
  }
  template <class F>
  result<done> one(std::uint32_t file, bytes offset, std::span<std::byte> to, bytes slack, read_counts& sum,
                   F&& on_failure) const {
    const auto counts = files.read(file, offset, to, slack);
    if (!counts) {
      on_failure(counts.error());
      return counts.propagate();
    }
    sum.cached += counts->cached;
    sum.direct += counts->direct;
    return done{};
  }
  /// The part that a read which stopped after `got` bytes did not get.
  std::uint32_t part_at(const read_step& step, bytes got) const {
    auto p = step.first;
    while (p + 1 < step.first + step.count && plan.parts[p].at + plan.parts[p].piece.length <= got) ++p;
    return p;
  }

  void serve() {
    for (;;) {
      read_job job;
      {
        std::unique_lock hold(lock);
        work.wait(hold, [this] { return stop || !waiting.empty(); });
        if (stop) return;
        job = waiting.pop();
      }
      const auto done_now = perform(job);
      {
        const std::lock_guard hold(lock);
        finished.push(done_now);
      }
      results.notify_one();
    }
  }
};

reader_pool::reader_pool(const read_plan& plan, weight_files& files, int readers, std::size_t capacity)
    : state_(std::make_unique<state>(plan, files, std::max<std::size_t>(capacity, 1))) {
  const auto most = static_cast<int>(std::min<std::size_t>(plan.steps.size(), 1024));
  try {
    for (int i = 0; i < std::min(readers, most); ++i) state_->threads.emplace_back([s = state_.get()] { s->serve(); });
  } catch (const std::system_error&) {  // what there is has to do; without any the caller reads
  }
}

reader_pool::~reader_pool() {
  {
    const std::lock_guard hold(state_->lock);
    state_->stop = true;
    state_->waiting.clear();
  }
  state_->work.notify_all();
  for (auto& t : state_->threads) t.join();
}

int reader_pool::readers() const { return static_cast<int>(state_->threads.size()); }

void reader_pool::submit(const read_job& job) {
  ++outstanding_;
  if (state_->threads.empty()) {
    state_->finished.push(state_->perform(job));
    return;
  }
  {
    const std::lock_guard hold(state_->lock);
    state_->waiting.push(job);
  }
  state_->work.notify_one();
}

bool reader_pool::take(finished_read& out, std::int64_t microseconds) {
  if (outstanding_ == 0) return false;
  std::unique_lock hold(state_->lock);
  if (state_->finished.empty() && microseconds > 0)
    state_->results.wait_for(hold, std::chrono::microseconds(microseconds),
                             [this] { return !state_->finished.empty(); });
  if (state_->finished.empty()) return false;
  out = state_->finished.pop();
  --outstanding_;
  return true;
}

}  // namespace berth::detail
