// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

export module berth.topology:device;

import berth.base;
import :ids;

export namespace berth {

/// Arithmetic classes that hardware rates are quoted for. `half` is bf16 or f16.
enum class rate_class : std::uint8_t { f32, half, fp8, int8 };
inline constexpr std::size_t rate_class_count = 4;

constexpr std::string_view name_of(rate_class c) {
  switch (c) {
    case rate_class::f32:
      return "f32";
    case rate_class::half:
      return "half";
    case rate_class::fp8:
      return "fp8";
    case rate_class::int8:
      return "int8";
  }
  return "unknown";
}

/// The class in which a matrix product with weights of type `t` runs.
constexpr rate_class rate_class_of(dtype t) {
  switch (t) {
    case dtype::f32:
    case dtype::f64:
      return rate_class::f32;
    case dtype::f8_e4m3:
    case dtype::f8_e5m2:
    case dtype::f8_e4m3fnuz:
    case dtype::f8_e5m2fnuz:
    case dtype::f8_e8m0:
    case dtype::f4:
    case dtype::f6_e2m3:
    case dtype::f6_e3m2:
      return rate_class::fp8;
    case dtype::i8:
    case dtype::u8:
      return rate_class::int8;
    default:
      return rate_class::half;
  }
}

/// One device: what it holds and how fast it works. Rates of 0 are unknown (or, on a disk, absent).
struct device {
  device_id id;
  device_kind kind = device_kind::gpu;
  accelerator_api api = accelerator_api::none;
  text<64> model;

  bytes memory = 0;       ///< what the device itself reports, never the marketing number
  bytes free = 0;         ///< usable estimate: detected free memory, or `memory - context`
  bytes granularity = 1;  ///< arenas are rounded up to this (CUDA: 2 MiB)
  bytes context = 0;      ///< taken by the driver's context, or by the operating system on the CPU
  /// Device whose memory this one uses (an integrated GPU's CPU); then `memory` and `free` are 0 here, so that
  /// one pool is never counted twice. `no_index`: its own.
  device_index shares_memory_of = no_index;

  /// Nominal dense matrix rates in FLOP/s (int8: operations/s) by `rate_class`; 0: the device has no such units.
  std::array<double, rate_class_count> peak_flops{};
  double compute_efficiency = 1;    ///< share of the peak that large matrix products reach, in (0, 1]
  double peak_bandwidth = 0;        ///< nominal memory rate, bytes/s
  double bandwidth_efficiency = 1;  ///< share of it that long reads reach, in (0, 1]
  /// Fixed cost per atom in seconds (kernel launches). With it the rate reached grows with the bytes of an atom, as
  /// it does on fast-memory GPUs.
  double overhead = 0;

  int numa_node = -1;  ///< -1: unknown
  int cores = 0;       ///< of a CPU; 0: unknown
  /// Segment that this device's own memory traffic crosses (DRAM, disk), which copies share; `no_index`: none.
  segment_index memory_segment = no_index;

  /// Achievable rate in FLOP/s. A class without units falls back to the next wider one that has a rate
  /// (fp8, int8 -> half -> f32): weights are then converted before the product.
  constexpr double flops(rate_class c) const {
    double peak = peak_flops[static_cast<std::size_t>(c)];
    if (peak == 0 && (c == rate_class::fp8 || c == rate_class::int8))
      peak = peak_flops[static_cast<std::size_t>(rate_class::half)];
    if (peak == 0) peak = peak_flops[static_cast<std::size_t>(rate_class::f32)];
    return peak * compute_efficiency;
  }
  constexpr double flops(dtype t) const { return flops(rate_class_of(t)); }
  /// Achievable memory rate in bytes/s.
  constexpr double bandwidth() const { return peak_bandwidth * bandwidth_efficiency; }
  /// Disks store, they do not execute.
  constexpr bool executes() const { return kind != device_kind::disk; }

  friend constexpr bool operator==(const device&, const device&) = default;
};

}  // namespace berth
