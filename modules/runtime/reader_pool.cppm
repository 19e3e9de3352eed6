// SPDX-License-Identifier: Apache-2.0
// Exports nothing: the threads that read weight files while the caller's thread drives the machine.
module;

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

export module berth.runtime:reader_pool;

import berth.base;
import :read_plan;
import :weight_files;

namespace berth::detail {

/// One read to be done.
struct read_job {
  std::uint32_t step = 0;  ///< index into the plan's steps
  /// A slot: the byte at `offset % direct_step` gets the first byte of the range, and `direct_step` bytes more than the
  /// range takes are free behind it. In place: where the buffer of the home begins.
  std::byte* memory = nullptr;
  std::uint32_t slot = 0;  ///< the caller's
};
/// What came of it.
struct finished_read {
  read_job job;
  result<read_counts> outcome = read_counts{};
  std::uint32_t failed_part = 0;  ///< of a failure: index into the plan's parts
  double seconds = 0;
};

/// Reads with threads that live as long as the pool. Without threads a read is done when it is submitted. Jobs start in
/// the order of submission. Allocates at construction only.
class reader_pool {
 public:
  /// At most `capacity` jobs may be under way. Fewer threads than asked for are started if the system gives no more.
  reader_pool(const read_plan& plan, weight_files& files, int readers, std::size_t capacity);
  /// Jobs that have not begun are dropped; the others are waited for.
  ~reader_pool();
  reader_pool(const reader_pool&) = delete;
  reader_pool& operator=(const reader_pool&) = delete;

  int readers() const;
  /// Jobs submitted and not taken yet.
  std::size_t outstanding() const { return outstanding_; }
  void submit(const read_job& job);
  /// A finished read, waiting at most `microseconds` for one; false: there is none yet.
  bool take(finished_read& out, std::int64_t microseconds);

 private:
  struct state;
  std::unique_ptr<state> state_;
  std::size_t outstanding_ = 0;
};

}  // namespace berth::detail
