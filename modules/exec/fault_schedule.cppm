// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <string>
#include <string_view>
#include <vector>

export module berth.exec:fault_schedule;

import berth.base;
import berth.topology;

export namespace berth {

enum class fault_kind : std::uint8_t { alloc, copy, segment, slow, lost, read, stall, random };
inline constexpr std::size_t fault_kind_count = 8;

constexpr std::string_view name_of(fault_kind k) {
  constexpr std::array<std::string_view, fault_kind_count> names{"alloc", "copy", "segment", "slow",
                                                                 "lost",  "read", "stall",   "random"};
  const auto i = static_cast<std::size_t>(k);
  return i < names.size() ? names[i] : "unknown";
}

/// One thing that goes wrong. Which members count depends on the kind; calls are counted from 1 over all devices,
/// whether they succeed or not.
///
/// | text | what happens |
/// |---|---|
/// | `alloc:n=3[,times=K]` | the 3rd allocation fails with `out_of_memory`, and the K - 1 after it |
/// | `alloc:above=1GiB[,device=0]` | so does every one above a size |
/// | `copy:n=5[,times=K]` | the 5th copy fails with `copy_failed` |
/// | `segment:name=pcie 0 in,factor=0.1[,from=10ms][,for=100ms]` | the segment keeps this share of its capacity |
/// | `slow:device=1,factor=3[,from=10ms][,for=100ms]` | launches submitted meanwhile take so many times as long |
/// | `lost:device=0[,at=1s]` | every later call that involves the device fails with `device_lost` |
/// | `read:n=2[,times=K]` | the 2nd read gets the bytes one before those asked for (one after, at offset 0) |
/// | `stall:n=4[,times=K][,for=50ms]` | the 4th copy or read takes so much longer; without `for` it never ends |
/// | `random:rate=0.01` | each allocation, copy and read goes wrong with this probability |
struct fault {
  fault_kind kind = fault_kind::alloc;
  std::uint64_t n = 0;          ///< first call concerned; 0: `above` decides
  std::uint64_t times = 1;      ///< calls concerned, one behind the other
  bytes above = 0;              ///< alloc without n: larger ones fail; below 10^18, as sizes have 18 digits
  device_id device;             ///< empty: any
  text<48> name;                ///< of a segment
  double factor = 1;            ///< segment: in (0, 1]; slow: from 1 on
  double rate = 0;              ///< in [0, 1]
  picoseconds from = 0;         ///< machine time at which it begins; lost: `at`
  picoseconds lasting = never;  ///< segment, slow: how long; stall: the extra time

  friend constexpr bool operator==(const fault&, const fault&) = default;
};

/// The text of one fault, as `parse_faults` reads it; defaults are left out.
text<160> print(const fault& f);

/// What goes wrong in a run: faults in the order of their text, and the seed of the random ones. A value; equal
/// schedules give equal runs.
class fault_schedule {
 public:
  explicit fault_schedule(std::uint64_t seed = 0, std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : faults_(memory), seed_(seed) {}

  void add(const fault& f) { faults_.push_back(f); }
  void reserve(std::size_t n) { faults_.reserve(n); }
  std::span<const fault> faults() const { return faults_; }
  std::span<fault> faults() { return faults_; }
  std::uint64_t seed() const { return seed_; }
  bool empty() const { return faults_.empty(); }

  friend bool operator==(const fault_schedule&, const fault_schedule&) = default;

 private:
  std::pmr::vector<fault> faults_;
  std::uint64_t seed_;
};

/// Most faults that a text may hold.
inline constexpr std::size_t max_faults = 4096;

/// Reads `kind:key=value,...`, several separated by `;` (blanks after it are ignored); no text: no faults. Times are
/// decimal numbers with ps, ns, us, ms or s, whole picoseconds; sizes are as `parse_size` takes them. Names of devices
/// and segments are taken as they are (the machine says whether it has them) and cannot contain `,` or `;`.
/// Errors: `invalid_argument` with the piece of text that is wrong and what is allowed there; `capacity` beyond
/// `max_faults`. Linear in the text.
result<fault_schedule> parse_faults(std::string_view text, std::uint64_t seed,
                                    std::pmr::memory_resource* memory = std::pmr::get_default_resource());

/// The text of a schedule, without its seed. `parse_faults` of it, with the same seed, gives the schedule again.
std::pmr::string print(const fault_schedule& s, std::pmr::memory_resource* memory = std::pmr::get_default_resource());

}  // namespace berth

namespace berth::detail {

/// splitmix64: the seeded generator of random faults, the same everywhere.
class splitmix64 {
 public:
  explicit constexpr splitmix64(std::uint64_t seed) : state_(seed) {}

  constexpr std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15u;
    auto z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// In [0, 1), multiples of 2^-53.
  constexpr double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  std::uint64_t state_;
};

}  // namespace berth::detail
