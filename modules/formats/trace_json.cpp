// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.formats;

namespace berth {
namespace {

/// Threads of a device's process, in the order of display.
enum class lane : std::uint8_t { compute, copy_in, copy_out, messages };
constexpr std::array<std::string_view, 4> lane_names{"compute", "copy in", "copy out", "messages"};
/// What overlaps on one engine (several copy engines, messages) goes to threads of its own: engine * 100 + number.
constexpr std::uint32_t threads_per_lane = 100;

struct slice {
  std::uint32_t record = 0;
  std::uint32_t process = 0;
  lane on = lane::compute;
  std::uint32_t thread = 0;
};

/// A step of a counter: what is added at a time.
struct step {
  picoseconds at = 0;
  std::int64_t change = 0;
};

class trace_writer {
 public:
  trace_writer(const plan& p, const trace& t, const run_marks& m)
      : plan_(p), trace_(t), records_(t.records()), marks_(m), machine_(p.topology()) {
    for (const auto& a : p.atoms) names_.push_back(json::write(a.name));
    for (const auto& d : p.devices) ids_.push_back(json::write(d.id.view()));
  }

  std::string run() && {
    out_.reserve(4096 + records_.size() * 220);
    head();
    mark();
    collect();
    assign_threads();
    metadata();
    phases();
    for (const auto& s : slices_) complete(s);
    for (const auto& a : records_)
      if (a.kind == activity_kind::fault) instant(a);
    memory_counters();
    segment_counters();
    out_ += "\n]}\n";
    return std::move(out_);
  }

 private:
  std::uint32_t process_of(device_index d) const { return d + 1; }
  std::uint32_t segments_process() const { return static_cast<std::uint32_t>(machine_.devices.size()) + 1; }
  std::uint32_t run_process() const { return static_cast<std::uint32_t>(machine_.devices.size()) + 2; }
  device_kind kind_of(device_index d) const {
    return d < machine_.devices.size() ? machine_.devices[d].kind : device_kind::disk;
  }

  void number(std::uint64_t n) {
    std::array<char, 20> digits;
    out_.append(digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), n).ptr);
  }
  /// Microseconds with six decimals: exact.
  void time(picoseconds t) {
    if (t < 0) out_ += '-';
    const auto n = static_cast<std::uint64_t>(t < 0 ? -t : t);
    number(n / 1'000'000);
    std::array<char, 7> digits{'.'};
    auto rest = n % 1'000'000;
    for (std::size_t i = 6; i > 0; --i) {
      digits[i] = static_cast<char>('0' + rest % 10);
      rest /= 10;
    }
    out_.append(digits.data(), digits.size());
  }
  void begin(std::string_view kind) {
    out_ += first_ ? "\n" : ",\n";
    first_ = false;
    out_ += "{\"ph\":\"";
    out_ += kind;
    out_ += "\",";
  }
  void member(std::string_view key, std::uint64_t n) {
    out_ += '"';
    out_ += key;
    out_ += "\":";
    number(n);
  }
  std::string_view id_of(device_index d) const {
    return d < ids_.size() ? std::string_view(ids_[d]) : std::string_view("null");
  }

  void head() {
    const json::object other{{"format", "berth.trace/1"},
                             {"model", plan_.model_id.view()},
                             {"strategy", plan_.strategy.view()},
                             {"machine", plan_.topology_name.view()},
                             {"records", std::uint64_t{records_.size()}},
                             {"lost", std::uint64_t{trace_.lost()}}};
    out_ += "{\"displayTimeUnit\":\"ns\",\"otherData\":" + json::write(other) + ",\"traceEvents\":[";
  }
  void mark() {
    activity_marker marker(marks_);
    marked_.reserve(records_.size());
    for (const auto& a : records_) marked_.push_back(marker.next(a));
  }

  /// One slice per activity and engine that it occupies: a copy between two GPUs is on both.
  void collect() {
    for (std::uint32_t i = 0; i < records_.size(); ++i) {
      const auto& a = records_[i];
      if (a.kind == activity_kind::launch) add(i, a.device, lane::compute);
      if (a.kind == activity_kind::message) add(i, a.from == no_index ? a.device : a.from, lane::messages);
      if (a.kind != activity_kind::copy && a.kind != activity_kind::read) continue;
      const bool leaves = a.from != no_index && kind_of(a.from) == device_kind::gpu;
      if (leaves) add(i, a.from, lane::copy_out);
      if (!leaves || kind_of(a.device) == device_kind::gpu) add(i, a.device, lane::copy_in);
    }
  }
  void add(std::uint32_t record, device_index d, lane on) {
    if (d < machine_.devices.size()) slices_.push_back({record, process_of(d), on, 0});
  }
  /// First free thread of the engine, in the order of starts.
  void assign_threads() {
    std::sort(slices_.begin(), slices_.end(), [this](const slice& x, const slice& y) {
      const auto &a = records_[x.record], &b = records_[y.record];
      if (x.process != y.process) return x.process < y.process;
      if (x.on != y.on) return x.on < y.on;
      if (a.start != b.start) return a.start < b.start;
      return a.end != b.end ? a.end < b.end : x.record < y.record;
    });
    std::vector<picoseconds> free_at;
    for (std::size_t i = 0; i < slices_.size(); ++i) {
      auto& s = slices_[i];
      if (i == 0 || slices_[i - 1].process != s.process || slices_[i - 1].on != s.on) free_at.clear();
      const auto& a = records_[s.record];
      std::uint32_t k = 0;
      while (k < free_at.size() && free_at[k] > a.start && k + 1 < threads_per_lane) ++k;
      if (k == free_at.size()) {
        free_at.push_back(a.end);
        threads_.push_back({0, s.process, s.on, k});
      }
      free_at[k] = std::max(free_at[k], a.end);
      s.thread = k;
    }
  }

  void name(std::string_view what, std::uint32_t process, std::uint32_t thread, std::string_view quoted) {
    begin("M");
    member("pid", process);
    out_ += ',';
    member("tid", thread);
    out_ += ",\"name\":\"";
    out_ += what;
    out_ += "\",\"args\":{\"name\":";
    out_ += quoted;
    out_ += "}}";
  }
  void order(std::string_view what, std::uint32_t process, std::uint32_t thread, std::uint32_t index) {
    begin("M");
    member("pid", process);
    out_ += ',';
    member("tid", thread);
    out_ += ",\"name\":\"";
    out_ += what;
    out_ += "\",\"args\":{";
    member("sort_index", index);
    out_ += "}}";
  }
  static std::uint32_t thread_of(const slice& s) {
    return (static_cast<std::uint32_t>(s.on) + 1) * threads_per_lane + s.thread;
  }
  void metadata() {
    name("process_name", run_process(), 0, "\"run\"");
    order("process_sort_index", run_process(), 0, 0);
    name("thread_name", run_process(), 1, "\"phases\"");
    for (device_index d = 0; d < machine_.devices.size(); ++d) {
      const auto& device = machine_.devices[d];
      std::string words;
      if (device.kind == device_kind::gpu) words = "GPU ";
      words += device.id.view();
      if (!device.model.empty()) words.append(" (").append(device.model.view()).append(")");
      name("process_name", process_of(d), 0, json::write(std::move(words)));
      order("process_sort_index", process_of(d), 0, process_of(d));
    }
    for (const auto& t : threads_) {
      auto words = std::string(lane_names[static_cast<std::size_t>(t.on)]);
      if (t.thread > 0) words += " " + std::to_string(t.thread + 1);
      name("thread_name", t.process, thread_of(t), json::write(std::move(words)));
      order("thread_sort_index", t.process, thread_of(t), thread_of(t));
    }
    name("process_name", segments_process(), 0, "\"segments\"");
    order("process_sort_index", segments_process(), 0, segments_process());
  }

  void phases() {
    span("\"load\"", 0, marks_.load_end);
    span("\"prefill\"", marks_.load_end, marks_.prefill_end);
    auto at = marks_.prefill_end;
    for (std::size_t i = 0; i < marks_.round_ends.size(); ++i) {
      span("\"round " + std::to_string(i) + "\"", at, marks_.round_ends[i]);
      at = marks_.round_ends[i];
    }
  }
  void span(std::string_view quoted, picoseconds from, picoseconds until) {
    begin("X");
    member("pid", run_process());
    out_ += ',';
    member("tid", 1);
    out_ += ",\"name\":";
    out_ += quoted;
    times(from, until);
    out_ += '}';
  }
  void times(picoseconds from, picoseconds until) {
    out_ += ",\"ts\":";
    time(from);
    out_ += ",\"dur\":";
    time(until > from ? until - from : 0);
  }

  void complete(const slice& s) {
    const auto& a = records_[s.record];
    const auto& m = marked_[s.record];
    begin("X");
    member("pid", s.process);
    out_ += ',';
    member("tid", thread_of(s));
    out_ += ",\"name\":";
    named(a, m);
    out_ += ",\"cat\":\"";
    out_ += name_of(a.kind);
    out_ += '"';
    times(a.start, a.end);
    out_ += ",\"args\":{";
    about(m);
    if (a.kind != activity_kind::launch) {
      out_ += ',';
      member("bytes", a.size);
      out_ += ",\"from\":";
      out_ += id_of(a.from);
      out_ += ",\"to\":";
      out_ += id_of(a.device);
    }
    out_ += "}}";
  }
  void named(const activity& a, const marked_activity& m) {
    if (m.atom < names_.size()) {
      out_ += names_[m.atom];
      return;
    }
    out_ += '"';
    out_ += name_of(a.kind);
    out_ += '"';
  }
  void about(const marked_activity& m) {
    if (m.atom < names_.size()) {
      out_ += "\"atom\":";
      out_ += names_[m.atom];
      out_ += ',';
    }
    out_ += "\"phase\":\"";
    out_ += name_of(m.phase);
    out_ += '"';
    if (m.phase != program_phase::decode) return;
    out_ += ',';
    member("round", m.round);
  }
  void instant(const activity& a) {
    begin("i");
    member("pid", a.device < machine_.devices.size() ? process_of(a.device) : run_process());
    out_ += ',';
    member("tid", threads_per_lane);
    out_ += ",\"s\":\"p\",\"name\":\"fault\",\"cat\":\"fault\",\"ts\":";
    time(a.end);
    out_ += ",\"args\":{";
    about(marked_[static_cast<std::size_t>(&a - records_.data())]);
    out_ += ',';
    member("bytes", a.size);
    out_ += "}}";
  }

  /// Writes a counter's value after all steps of one time, where it differs from the one before.
  void counter(std::vector<step>& steps, std::uint32_t process, std::string_view quoted, std::string_view unit) {
    std::sort(steps.begin(), steps.end(), [](const step& a, const step& b) { return a.at < b.at; });
    std::int64_t value = 0, written = -1;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      value += steps[i].change;
      if (i + 1 < steps.size() && steps[i + 1].at == steps[i].at) continue;
      if (value == written) continue;
      written = value;
      begin("C");
      member("pid", process);
      out_ += ",\"name\":";
      out_ += quoted;
      out_ += ",\"ts\":";
      time(steps[i].at);
      out_ += ",\"args\":{";
      member(unit, static_cast<std::uint64_t>(std::max<std::int64_t>(value, 0)));
      out_ += "}}";
    }
  }
  void memory_counters() {
    std::vector<std::vector<step>> held(machine_.devices.size());
    for (const auto& a : records_) {
      if (a.device >= held.size()) continue;
      const auto size = static_cast<std::int64_t>(a.size);
      if (a.kind == activity_kind::allocate) held[a.device].push_back({a.end, size});
      if (a.kind == activity_kind::free) held[a.device].push_back({a.end, -size});
    }
    for (device_index d = 0; d < held.size(); ++d) counter(held[d], process_of(d), "\"memory\"", "bytes");
  }
  /// Rates are whole bytes/s, so that sums of overlapping ones come back to exactly 0.
  void segment_counters() {
    std::vector<std::vector<step>> rates(machine_.segments.size());
    for (std::size_t i = 0; i < records_.size(); ++i) {
      const auto& a = records_[i];
      const auto size = a.kind == activity_kind::launch ? marked_[i].touched : static_cast<double>(a.size);
      if (a.end <= a.start || !(size > 0)) continue;
      const auto rate = std::llround(std::min(size / seconds_from(a.end - a.start), 1e17));
      visit_segments(machine_, a, [&](segment_index s) {
        rates[s].push_back({a.start, rate});
        rates[s].push_back({a.end, -rate});
      });
    }
    for (std::size_t s = 0; s < rates.size(); ++s)
      counter(rates[s], segments_process(), json::write(machine_.segments[s].name.view()), "bytes/s");
  }

  const plan& plan_;
  const trace& trace_;
  std::span<const activity> records_;
  const run_marks& marks_;
  topology_view machine_;
  std::vector<std::string> names_, ids_;  ///< quoted
  std::vector<marked_activity> marked_;
  std::vector<slice> slices_, threads_;
  std::string out_;
  bool first_ = true;
};

}  // namespace

std::string write_trace(const plan& p, const trace& t, const run_marks& marks) {
  return trace_writer(p, t, marks).run();
}

}  // namespace berth
