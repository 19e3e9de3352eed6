// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <string_view>
#include <vector>

export module berth.exec:fault_injector;

import berth.base;
import berth.topology;
import :bounds;
import :fault_schedule;

namespace berth::detail {

/// What goes wrong with one call: at most one fault of each sort.
struct call_faults {
  bool spoils = false;  ///< an allocation or a copy fails, a read gets other bytes
  bool stalls = false;  ///< a copy or a read
  fault spoiling, stalling;
};

/// A moment of machine time at which a fault begins or ends.
struct fault_trigger {
  picoseconds at = 0;
  std::uint32_t fault = 0;  ///< position in the schedule
  bool begins = true;
};

/// The part of `faulty` that does not depend on the machine: counts calls, decides what goes wrong, and keeps the list
/// of what did.
class fault_injector {
 public:
  /// `simulated`: the machine honours delays and throttles.
  fault_injector(const fault_schedule& schedule, topology_view t, bool simulated, std::pmr::memory_resource* memory,
                 const machine_bounds& bounds);

  const result<done>& supported() const { return supported_; }
  const fault_schedule& injected() const { return injected_; }
  std::size_t unlisted() const { return unlisted_; }

  /// To be asked once per call of the machine, in their order; decides, but injects nothing yet.
  call_faults allocation(device_index device, bytes size);
  call_faults transfer(fault_kind kind);  ///< copy or read

  /// The next trigger's time; `never` without one.
  picoseconds next_trigger() const { return applied_ < triggers_.size() ? triggers_[applied_].at : never; }
  /// Takes the next trigger off. Precondition: there is one.
  fault_trigger take_trigger();
  const fault& at(std::uint32_t i) const { return schedule_.faults()[i]; }
  std::uint32_t target(std::uint32_t i) const { return targets_[i]; }

  bool lost(device_index d) const { return d < lost_.size() && lost_[d] != 0; }
  /// Product of the factors of all faults that slow this device now; of all that narrow this segment.
  double slowdown(device_index d) const { return product(fault_kind::slow, d); }
  double share(segment_index s) const { return product(fault_kind::segment, s); }

  /// Lists a fault that has been injected; calls in a row make one entry.
  void happened(const fault& f);
  /// An error that says what was injected and the schedule of all that was, last included.
  failure error_of(errc code, std::string_view subject, const fault& f, bytes needed = 0) const;
  /// For an error of the machine itself, which may follow from what was injected.
  error explained(error e) const;

 private:
  void resolve(topology_view t, bool simulated);
  result<std::uint32_t> target_of(const fault& f, topology_view t, bool simulated) const;
  void add_triggers();
  /// Whether a random fault strikes this call. Draws the same numbers in every run.
  bool strikes(const fault& f) { return f.kind == fault_kind::random && random_.unit() < f.rate && room(); }
  bool room() const { return injected_.faults().size() < bound_; }
  fault random_stall();
  double product(fault_kind kind, std::uint32_t target) const;

  fault_schedule schedule_;
  fault_schedule injected_;
  std::pmr::vector<std::uint32_t> targets_;   // per fault: its device or segment; no_index: any, or none
  std::pmr::vector<std::uint8_t> active_;     // per fault: between its triggers
  std::pmr::vector<std::uint8_t> lost_;       // per device
  std::pmr::vector<fault_trigger> triggers_;  // by time, ends first, then by position
  std::size_t applied_ = 0;                   // of them
  std::uint64_t allocations_ = 0, copies_ = 0, reads_ = 0;
  splitmix64 random_;
  std::size_t bound_;
  std::size_t unlisted_ = 0;
  bool simulated_;
  result<done> supported_ = done{};
};

}  // namespace berth::detail
