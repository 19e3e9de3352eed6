// SPDX-License-Identifier: Apache-2.0
module;

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

// Not exported: the threads that measure.
export module berth.host:crew;

import berth.topology;

namespace berth::host {

/// Threads that wait for work and all do the same job, each with its own number; joined by the destructor.
class crew {
 public:
  /// Error: `unavailable` if the system gives fewer threads than asked for.
  static result<std::unique_ptr<crew>> start(int workers) {
    auto c = std::make_unique<crew>();
    try {
      for (int i = 0; i < workers; ++i) c->threads_.emplace_back([p = c.get(), i] { p->work(i); });
    } catch (const std::system_error& e) {
      return fail(errc::unavailable, "threads", e.what());
    }
    return c;
  }
  crew() = default;
  crew(const crew&) = delete;
  crew& operator=(const crew&) = delete;
  ~crew() {
    {
      const std::lock_guard hold(lock_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto& t : threads_) t.join();
  }

  int size() const { return static_cast<int>(threads_.size()); }

  /// Hands `job` to every thread and returns when all have done it. The job must not throw.
  void run(const std::function<void(int)>& job) {
    std::unique_lock hold(lock_);
    job_ = &job;
    pending_ = size();
    ++round_;
    wake_.notify_all();
    finished_.wait(hold, [&] { return pending_ == 0; });
  }

 private:
  void work(int number) {
    for (unsigned seen = 0;;) {
      const std::function<void(int)>* job = nullptr;
      {
        std::unique_lock hold(lock_);
        wake_.wait(hold, [&] { return stop_ || round_ != seen; });
        if (stop_) return;
        seen = round_;
        job = job_;
      }
      (*job)(number);
      const std::lock_guard hold(lock_);
      if (--pending_ == 0) finished_.notify_one();
    }
  }

  std::mutex lock_;
  std::condition_variable wake_, finished_;
  const std::function<void(int)>* job_ = nullptr;
  int pending_ = 0;
  unsigned round_ = 0;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace berth::host
