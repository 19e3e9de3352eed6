// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <string_view>
#include <vector>

module berth.exec;

import berth.base;
import berth.topology;
import berth.plan;

namespace berth {
namespace {

struct interval {
  picoseconds start = 0;
  picoseconds end = 0;

  picoseconds length() const { return end > start ? end - start : 0; }
  interval within(const interval& w) const { return {std::max(start, w.start), std::min(end, w.end)}; }
};
using intervals = std::pmr::vector<interval>;

/// Sorted, and joined where they touch.
void unite(intervals& v) {
  std::sort(v.begin(), v.end(), [](const interval& a, const interval& b) {
    return a.start != b.start ? a.start < b.start : a.end < b.end;
  });
  std::size_t kept = 0;
  for (const auto& i : v) {
    if (kept > 0 && i.start <= v[kept - 1].end)
      v[kept - 1].end = std::max(v[kept - 1].end, i.end);
    else
      v[kept++] = i;
  }
  v.resize(kept);
}

/// Time covered in a window. Precondition: united.
picoseconds covered(const intervals& v, const interval& window) {
  picoseconds sum = 0;
  for (const auto& i : v) sum += i.within(window).length();
  return sum;
}

/// Time covered by `a` and not by `b` in a window. Precondition: both are united.
picoseconds covered_alone(const intervals& a, const intervals& b, const interval& window) {
  auto sum = covered(a, window);
  for (std::size_t i = 0, k = 0; i < a.size() && k < b.size();) {
    sum -= a[i].within(window).within(b[k]).length();
    if (a[i].end < b[k].end)
      ++i;
    else
      ++k;
  }
  return sum;
}

double share_of(picoseconds part, const interval& whole) {
  return whole.length() > 0 ? static_cast<double>(part) / static_cast<double>(whole.length()) : 0;
}

bool moves_weights(const activity& a) { return a.kind == activity_kind::copy || a.kind == activity_kind::read; }

/// Measures one run; the steps fill `out_` in order.
class run_measurer {
 public:
  run_measurer(const plan& p, const trace& t, const run_marks& m, std::pmr::memory_resource* memory)
      : plan_(p),
        records_(t.records()),
        marks_(m),
        machine_(p.topology()),
        out_(memory),
        scratch_(memory),
        computing_(memory),
        copying_(memory),
        per_round_(memory) {
    out_.lost = t.lost();
  }

  report run() && {
    times();
    for (const auto& u : plan_.uses) out_.devices.push_back(device(u));
    overlap();
    segments();
    find_bottleneck();
    return std::move(out_);
  }

 private:
  void times();
  void find_cycle();
  device_report device(const device_use& u);
  void overlap();
  void segments();
  void add_traffic(const activity& a, double size, segment_index s);
  void find_bottleneck();
  void consider(bottleneck_kind kind, double share, device_index d, segment_index s);
  segment_index busiest_hop(device_index d, bool in) const;
  void put_words();

  device_kind kind_of(device_index d) const {
    return d < machine_.devices.size() ? machine_.devices[d].kind : device_kind::disk;
  }
  /// GPUs have copy engines; what reaches a CPU from a GPU occupies the GPU's.
  bool enters(const activity& a, device_index d) const {
    return moves_weights(a) && a.device == d &&
           !(kind_of(d) == device_kind::cpu && kind_of(source_of(machine_, a)) == device_kind::gpu);
  }
  bool leaves(const activity& a, device_index d) const {
    return moves_weights(a) && kind_of(d) == device_kind::gpu && source_of(machine_, a) == d;
  }
  template <class Wanted>
  void gather(intervals& into, Wanted wanted) const {
    into.clear();
    for (const auto& a : records_)
      if (wanted(a)) into.push_back({a.start, a.end});
    unite(into);
  }
  template <class Wanted>
  engine_use use_of(Wanted wanted) {
    gather(scratch_, wanted);
    return {share_of(covered(scratch_, steady_), steady_), share_of(covered(scratch_, whole_), whole_)};
  }

  const plan& plan_;
  std::span<const activity> records_;
  const run_marks& marks_;
  topology_view machine_;
  report out_;
  intervals scratch_, computing_, copying_;
  std::pmr::vector<double> per_round_;  ///< bytes in the steady window by segment
  interval whole_, steady_;
};

void run_measurer::times() {
  const auto& ends = marks_.round_ends;
  out_.load_time = marks_.load_end;
  out_.first_token = marks_.prefill_end - marks_.load_end;
  out_.pipelined = marks_.pipelined;
  out_.priced = plan_.priced;
  out_.predicted = plan_.times;
  out_.rounds = static_cast<std::uint32_t>(ends.size());
  out_.end = ends.empty() ? marks_.prefill_end : ends.back();
  for (const auto& a : records_) {
    out_.end = std::max(out_.end, a.end);
    out_.faults += a.kind == activity_kind::fault ? 1 : 0;
  }
  whole_ = {0, out_.end};
  const auto generate = plan_.workload.generate;
  if (ends.empty()) {
    out_.total = out_.first_token;
    out_.extrapolated = generate > 0;
    return;
  }
  out_.first_round = ends.front() - marks_.prefill_end;
  find_cycle();
  steady_ = {out_.steady_from, out_.steady_until};
  if (out_.cycle_time > 0) out_.tokens_per_second = static_cast<double>(plan_.workload.batch) / out_.period();
  const auto run = std::min<std::uint64_t>(generate, ends.size());
  out_.total = run == 0 ? out_.first_token : ends[run - 1] - marks_.load_end;
  out_.extrapolated = generate > run;
  const auto rest = static_cast<double>(generate - run) * static_cast<double>(out_.cycle_time) / out_.cycle_rounds;
  out_.total = rest < 9e18 - static_cast<double>(out_.total) ? out_.total + std::llround(rest) : never;
}

/// The shortest cycle of the differences in the last half that is seen at least twice, or whole with one round.
void run_measurer::find_cycle() {
  const auto& ends = marks_.round_ends;
  const auto n = ends.size();
  const auto at = [&](std::size_t i) { return i == 0 ? marks_.prefill_end : ends[i - 1]; };  // start of round i
  const auto first = n / 2, half = n - first;
  out_.steady_until = at(n);
  std::size_t cycle = 1;
  for (; 2 * cycle <= half; ++cycle) {
    const auto length = at(n) - at(n - cycle);
    bool repeats = true;
    for (auto i = first + cycle; i <= n && repeats; ++i) repeats = at(i) - at(i - cycle) == length;
    if (repeats) break;
  }
  out_.periodic = 2 * cycle <= half;
  if (!out_.periodic) cycle = half;
  out_.cycle_rounds = static_cast<std::uint32_t>(cycle);
  out_.cycle_time = at(n) - at(n - cycle);
  out_.steady_rounds = static_cast<std::uint32_t>(half / cycle * cycle);
  out_.steady_from = at(n - out_.steady_rounds);
}

device_report run_measurer::device(const device_use& u) {
  device_report r;
  r.device = u.device;
  r.compute = use_of([&](const activity& a) { return a.kind == activity_kind::launch && a.device == u.device; });
  r.copy_in = use_of([&](const activity& a) { return enters(a, u.device); });
  r.copy_out = use_of([&](const activity& a) { return leaves(a, u.device); });
  r.planned = u.used();
  r.budget = u.available();
  r.state = u.state;
  bytes held = 0;
  for (const auto& a : records_) {
    if (a.device != u.device) continue;
    if (a.kind == activity_kind::allocate) r.peak = std::max(r.peak, held += a.size);
    if (a.kind == activity_kind::free) held -= std::min(held, a.size);
  }
  return r;
}

void run_measurer::overlap() {
  gather(computing_, [](const activity& a) { return a.kind == activity_kind::launch; });
  gather(copying_, moves_weights);
  gather(scratch_, [](const activity& a) { return a.kind == activity_kind::message; });
  out_.computing = share_of(covered(computing_, steady_), steady_);
  out_.messages = share_of(covered(scratch_, steady_), steady_);
  if (out_.steady_rounds == 0) return;
  const auto alone = covered_alone(copying_, computing_, steady_);
  out_.exposed_copy = std::llround(static_cast<double>(alone) / out_.steady_rounds);
}

/// The bytes of a transfer count evenly over its time.
void run_measurer::add_traffic(const activity& a, double size, segment_index s) {
  if (s >= out_.segments.size()) return;
  out_.segments[s].total += static_cast<bytes>(size);
  const interval time{a.start, a.end};
  if (time.length() > 0)
    per_round_[s] += size * share_of(time.within(steady_).length(), time);
  else if (a.start >= steady_.start && a.start < steady_.end)
    per_round_[s] += size;
}

void run_measurer::segments() {
  for (std::size_t s = 0; s < machine_.segments.size(); ++s) out_.segments.push_back({static_cast<segment_index>(s)});
  per_round_.assign(machine_.segments.size(), 0);
  activity_marker marker(marks_, per_round_.get_allocator().resource());
  for (const auto& a : records_) {
    const auto touched = marker.next(a).touched;
    const auto size = a.kind == activity_kind::launch ? touched : static_cast<double>(a.size);
    visit_segments(machine_, a, [&](segment_index s) { add_traffic(a, size, s); });
  }
  if (out_.steady_rounds == 0) return;
  for (auto& s : out_.segments) {
    const auto moved = per_round_[s.segment];
    s.per_round = static_cast<bytes>(std::llround(moved / out_.steady_rounds));
    const auto most = machine_.segments[s.segment].capacity * seconds_from(steady_.length());
    // Bytes spread evenly over a transfer may lie a little beside where they crossed.
    s.use = most > 0 ? std::min(1.0, moved / most) : 0;
  }
}

/// Of the segments that copies of this direction cross in decode: the one with the largest share; ties: the first.
segment_index run_measurer::busiest_hop(device_index d, bool in) const {
  segment_index best = no_index;
  for (const auto& a : records_) {
    if (a.end <= steady_.start || a.start >= steady_.end || !(in ? enters(a, d) : leaves(a, d))) continue;
    visit_segments(machine_, a, [&](segment_index s) {
      const auto better = best == no_index || out_.segments[s].use > out_.segments[best].use;
      if (better || (out_.segments[s].use == out_.segments[best].use && s < best)) best = s;
    });
  }
  return best;
}

void run_measurer::consider(bottleneck_kind kind, double share, device_index d, segment_index s) {
  if (share > out_.bottleneck.share) out_.bottleneck = {kind, d, s, share, {}};
}

void run_measurer::find_bottleneck() {
  std::size_t computing = 0;
  for (const auto& d : out_.devices) {
    computing += d.compute.decode > 0 ? 1 : 0;
    consider(bottleneck_kind::compute, d.compute.decode, d.device, no_index);
  }
  for (const auto& d : out_.devices) consider(bottleneck_kind::copy_in, d.copy_in.decode, d.device, no_index);
  for (const auto& d : out_.devices) consider(bottleneck_kind::copy_out, d.copy_out.decode, d.device, no_index);
  for (const auto& s : out_.segments) consider(bottleneck_kind::segment, s.use, no_index, s.segment);
  consider(bottleneck_kind::messages, out_.messages, no_index, no_index);
  // With one sequence in flight, devices in a row are each idle most of the time, and yet nothing but them limits.
  if (computing > 1 && out_.bottleneck.share < 0.9)
    consider(bottleneck_kind::compute_in_turn, out_.computing, no_index, no_index);
  auto& b = out_.bottleneck;
  if (b.kind == bottleneck_kind::copy_in || b.kind == bottleneck_kind::copy_out)
    b.segment = busiest_hop(b.device, b.kind == bottleneck_kind::copy_in);
  put_words();
}

text<64> words_of(const segment& s) {
  if (s.kind == segment_kind::dram) return text<64>("host memory (").append(s.name).append(")");
  return text<64>(s.name.view());
}

void run_measurer::put_words() {
  auto& b = out_.bottleneck;
  const auto device = b.device == no_index ? std::string_view() : machine_.devices[b.device].id.view();
  switch (b.kind) {
    case bottleneck_kind::none:
      b.words = "nothing";
      break;
    case bottleneck_kind::compute:
      b.words.append("compute of ").append(device);
      break;
    case bottleneck_kind::compute_in_turn:
      b.words = "compute, one device after the other";
      break;
    case bottleneck_kind::copy_in:
      b.words.append("copies into ").append(device);
      break;
    case bottleneck_kind::copy_out:
      b.words.append("copies out of ").append(device);
      break;
    case bottleneck_kind::segment:
      b.words = words_of(machine_.segments[b.segment]).view();
      return;
    case bottleneck_kind::messages:
      b.words = "messages";
      break;
  }
  if (b.segment != no_index) b.words.append(" over ").append(words_of(machine_.segments[b.segment]));
}

}  // namespace

report make_report(const plan& p, const trace& t, const run_marks& marks, std::pmr::memory_resource* memory) {
  return run_measurer(p, t, marks, memory).run();
}

}  // namespace berth
