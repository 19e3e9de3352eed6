// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <string_view>
#include <vector>

module berth.exec;

import berth.base;
import berth.topology;

namespace berth::detail {
namespace {

bool before(const fault_trigger& a, const fault_trigger& b) {
  if (a.at != b.at) return a.at < b.at;
  if (a.begins != b.begins) return !a.begins;
  return a.fault < b.fault;
}

bool hits(const fault& f, std::uint64_t call) { return f.n != 0 && call >= f.n && call - f.n < f.times; }

fault single(fault_kind kind, std::uint64_t call) {
  fault f;
  f.kind = kind;
  f.n = call;
  return f;
}

/// Kinds that strike numbered calls, so that calls in a row can be written as one.
bool numbered(const fault& f) { return f.n != 0; }

}  // namespace

fault_injector::fault_injector(const fault_schedule& schedule, topology_view t, bool simulated,
                               std::pmr::memory_resource* memory, const machine_bounds& bounds)
    : schedule_(schedule.seed(), memory),
      injected_(schedule.seed(), memory),
      targets_(schedule.faults().size(), no_index, memory),
      active_(schedule.faults().size(), std::uint8_t{0}, memory),
      lost_(t.devices.size(), std::uint8_t{0}, memory),
      triggers_(memory),
      random_(schedule.seed()),
      bound_(bounds.faults),
      simulated_(simulated) {
  schedule_.reserve(schedule.faults().size());
  for (const auto& f : schedule.faults()) schedule_.add(f);
  injected_.reserve(bound_);
  resolve(t, simulated);
  add_triggers();
}

void fault_injector::resolve(topology_view t, bool simulated) {
  for (std::size_t i = 0; i < targets_.size(); ++i) {
    const auto found = target_of(schedule_.faults()[i], t, simulated);
    if (found)
      targets_[i] = *found;
    else if (supported_)
      supported_ = found.propagate();
  }
}

result<std::uint32_t> fault_injector::target_of(const fault& f, topology_view t, bool simulated) const {
  const bool timed = f.kind == fault_kind::segment || f.kind == fault_kind::slow || f.kind == fault_kind::stall;
  if (timed && !simulated)
    return fail(errc::unsupported, print(f), "only a simulated machine can be slowed down; leave this fault out");
  if (f.kind == fault_kind::segment) {
    for (std::size_t i = 0; i < t.segments.size(); ++i)
      if (t.segments[i].name == f.name) return static_cast<std::uint32_t>(i);
    text<416> known("the machine has no segment of this name; it has");
    for (std::size_t i = 0; i < t.segments.size(); ++i) known.append(i == 0 ? " " : ", ").append(t.segments[i].name);
    return fail(errc::invalid_argument, print(f), known);
  }
  if (f.device.empty()) return no_index;
  if (const auto d = t.find(f.device)) return *d;
  text<416> known("the machine has no device of this id; it has");
  for (std::size_t i = 0; i < t.devices.size(); ++i) known.append(i == 0 ? " " : ", ").append(t.devices[i].id.view());
  return fail(errc::unknown_device, print(f), known);
}

void fault_injector::add_triggers() {
  triggers_.reserve(2 * schedule_.faults().size());
  for (std::uint32_t i = 0; i < targets_.size(); ++i) {
    const auto& f = at(i);
    const bool timed = f.kind == fault_kind::segment || f.kind == fault_kind::slow || f.kind == fault_kind::lost;
    if (!timed || targets_[i] == no_index) continue;
    triggers_.push_back({f.from, i, true});
    if (f.kind != fault_kind::lost && f.lasting < never - f.from) triggers_.push_back({f.from + f.lasting, i, false});
  }
  std::sort(triggers_.begin(), triggers_.end(), before);
}

fault_trigger fault_injector::take_trigger() {
  const auto t = triggers_[applied_++];
  active_[t.fault] = t.begins ? 1 : 0;
  if (at(t.fault).kind == fault_kind::lost) lost_[targets_[t.fault]] = 1;
  return t;
}

double fault_injector::product(fault_kind kind, std::uint32_t target) const {
  double p = 1;
  for (std::uint32_t i = 0; i < targets_.size(); ++i)
    if (active_[i] != 0 && targets_[i] == target && at(i).kind == kind) p *= at(i).factor;
  return p;
}

call_faults fault_injector::allocation(device_index device, bytes size) {
  call_faults out;
  ++allocations_;
  for (std::uint32_t i = 0; i < targets_.size(); ++i) {
    const auto& f = at(i);
    const bool random = strikes(f);
    if (out.spoils) continue;
    // A device that the machine does not have is never meant, instead of any.
    const bool here = f.device.empty() || targets_[i] == device;
    const bool sized = f.kind == fault_kind::alloc && !numbered(f) && size > f.above && here;
    if (sized) {
      out.spoils = true;
      out.spoiling = f;
    } else if (random || (f.kind == fault_kind::alloc && hits(f, allocations_))) {
      out.spoils = true;
      out.spoiling = single(fault_kind::alloc, allocations_);
    }
  }
  return out;
}

/// A whole number of milliseconds up to 100, so that the printed fault is short.
fault fault_injector::random_stall() {
  auto f = single(fault_kind::stall, copies_ + reads_);
  f.lasting = static_cast<picoseconds>(1 + random_.next() % 100) * 1'000'000'000;
  return f;
}

call_faults fault_injector::transfer(fault_kind kind) {
  call_faults out;
  auto& calls = kind == fault_kind::read ? reads_ : copies_;
  ++calls;
  for (const auto& f : std::span<const fault>(schedule_.faults())) {
    bool spoils = f.kind == kind && hits(f, calls);
    if (strikes(f)) {
      const bool stalls = simulated_ && random_.next() % 2 == 0;
      spoils = spoils || !stalls;
      if (stalls && !out.stalls) {
        out.stalls = true;
        out.stalling = random_stall();
      }
    }
    if (spoils && !out.spoils) {
      out.spoils = true;
      out.spoiling = single(kind, calls);
    }
    if (f.kind == fault_kind::stall && hits(f, copies_ + reads_) && simulated_ && !out.stalls) {
      out.stalls = true;
      out.stalling = single(fault_kind::stall, copies_ + reads_);
      out.stalling.lasting = f.lasting;
    }
  }
  return out;
}

void fault_injector::happened(const fault& f) {
  for (auto& g : injected_.faults()) {
    if (!numbered(f) && g == f) return;
    if (!numbered(f) || g.kind != f.kind || g.lasting != f.lasting || g.n + g.times != f.n) continue;
    ++g.times;
    return;
  }
  if (room())
    injected_.add(f);
  else
    ++unlisted_;
}

failure fault_injector::error_of(errc code, std::string_view subject, const fault& f, bytes needed) const {
  return {explained(error{code, subject, text<416>("injected: ").append(print(f)), needed, 0})};
}

error fault_injector::explained(error e) const {
  if (injected_.empty()) return e;
  e.detail.append("; reproduce with ");
  bool first = true;
  for (const auto& f : injected_.faults()) {
    if (!first) e.detail.append(";");
    e.detail.append(print(f));
    first = false;
  }
  return e;
}

}  // namespace berth::detail
