// SPDX-License-Identifier: Apache-2.0
module;

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

module berth.host;

import :crew;

namespace berth::host {

picoseconds steady_time() {
  const auto t = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(t).count() * 1000;
}

result<figure> summarise(std::string_view what, std::vector<double> v) {
  if (v.empty()) return fail(errc::unavailable, what, "was never measured");
  for (const double x : v)
    if (!(x > 0) || !std::isfinite(x))
      return fail(errc::unavailable, what, "gave no positive figure: the clock stands still or is too coarse");
  std::sort(v.begin(), v.end());
  const auto half = v.size() / 2;
  figure f;
  f.value = v.size() % 2 == 1 ? v[half] : v[half - 1] + (v[half] - v[half - 1]) / 2;
  f.low = v.front();
  f.high = v.back();
  f.repetitions = static_cast<int>(v.size());
  return f;
}

result<figure> repeat(std::string_view what, const measure_options& o, int most,
                      const std::function<result<double>()>& once) {
  constexpr int least = 3;
  const auto begin = o.now();
  if (auto warm = once(); !warm) return warm.propagate();
  std::vector<double> found;
  for (int i = 0; i < most && (i < least || o.now() - begin < o.budget); ++i) {
    auto r = once();
    if (!r) return r.propagate();
    found.push_back(*r);
  }
  return summarise(what, std::move(found));
}

bytes last_level_cache(const std::string& root) {
  bytes sum = 0;
  std::set<std::string> seen;  // CPUs that share a cache all name it
  for (int cpu = 0; cpu < 4096; ++cpu) {
    std::string last;
    // Level by level; index0 and index1 are the first.
    const auto folder = root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cache/index";
    for (int i = 0; i < 8 && !read_text(folder + std::to_string(i), "/size").empty(); ++i)
      last = folder + std::to_string(i);
    if (last.empty()) {
      if (cpu > 0 && read_text(root, "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/uevent").empty()) break;
      continue;  // offline
    }
    if (!seen.insert(read_text(last, "/shared_cpu_list")).second) continue;
    const auto size = read_text(last, "/size");
    const auto unit = size.find('M') != std::string::npos ? MiB : KiB;
    sum += std::min<bytes>(number_at(size).value_or(0), MiB) * unit;
  }
  return sum;
}

bytes memory_buffer(bytes available, bytes cache) {
  constexpr bytes smallest = 64 * MiB, largest = GiB;
  return std::min(std::clamp(4 * std::min(cache, largest), smallest, largest), available / 8);
}

namespace {

using std::size_t;

/// Anonymous memory that the workers touch first, so that each has its part on its own NUMA node.
class mapping {
 public:
  explicit mapping(size_t size) : size_(size) {
    at_ = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at_ != MAP_FAILED) ::madvise(at_, size, MADV_HUGEPAGE);
  }
  mapping(const mapping&) = delete;
  mapping& operator=(const mapping&) = delete;
  ~mapping() {
    if (at_ != MAP_FAILED) ::munmap(at_, size_);
  }
  std::uint64_t* words() const { return at_ == MAP_FAILED ? nullptr : static_cast<std::uint64_t*>(at_); }

 private:
  size_t size_;
  void* at_;
};

std::uint64_t sum_of(const std::uint64_t* p, size_t n) {
  std::uint64_t sum = 0;
  for (size_t i = 0; i < n; ++i) sum += p[i];
  return sum;
}

/// What others take from a processor or from memory only ever lowers a rate.
figure best(figure f) {
  f.value = f.high;
  return f;
}

/// Amount per second of one job of the whole crew.
result<double> rate_of(const stopwatch& now, crew& c, double amount, const std::function<void(int)>& job) {
  const auto begin = now();
  c.run(job);
  return amount / seconds_from(now() - begin);
}

}  // namespace

result<memory_figures> measure_memory(const measure_options& o, bytes buffer) {
  auto team = crew::start(o.workers);
  if (!team) return team.propagate();
  auto& c = **team;
  // Each worker has `part` words of either half, whole pages.
  constexpr size_t page_words = 4096 / sizeof(std::uint64_t);
  const auto workers = static_cast<size_t>(c.size());
  const auto part = buffer / sizeof(std::uint64_t) / 2 / workers / page_words * page_words;
  if (part == 0) return fail(errc::capacity, "memory", "too little is free to measure with", workers * 8192, buffer);
  const auto half = part * workers;
  const mapping memory(2 * half * sizeof(std::uint64_t));
  auto* const words = memory.words();
  if (words == nullptr)
    return fail(errc::capacity, "memory", "the system refuses the buffer", 2 * half * sizeof(std::uint64_t));
  const auto first = [&](int worker) { return words + static_cast<size_t>(worker) * part; };
  c.run([&](int w) {
    std::fill_n(first(w), part, 1u);
    std::fill_n(first(w) + half, part, 1u);
  });

  auto shared = o;
  shared.budget = o.budget / 2;
  const double amount = static_cast<double>(2 * half * sizeof(std::uint64_t));
  std::vector<std::uint64_t> sums(workers);
  const auto read = repeat("memory read", shared, 1000, [&]() -> result<double> {
    auto r = rate_of(o.now, c, amount, [&](int w) {
      sums[static_cast<size_t>(w)] = sum_of(first(w), part) + sum_of(first(w) + half, part);
    });
    for (const auto s : sums)
      if (s != 2 * part) return fail(errc::corrupted, "memory", "words that were written do not read back");
    return r;
  });
  if (!read) return read.propagate();
  const auto copy = repeat("memory copy", shared, 1000, [&] {
    return rate_of(o.now, c, amount,
                   [&](int w) { std::memcpy(first(w) + half, first(w), part * sizeof(std::uint64_t)); });
  });
  if (!copy) return copy.propagate();
  return memory_figures{best(*read), best(*copy)};
}

result<figure> measure_products(const measure_options& o) {
  auto team = crew::start(o.workers);
  if (!team) return team.propagate();
  auto& c = **team;
  std::vector<product_task> tasks(static_cast<size_t>(c.size()));
  const auto timed = [&](int times) -> result<double> {
    auto r = rate_of(o.now, c, product_task::flops() * times * c.size(),
                     [&](int w) { tasks[static_cast<size_t>(w)].run(times); });
    for (const auto& t : tasks)
      if (!t.correct()) return fail(errc::corrupted, "f32 product", "the processor's result is wrong");
    return r;
  };
  // As many products per repetition as give ten repetitions: handing them over must not count.
  constexpr int most = 256;
  const auto begin = o.now();
  if (auto first = timed(1); !first) return first.propagate();
  const auto elapsed = std::max<picoseconds>(o.now() - begin, 1);
  const int times = static_cast<int>(std::clamp<picoseconds>(o.budget / 10 / elapsed, 1, most));
  return repeat("f32 product", o, 1000, [&] { return timed(times); }).transform(best);
}

result<figure> measure_handover(const measure_options& o) {
  auto team = crew::start(o.workers);
  if (!team) return team.propagate();
  return repeat("hand-over", o, 2000, [&]() -> result<double> {
    const auto begin = o.now();
    (*team)->run([](int) {});
    return seconds_from(o.now() - begin);
  });
}

}  // namespace berth::host
