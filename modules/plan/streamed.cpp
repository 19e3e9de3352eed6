// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

module berth.plan;

import :cells;

namespace berth {
namespace {

/// How one candidate is built.
struct recipe {
  std::uint32_t gpus = 0;      ///< how many of the GPUs, fastest memory first, hold and stream
  std::size_t on_cpu = 0;      ///< atoms that the CPU computes
  std::size_t streamed = 0;    ///< atoms that are streamed, spread evenly over the rest
  bool cpu_at_end = false;     ///< the CPU computes the last ones instead of the first
  bool lookup_on_cpu = false;  ///< the embedding, which reads a row per token, lies on the CPU
  bool prompt_on_gpu = false;  ///< what the CPU computes is streamed for the prompt
};

class builder {
 public:
  static std::size_t cells(const problem_view& p) {
    return cells_for<seat_index>(p.seats.size()) + room_ledger::cells(p.seats.size()) + 8;
  }
  builder(const problem_view& p, std::span<std::uint64_t> scratch)
      : p_(p), cpu_(find_seat(p, device_kind::cpu)), disk_(find_seat(p, device_kind::disk)), room_(p, scratch) {
    cell_cutter cut(scratch.subspan(room_ledger::cells(p.seats.size())));
    order_ = cut.take<seat_index>(p.seats.size());
    gpus_ = gpu_count(p);
    for (seat_index s = 0; s < gpus_; ++s) order_[s] = s;
    std::sort(order_.begin(), order_.begin() + gpus_, [&](seat_index a, seat_index b) {
      return p.seats[a].bandwidth != p.seats[b].bandwidth ? p.seats[a].bandwidth > p.seats[b].bandwidth : a < b;
    });
  }

  std::uint32_t gpus() const { return gpus_; }
  seat_index cpu() const { return cpu_; }

  /// False if the recipe does not fit.
  bool build(const recipe& r, std::span<placement> out) {
    room_.reset();
    for (auto& o : out) o = {};
    const auto n = out.size();
    if (r.on_cpu + r.streamed > n || (r.on_cpu > 0 && cpu_ == none) || r.gpus == 0) return false;
    const std::size_t first = r.lookup_on_cpu ? 1 : 0;
    if (r.lookup_on_cpu && !compute_on_cpu(0, false, r.gpus, out)) return false;
    const std::size_t cpu_begin = r.cpu_at_end ? n - std::min(r.on_cpu, n - first) : first;
    for (std::size_t i = cpu_begin; i < cpu_begin + r.on_cpu && i < n; ++i)
      if (!compute_on_cpu(static_cast<std::uint32_t>(i), r.prompt_on_gpu, r.gpus, out)) return false;
    return fill_gpus(r, out);
  }

 private:
  bool compute_on_cpu(std::uint32_t i, bool prompt_on_gpu, std::uint32_t gpus, std::span<placement> out) {
    if (cpu_ == none) return false;
    const bytes price = room_.price(out, i, cpu_);
    if (price <= room_.room(cpu_)) {
      room_.take(i, cpu_, price);
      out[i] = {cpu_, cpu_, prompt_on_gpu && gpus > 0 ? chain_seat(0, gpus) : none};
      return true;
    }
    // Weights that the CPU has no room for may come from the disk.
    if (disk_ == none || p_.staging_slots == 0 || p_.loads[i] > room_.room(disk_)) return false;
    const bytes running = room_.running_price(i, cpu_);
    if (running > room_.room(cpu_)) return false;
    room_.take(i, cpu_, running);
    room_.take_weights(disk_, p_.loads[i]);
    out[i] = {disk_, cpu_};
    return true;
  }

  /// The j-th of the chosen GPUs in topology order, so that neighbours in the chain are neighbours in the machine.
  seat_index chain_seat(std::uint32_t j, std::uint32_t gpus) const {
    std::uint32_t rank = 0;
    for (seat_index s = 0; s < gpus_; ++s) {
      bool in = false;
      for (std::uint32_t g = 0; g < gpus; ++g) in = in || order_[g] == s;
      if (in && rank++ == j) return s;
    }
    return none;
  }

  bool fill_gpus(const recipe& r, std::span<placement> out) {
    std::size_t open = 0;
    for (const auto& o : out) open += o.home == none ? 1 : 0;
    if (r.streamed > open) return false;
    // Slots are reserved where something may be streamed: for the largest atom that is.
    bytes slot = 0;
    for_spread(r.streamed, open, out, [&](std::uint32_t i) { slot = std::max(slot, p_.loads[i]); });
    const bool prompt_only = r.prompt_on_gpu && r.on_cpu > 0;
    bytes prompt_slot = 0, prompt_workspace = 0;
    if (prompt_only)
      for (std::uint32_t i = 0; i < out.size(); ++i)
        if (out[i].prompt != none) {
          prompt_slot = std::max(prompt_slot, p_.loads[i]);
          prompt_workspace = std::max(prompt_workspace, p_.workspace(i));
        }
    for (std::uint32_t g = 0; g < r.gpus; ++g) {
      const auto s = chain_seat(g, r.gpus);
      bytes kept = slot;
      if (g == 0) kept = std::max(kept, prompt_slot);
      kept = kept * p_.staging_slots + (g == 0 ? prompt_workspace : 0);
      if (kept > room_.room(s)) return false;
      room_.keep_back(s, kept);
    }
    std::uint32_t g = 0;
    std::size_t seen = 0;
    for (std::uint32_t i = 0; i < out.size(); ++i) {
      if (out[i].home != none) continue;
      const bool streams = (seen + 1) * r.streamed / open > seen * r.streamed / open;
      ++seen;
      if (!place(i, streams, g, r.gpus, out)) return false;
    }
    return true;
  }
  template <class Visit>
  void for_spread(std::size_t streamed, std::size_t open, std::span<const placement> out, Visit visit) const {
    std::size_t seen = 0;
    for (std::uint32_t i = 0; i < out.size(); ++i) {
      if (out[i].home != none) continue;
      if ((seen + 1) * streamed / open > seen * streamed / open) visit(i);
      ++seen;
    }
  }

  /// Atom i on the current GPU, or on the next ones when it is full.
  bool place(std::uint32_t i, bool streams, std::uint32_t& g, std::uint32_t gpus, std::span<placement> out) {
    for (; g < gpus; ++g) {
      const auto s = chain_seat(g, gpus);
      const bytes price = streams ? room_.running_price(i, s) : room_.price(out, i, s);
      if (price > room_.room(s)) continue;
      if (streams) {
        const auto store = cpu_ != none && added_weights(p_, out, i, cpu_) <= room_.room(cpu_) ? cpu_ : disk_;
        if (store == none) return false;
        const bytes weights = added_weights(p_, out, i, store);
        if (weights > room_.room(store)) return false;
        room_.take_weights(store, weights);
        room_.take(i, s, price);
        out[i] = {store, s};
      } else {
        room_.take(i, s, price);
        out[i] = {s, s};
      }
      return true;
    }
    return false;
  }

  problem_view p_;
  seat_index cpu_, disk_;
  std::span<seat_index> order_;
  room_ledger room_;
  std::uint32_t gpus_ = 0;
};

/// Numbers from 0 to n to try: all of a short chain, fewer of a long one.
std::size_t stride_of(std::size_t n) { return n <= 48 ? 1 : n / 32; }

std::size_t residents_cells(std::size_t atoms) {
  return cells_for<residency_atom>(atoms) + cells_for<std::uint8_t>(atoms) + residency_search_cells(atoms);
}

/// Tries recipes, keeps the cheapest placement in `best`.
class trial {
 public:
  trial(const problem_view& p, std::span<placement> best, std::span<std::uint64_t> scratch)
      : p_(p), best_(best), builder_(p, scratch) {
    scratch = scratch.subspan(builder::cells(p));
    cell_cutter cut(scratch);
    now_ = cut.take<placement>(best.size());
    rest_ = cut.rest();
  }
  static std::size_t cells(const problem_view& p) {
    return builder::cells(p) + cells_for<placement>(p.loads.size()) +
           std::max(evaluator::cells(p), residents_cells(p.loads.size())) + 8;
  }

  bool run() {
    const auto n = best_.size();
    const auto step = stride_of(n);
    const bool has_cpu = builder_.cpu() != none;
    for (std::uint32_t gpus = 1; gpus <= builder_.gpus(); gpus = next(gpus))
      for (const bool lookup : {false, true}) {
        if (lookup && (!has_cpu || n < 2)) continue;
        for (std::size_t on_cpu = 0; on_cpu + (lookup ? 1 : 0) <= n; on_cpu += step) {
          recipe r{.gpus = gpus, .on_cpu = on_cpu, .lookup_on_cpu = lookup};
          if (on_cpu > 0 && !has_cpu) break;
          least_streamed(r);
          if (on_cpu == 0) continue;
          r.cpu_at_end = true;
          least_streamed(r);
          if (p_.staging_slots == 0) continue;
          r.prompt_on_gpu = true;
          least_streamed(r);
          r.cpu_at_end = false;
          least_streamed(r);
        }
      }
    for (seat_index s = 0; s < builder_.gpus(); ++s) one_gpu_alone(s);
    return value_ < forever;
  }

 private:
  /// Everything runs on one GPU: there the choice of residents is solved by bytes and positions, not by numbers.
  void one_gpu_alone(seat_index gpu) {
    const auto cpu = builder_.cpu();
    if (p_.staging_slots == 0 || cpu == none || !p_.ties.empty()) return;
    const auto n = best_.size();
    // Sums of four rounds must fit 63 bits of picoseconds.
    const double longest_step = 1e6 / static_cast<double>(n);
    cell_cutter cut(rest_);
    const auto atoms = cut.take<residency_atom>(n);
    const auto streamed = cut.take<std::uint8_t>(n);
    for (std::size_t i = 0; i < n; ++i) {
      const double compute = atom_seconds(p_, i, gpu, phase::decode), copy = weight_copy_seconds(p_, i, cpu, gpu);
      if (!(compute < longest_step) || !(copy < longest_step)) return;
      atoms[i] = {p_.loads[i], p_.state(i), p_.workspace(i), whole_picoseconds(compute), whole_picoseconds(copy),
                  false};
    }
    const residency_problem problem{atoms, p_.seats[gpu].limit, p_.staging_slots};
    if (!choose_residents(problem, streamed, cut.rest())) return;
    for (std::size_t i = 0; i < n; ++i) now_[i] = {streamed[i] != 0 ? cpu : gpu, gpu};
    keep_if_better();
  }
  static picoseconds whole_picoseconds(double seconds) { return static_cast<picoseconds>(seconds * 1e12 + 0.5); }

  bool keep_if_better() {
    const evaluator e(p_, rest_);
    if (!e.fits(now_)) return false;
    const double v = e.value(now_);
    if (!(v < value_ * (1 - 1e-12))) return false;
    value_ = v;
    std::copy(now_.begin(), now_.end(), best_.begin());
    return true;
  }

  std::uint32_t next(std::uint32_t gpus) const {
    if (gpus == builder_.gpus()) return gpus + 1;
    return std::min(gpus * 2, builder_.gpus());
  }
  /// The fewest streamed atoms that fit, and a few more: more of them never hurts memory but may smooth the copies.
  void least_streamed(recipe r) {
    const auto n = best_.size();
    const auto step = stride_of(n);
    const auto most = p_.staging_slots == 0 ? 0 : n;
    int after = 0;
    for (std::size_t m = 0; m <= most && after < 3; m += (m == 0 ? 1 : step)) {
      r.streamed = m;
      if (!builder_.build(r, now_)) {
        if (after > 0) ++after;
        continue;
      }
      ++after;
      if (!keep_if_better()) continue;
      if (m == 0) return;
    }
  }

  problem_view p_;
  std::span<placement> best_;
  builder builder_;
  std::span<placement> now_;
  std::span<std::uint64_t> rest_;
  double value_ = forever;
};

}  // namespace

std::size_t Streamed::scratch_cells(const problem_view& p) const { return trial::cells(p); }

result<done> Streamed::solve(const problem_view& p, std::span<placement> out, std::span<std::uint64_t> scratch) const {
  if (!rates_known(p) || !p.fixed.empty()) return fail(errc::unsupported, name(), "needs rates and open placements");
  if (!trial(p, out, scratch).run()) return does_not_fit(p, name());
  return done{};
}

}  // namespace berth
