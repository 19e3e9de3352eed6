// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

export module berth.plan:strategies;

import berth.model;
import berth.topology;
import :problem;
import :balance;
import :balance_in_order;
import :fill;
import :strategy;

namespace berth::detail {

constexpr std::span<const seat> gpus_of(const problem_view& p) { return p.seats.first(gpu_count(p)); }

/// What every multi-device strategy does when its own rule finds no plan on the GPUs: keep the model on the executing
/// devices in any other way, and only then offload.
constexpr result<done> spread_or_offload(const problem_view& p, std::string_view name, std::span<placement> out,
                                         std::span<std::uint64_t> scratch) {
  const auto gpus = gpu_count(p);
  const std::uint32_t executors = gpus > 0 ? gpus : (find_seat(p, device_kind::cpu) == none ? 0 : 1);
  if (keep_on(p, executors, out, scratch)) return done{};
  if (offloader(p, scratch).solve(out)) return done{};
  return does_not_fit(p, name);
}

constexpr result<done> everything_on(const problem_view& p, seat_index s, std::string_view name,
                                     std::span<placement> out) {
  for (auto& o : out) o = {s, s};
  const bytes needed = total_load(p);
  if (p.seats[s].kind == device_kind::disk)
    return fail(errc::unsupported, p.seats[s].id.view(),
                "a disk stores weights, it cannot execute; place on a GPU or the CPU");
  if (needed > p.seats[s].limit)
    return fail(errc::does_not_fit, p.seats[s].id.view(),
                text<256>("strategy ")
                    .append(name)
                    .append(": the model needs ")
                    .append(needed)
                    .append(" bytes on this device, ")
                    .append(needed - p.seats[s].limit)
                    .append(" more than its budget of ")
                    .append(p.seats[s].limit)
                    .append("; use another strategy, a larger budget or a smaller dtype"),
                needed, p.seats[s].limit);
  return done{};
}

constexpr void take_parts(std::span<const balancer::part> parts, std::span<placement> out) {
  for (const auto& part : parts)
    for (auto i = part.begin; i < part.end; ++i) out[i] = {part.seat, part.seat};
}

inline constexpr std::size_t max_parts = 64;

constexpr failure too_many_kinds(std::string_view name) {
  return fail(errc::capacity, name,
              "too many GPUs with different budgets for an exact balance; give equal budgets to some");
}

}  // namespace berth::detail

export namespace berth {

/// Fills the devices in order, each as far as it goes. Holes are back-filled when a later atom needs them; the CPU and
/// the disk are used only if no placement on the GPUs is found (first fit, then exact search within
/// `max_packing_steps`). O(atoms) when the plain fill succeeds.
struct Sequential {
  constexpr std::string_view name() const { return "sequential"; }
  constexpr std::size_t scratch_cells(const problem_view& p) const { return fill_cells(p); }
  constexpr result<done> solve(const problem_view& p, std::span<placement> out,
                               std::span<std::uint64_t> scratch) const {
    return detail::spread_or_offload(p, name(), out, scratch);
  }
};

/// Even load: the exact minimum of the maximum of load / budget over the GPUs, contiguous in chain order (see
/// `balancer` for the tie rules). If the GPUs cannot hold the model in contiguous parts: any placement on them, then
/// offload. Exponential only in the number of different budgets.
struct Balanced {
  constexpr std::string_view name() const { return "balanced"; }
  constexpr std::size_t scratch_cells(const problem_view& p) const {
    const auto a = balancer::cells(p, detail::gpus_of(p)), b = fill_cells(p);
    return a > b ? a : b;
  }
  constexpr result<done> solve(const problem_view& p, std::span<placement> out,
                               std::span<std::uint64_t> scratch) const {
    const auto gpus = detail::gpus_of(p);
    if (gpus.size() < 2) return detail::spread_or_offload(p, name(), out, scratch);
    if (gpus.size() > detail::max_parts || balancer::count_sets(gpus, none) > max_cover_sets ||
        scratch.size() < scratch_cells(p))
      return detail::too_many_kinds(name());
    balancer b(p, gpus, none, scratch);
    if (!b.feasible(0)) return detail::spread_or_offload(p, name(), out, scratch);
    std::array<balancer::part, detail::max_parts> parts;
    const auto n = b.choose(b.best_ratio(true), parts);
    detail::take_parts(std::span(parts).first(n), out);
    return done{};
  }
};

/// As `Balanced`, with the GPUs in use appearing in topology order along the chain (see `ordered_balancer`).
struct BalancedInOrder {
  constexpr std::string_view name() const { return "balanced_in_order"; }
  constexpr std::size_t scratch_cells(const problem_view& p) const {
    const auto a = ordered_balancer::cells(p, gpu_count(p)), b = fill_cells(p);
    return a > b ? a : b;
  }
  constexpr result<done> solve(const problem_view& p, std::span<placement> out,
                               std::span<std::uint64_t> scratch) const {
    const auto gpus = detail::gpus_of(p);
    if (gpus.size() > detail::max_parts) return detail::too_many_kinds(name());
    if (gpus.size() < 2) return detail::spread_or_offload(p, name(), out, scratch);
    std::array<balancer::part, detail::max_parts> parts;
    ordered_balancer b(p, gpus, scratch);
    bool found = false;
    const auto best = b.best_ratio(true, found);
    const auto n = found ? b.choose(best, parts) : 0;
    if (n == 0) return detail::spread_or_offload(p, name(), out, scratch);
    detail::take_parts(std::span(parts).first(n), out);
    return done{};
  }
};

/// As `Balanced`, but the first GPU is as empty as the other GPUs allow (it is wanted for generation and batching):
/// first its load is minimised exactly, then the others are balanced.
struct BalancedLow0 {
  constexpr std::string_view name() const { return "balanced_low_0"; }
  constexpr std::size_t scratch_cells(const problem_view& p) const {
    // The first GPU is a type of its own here, which at most doubles the number of sets.
    const auto gpus = detail::gpus_of(p);
    const auto a = balancer::cells(p, gpus) + 3 * static_cast<std::size_t>(balancer::count_sets(gpus, 0)),
               b = fill_cells(p);
    return a > b ? a : b;
  }
  constexpr result<done> solve(const problem_view& p, std::span<placement> out,
                               std::span<std::uint64_t> scratch) const {
    const auto gpus = detail::gpus_of(p);
    if (gpus.size() < 2) return detail::spread_or_offload(p, name(), out, scratch);
    if (gpus.size() > detail::max_parts || balancer::count_sets(gpus, 0) > max_cover_sets ||
        scratch.size() < scratch_cells(p))
      return detail::too_many_kinds(name());
    balancer b(p, gpus, 0, scratch);
    bytes low = 0;
    if (!b.smallest_special_load(low) || !b.feasible(low)) return detail::spread_or_offload(p, name(), out, scratch);
    std::array<balancer::part, detail::max_parts> parts;
    const auto n = b.choose(b.best_ratio(true), parts);
    detail::take_parts(std::span(parts).first(n), out);
    return done{};
  }
};

/// Everything on one device.
struct Single {
  device_id device;
  constexpr std::string_view name() const { return "single"; }
  constexpr std::size_t scratch_cells(const problem_view&) const { return 0; }
  constexpr result<done> solve(const problem_view& p, std::span<placement> out, std::span<std::uint64_t>) const {
    const auto s = find_seat(p, device);
    if (s == none)
      return fail(errc::unknown_device, device.view(),
                  "no such device, or it has no memory budget (see berth topology, --max-memory)");
    return detail::everything_on(p, s, name(), out);
  }
};

/// Everything on the CPU.
struct CpuOnly {
  constexpr std::string_view name() const { return "cpu"; }
  constexpr std::size_t scratch_cells(const problem_view&) const { return 0; }
  constexpr result<done> solve(const problem_view& p, std::span<placement> out, std::span<std::uint64_t>) const {
    const auto s = find_seat(p, device_kind::cpu);
    if (s == none)
      return fail(errc::unknown_device, "cpu", "the CPU has no memory budget here; add cpu=SIZE to --max-memory");
    return detail::everything_on(p, s, name(), out);
  }
};

/// The rule for 8-bit models without a map: everything on the current accelerator (CUDA or ROCm, then NPU, then XPU),
/// else on the CPU. Source: the default map of transformers' bitsandbytes integration.
struct CurrentDevice {
  constexpr std::string_view name() const { return "current"; }
  constexpr std::size_t scratch_cells(const problem_view&) const { return 0; }
  constexpr result<done> solve(const problem_view& p, std::span<placement> out, std::span<std::uint64_t>) const {
    constexpr std::array order{accelerator_api::cuda, accelerator_api::hip, accelerator_api::npu, accelerator_api::xpu};
    for (const auto api : order)
      for (std::size_t i = 0; i < p.seats.size(); ++i)
        if (p.seats[i].kind == device_kind::gpu && p.seats[i].api == api)
          return detail::everything_on(p, static_cast<seat_index>(i), name(), out);
    const auto cpu = find_seat(p, device_kind::cpu);
    if (cpu == none)
      return fail(errc::unknown_device, "cpu", "no accelerator and no CPU budget; add a device to --max-memory");
    return detail::everything_on(p, cpu, name(), out);
  }
};

static_assert(Strategy<Sequential> && Strategy<Balanced> && Strategy<BalancedLow0> && Strategy<BalancedInOrder>);
static_assert(Strategy<Single> && Strategy<CpuOnly> && Strategy<CurrentDevice>);

}  // namespace berth
