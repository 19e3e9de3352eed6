// SPDX-License-Identifier: Apache-2.0
module;

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

export module berth.host:measure;

import berth.topology;
import :facts;

export namespace berth::host {

/// Time since any fixed moment; never goes back. Called by the measuring thread only; copies tell the same time.
using stopwatch = std::function<picoseconds()>;
/// The monotonic clock of the operating system.
picoseconds steady_time();

/// One measured quantity: bytes/s, FLOP/s or seconds.
struct figure {
  double value = 0;  ///< memory and products: the best repetition (others can only slow them down); else the median
  double low = 0;
  double high = 0;
  int repetitions = 0;
  /// (high - low) / value
  double spread() const { return (high - low) / value; }
};

/// Median (of an even number the mean of the two in the middle) and extremes of the repetitions. Error: `unavailable`
/// if there is none or one is not positive and finite, as with a clock that stands still.
result<figure> summarise(std::string_view what, std::vector<double> repetitions);

/// How a measurement is made. It repeats until `budget` is over, at least three times: a slow machine takes longer.
struct measure_options {
  stopwatch now = steady_time;
  picoseconds budget = 1'000'000'000'000;
  int workers = 1;  ///< threads at work; all are joined before a function returns
};

/// Bytes of all last-level caches of the host together, from /sys; 0: not known.
bytes last_level_cache(const std::string& root = "/");
/// Memory to measure with: four times the caches, 64 MiB to 1 GiB, at most an eighth of what is available.
bytes memory_buffer(bytes available, bytes cache);

struct memory_figures {
  figure read;  ///< bytes/s
  figure copy;  ///< bytes/s, bytes read and bytes written both counted
};
/// Reads `buffer` bytes from end to end with all workers, then copies its first half to its second. Errors: `capacity`
/// (no such memory), `unavailable` (no threads), `corrupted`.
result<memory_figures> measure_memory(const measure_options& o, bytes buffer);

/// FLOP/s of f32 matrix products of 96 x 128 by 128 x 512 in L2 cache, one per worker at a time, with the widest
/// vectors that the processor has. Errors: `unavailable`, `corrupted`.
result<figure> measure_products(const measure_options& o);

/// Seconds to wake all workers, have them do nothing and see that all are done. Error: `unavailable`.
result<figure> measure_handover(const measure_options& o);

struct disk_figures {
  figure read;          ///< bytes/s, one read of 4 MiB at a time
  figure latency;       ///< s, reads of 4 KiB at scattered places
  bytes file = 0;       ///< size of the temporary file
  bool direct = false;  ///< past the page cache (O_DIRECT); else the kernel was asked to drop the file's pages
};
/// Writes a temporary file of at most `most` bytes into `folder`, a quarter of the free space and what a third of the
/// budget allows, and reads it. The file has no name while it is in use, so that nothing is left behind however the
/// process ends. Errors: `invalid_argument` (folder missing or not writable), `capacity` (no space, with the bytes),
/// `unreadable` (reading or writing failed), `unavailable`, `corrupted`.
result<disk_figures> measure_disk(const measure_options& o, const std::string& folder, bytes most);

struct host_options {
  stopwatch now = steady_time;
  double seconds = 5;                 ///< for everything together; positive
  std::optional<std::string> folder;  ///< where to measure storage; nothing: not at all
};
struct host_figures {
  memory_figures memory;
  figure products;  ///< FLOP/s
  figure handover;  ///< s
  std::optional<disk_figures> disk;
  std::vector<std::string> notes;  ///< what a user should know about the figures, in sentences
};
/// Measures the host with one worker per core of `f`. Errors: as the functions above.
result<host_figures> measure_host(const facts& f, const host_options& o);

/// `t` with the CPU, memory and disk of this host (`host`, from `topology_of`) and the measured figures, as rates that
/// are reached in full (efficiency 1). GPUs and all their links stay as they are. Rates of other types than f32 keep
/// what was reached of them. Error: `unknown_device` if `t` has no CPU.
result<topology> calibrated(const topology& t, const topology& host, const host_figures& m);

}  // namespace berth::host

// For the implementation units of this module only.
namespace berth::host {

/// Calls `once` for its result until the budget is over or there are `most` results, at least three times, and
/// summarises. The first call warms up and does not count.
result<figure> repeat(std::string_view what, const measure_options& o, int most,
                      const std::function<result<double>()>& once);

/// Repeats one matrix product `times` times; C has 96 x 512 entries and ends up with `product_entry` in each.
class product_task {
 public:
  product_task();
  void run(int times);
  bool correct() const;
  static double flops();

 private:
  std::vector<float> a_, b_, c_;
};

}  // namespace berth::host
