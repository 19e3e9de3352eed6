// SPDX-License-Identifier: Apache-2.0
module;

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.tool;

import berth;

namespace tool {
namespace {

using berth::activity;
using berth::activity_kind;
using berth::picoseconds;

constexpr double label_width = 170, chart_width = 1030, row_height = 26, bar_height = 18, head_height = 30;

/// A stretch of time and where it is drawn.
struct stretch {
  picoseconds from = 0, until = 0;
  double left = 0, width = 0;
  std::string words;
};

/// One rectangle: an activity, or several neighbours.
struct box {
  picoseconds from = 0, until = 0;
  double left = 0, right = 0;
  activity_kind kind = activity_kind::launch;
  std::uint32_t record = 0;
  std::uint32_t count = 1;
  double busy = 0;          ///< width that its activities really take
  std::size_t stretch = 0;  ///< boxes of different scales stay apart
};

struct row {
  std::string words;
  std::string_view style;  ///< of rows that do not show activities
  std::vector<box> boxes;
};

/// Style of its boxes; also what the legend calls it, but for reads.
std::string_view style_of(activity_kind k) {
  switch (k) {
    case activity_kind::launch:
      return "compute";
    case activity_kind::message:
      return "message";
    case activity_kind::read:
      return "read";
    default:
      return "copy";
  }
}
std::string_view words_of(activity_kind k) {
  return k == activity_kind::read ? std::string_view("read from storage") : style_of(k);
}

class timeline {
 public:
  timeline(const berth::plan& p, const berth::report& r, const berth::trace& t, const berth::run_marks& m)
      : plan_(p), report_(r), records_(t.records()), marks_(m) {
    berth::activity_marker marker(m);
    for (const auto& a : records_) marked_.push_back(marker.next(a));
  }

  std::string draw(timeline_view view, std::size_t most) {
    view == timeline_view::whole ? stretch_whole() : stretch_steady();
    if (stretches_.empty()) return {};
    fill_rows();
    thin(most);
    return svg(view);
  }

 private:
  void add_stretch(picoseconds from, picoseconds until, double share, std::string words) {
    if (until <= from) return;
    const double left = stretches_.empty() ? label_width : stretches_.back().left + stretches_.back().width;
    stretches_.push_back({from, until, left, share, std::move(words)});
  }
  /// Shares become widths that fill the chart.
  void lay_out_stretches() {
    double sum = 0, left = label_width;
    for (const auto& s : stretches_) sum += s.width;
    for (auto& s : stretches_) {
      s.left = left;
      s.width *= chart_width / sum;
      left += s.width;
    }
  }
  void stretch_whole() {
    const auto decode_end = marks_.round_ends.empty() ? report_.end : marks_.round_ends.back();
    const auto words = [](std::string_view what, picoseconds t) {
      return fmt::format("{} {}", what, shown_ms(berth::seconds_from(t)));
    };
    add_stretch(0, marks_.load_end, 0.25, words("load", marks_.load_end));
    add_stretch(marks_.load_end, marks_.prefill_end, 0.25, words("prefill", report_.first_token));
    const auto decode = decode_end - marks_.prefill_end;
    add_stretch(marks_.prefill_end, decode_end, 0.5,
                fmt::format("decode, {} rounds in {}", report_.rounds, shown_ms(berth::seconds_from(decode))));
    lay_out_stretches();
  }
  /// Two rounds, or one exact cycle if that is longer; at most eight, with shorter headings from five on.
  void stretch_steady() {
    const auto& ends = marks_.round_ends;
    const std::size_t cycle = report_.periodic ? report_.cycle_rounds : 2;
    const auto shown = std::min<std::size_t>({std::max<std::size_t>(cycle, 2), ends.size(), 8});
    for (auto i = ends.size() - shown; i < ends.size(); ++i) {
      const auto from = i == 0 ? marks_.prefill_end : ends[i - 1];
      add_stretch(from, ends[i], static_cast<double>(ends[i] - from),
                  shown > 4 ? fmt::format("round {}", i + 1)
                            : fmt::format("round {}: {}", i + 1, shown_ms(berth::seconds_from(ends[i] - from))));
    }
    lay_out_stretches();
  }
  double place(const stretch& s, picoseconds t) const {
    return s.left + s.width * static_cast<double>(t - s.from) / static_cast<double>(s.until - s.from);
  }

  void fill_rows() {
    const auto machine = plan_.topology();
    for (const auto& use : plan_.uses) {
      const auto d = use.device;
      const auto gpu = machine.devices[d].kind == berth::device_kind::gpu;
      const auto moves = [](const activity& a) {
        return a.kind == activity_kind::copy || a.kind == activity_kind::read;
      };
      const auto from_gpu = [&](const activity& a) {
        return a.from < machine.devices.size() && machine.devices[a.from].kind == berth::device_kind::gpu;
      };
      const auto words = device_words(machine.devices[d]);
      add_row(words + " compute", [&](const activity& a) { return a.kind == activity_kind::launch && a.device == d; });
      add_row(words + " copies in",
              [&](const activity& a) { return moves(a) && a.device == d && (gpu || !from_gpu(a)); });
      add_row(words + " copies out", [&](const activity& a) { return moves(a) && gpu && a.from == d; });
      add_row(words + " messages", [&](const activity& a) { return a.kind == activity_kind::message && a.from == d; });
    }
    add_waiting();
  }
  template <class Wanted>
  void add_row(std::string words, Wanted wanted) {
    row r{std::move(words), {}, {}};
    for (std::uint32_t i = 0; i < records_.size(); ++i)
      if (wanted(records_[i])) add_boxes(r, records_[i].start, records_[i].end, records_[i].kind, i);
    if (!r.boxes.empty()) rows_.push_back(std::move(r));
  }
  void add_boxes(row& r, picoseconds from, picoseconds until, activity_kind kind, std::uint32_t record) const {
    for (std::size_t i = 0; i < stretches_.size(); ++i) {
      const auto& s = stretches_[i];
      const auto a = std::max(from, s.from), b = std::min(until, s.until);
      if (a >= b) continue;
      const double left = place(s, a), right = place(s, b);
      r.boxes.push_back({from, until, left, right, kind, record, 1, right - left, i});
    }
  }
  /// Copies run and no device computes: time that a faster link would save.
  void add_waiting() {
    struct edge {
      picoseconds at;
      int copies, computes;
    };
    std::vector<edge> edges;
    for (const auto& a : records_) {
      const bool copy = a.kind == activity_kind::copy || a.kind == activity_kind::read;
      if ((!copy && a.kind != activity_kind::launch) || a.end <= a.start) continue;
      edges.push_back({a.start, copy ? 1 : 0, copy ? 0 : 1});
      edges.push_back({a.end, copy ? -1 : 0, copy ? 0 : -1});
    }
    std::sort(edges.begin(), edges.end(), [](const edge& a, const edge& b) { return a.at < b.at; });
    row r{"waiting for copies", "wait", {}};
    int copies = 0, computes = 0;
    for (std::size_t i = 0; i < edges.size(); ++i) {
      copies += edges[i].copies;
      computes += edges[i].computes;
      if (i + 1 < edges.size() && copies > 0 && computes == 0 && edges[i].at < edges[i + 1].at)
        add_boxes(r, edges[i].at, edges[i + 1].at, activity_kind::copy, 0);
    }
    // The load waits for nothing but copies by its nature.
    std::erase_if(r.boxes, [this](const box& b) { return b.until <= marks_.load_end; });
    if (!r.boxes.empty()) rows_.push_back(std::move(r));
  }

  /// Joins neighbours, first those that touch on the screen, then ever more, until few enough are left.
  void thin(std::size_t most) {
    for (auto& r : rows_)
      std::sort(r.boxes.begin(), r.boxes.end(),
                [](const box& a, const box& b) { return a.left != b.left ? a.left < b.left : a.record < b.record; });
    const auto count = [&] {
      std::size_t n = 0;
      for (const auto& r : rows_) n += r.boxes.size();
      return n;
    };
    for (double gap = 0.05; count() > most && gap < chart_width; gap *= 2)
      for (auto& r : rows_) join(r.boxes, gap);
  }
  static void join(std::vector<box>& boxes, double gap) {
    std::size_t kept = 0;
    for (const auto& b : boxes) {
      const bool near = kept > 0 && boxes[kept - 1].kind == b.kind && boxes[kept - 1].stretch == b.stretch &&
                        b.left - boxes[kept - 1].right < gap;
      if (!near) {
        boxes[kept++] = b;
        continue;
      }
      auto& last = boxes[kept - 1];
      last.right = std::max(last.right, b.right);
      last.until = std::max(last.until, b.until);
      last.count += b.count;
      last.busy += b.busy;
    }
    boxes.resize(kept);
  }

  static double share_of(const box& b) { return b.right > b.left ? std::min(1.0, b.busy / (b.right - b.left)) : 1; }
  /// Boxes that stand for several are as strong as they are busy, or a full row would say what is not so.
  static std::string opacity(const box& b) {
    const double share = share_of(b);
    return b.count == 1 || share > 0.97 ? "" : fmt::format(" fill-opacity=\"{:.2f}\"", std::max(share, 0.06));
  }

  std::string title(const row& r, const box& b) const {
    const auto seconds = berth::seconds_from(b.until - b.from);
    const auto at = shown_ms(berth::seconds_from(b.from));
    const auto words = r.style.empty() ? words_of(b.kind) : std::string_view(r.words);
    if (b.count > 1)
      return fmt::format("{}, {} times within {} from {}, {} of the time", words, b.count, shown_ms(seconds), at,
                         shown_percent(share_of(b)));
    if (!r.style.empty()) return fmt::format("{}: {} from {}", r.words, shown_ms(seconds), at);
    const auto& a = records_[b.record];
    const auto& m = marked_[b.record];
    auto out = fmt::format("{}", words_of(b.kind));
    if (m.atom < plan_.atoms.size()) out.append(" ").append(plan_.atoms[m.atom].name);
    if (b.kind != activity_kind::launch) out += fmt::format(", {}", berth::format_size(a.size));
    return fmt::format("{}, {} from {}", out, shown_ms(seconds), at);
  }

  std::string svg(timeline_view view) const {
    const double height = head_height + row_height * static_cast<double>(rows_.size()) + 26;
    const auto what = view == timeline_view::whole ? "Timeline of the whole run" : "Timeline of the last decode rounds";
    auto out = fmt::format("<svg class=\"timeline\" viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\">\n",
                           label_width + chart_width + 10, height, what);
    for (std::size_t i = 0; i < stretches_.size(); ++i) {
      const auto& s = stretches_[i];
      out += fmt::format("<rect class=\"band{}\" x=\"{:.2f}\" y=\"0\" width=\"{:.2f}\" height=\"{:.0f}\"/>\n", i % 2,
                         s.left, s.width, height - 22);
      out += fmt::format("<text class=\"phase\" x=\"{:.2f}\" y=\"18\">{}</text>\n", s.left + 6, escaped(s.words));
    }
    for (std::size_t i = 0; i < rows_.size(); ++i)
      out += row_svg(rows_[i], head_height + row_height * static_cast<double>(i));
    return out + axis(view, height) + "</svg>\n";
  }
  std::string row_svg(const row& r, double top) const {
    auto out = fmt::format("<g><text class=\"label\" x=\"{:.0f}\" y=\"{:.1f}\">{}</text>\n", label_width - 10, top + 14,
                           escaped(r.words));
    for (const auto& b : r.boxes)
      fmt::format_to(std::back_inserter(out),
                     "<rect class=\"{}\" x=\"{:.2f}\" y=\"{:.0f}\" width=\"{:.2f}\" height=\"{:.0f}\"{}>"
                     "<title>{}</title></rect>\n",
                     r.style.empty() ? style_of(b.kind) : r.style, b.left, top, std::max(b.right - b.left, 0.3),
                     bar_height, opacity(b), escaped(title(r, b)));
    return out + "</g>\n";
  }
  /// Ticks at round numbers, from the start of the view (steady) or of each phase (whole).
  std::string axis(timeline_view view, double height) const {
    std::string out;
    const auto ticks = [&](const stretch& s, int wanted) {
      const double span = berth::seconds_from(s.until - s.from) * 1e3;
      double unit = std::pow(10, std::floor(std::log10(span / wanted)));
      for (const double factor : {1.0, 2.0, 5.0, 10.0})
        if (span / (unit * factor) <= wanted) {
          unit *= factor;
          break;
        }
      for (int i = 0; i * unit <= span * (1 - 0.4 / wanted) || i == 0; ++i) {
        const double x = s.left + s.width * (i * unit / span);
        out += fmt::format(
            "<line class=\"tick\" x1=\"{0:.2f}\" x2=\"{0:.2f}\" y1=\"{1:.0f}\" y2=\"{2:.0f}\"/>"
            "<text class=\"tick\" x=\"{3:.2f}\" y=\"{4:.0f}\">{5:.6g}</text>\n",
            x, height - 22, height - 17, x + 2, height - 5, i * unit);
      }
    };
    if (view == timeline_view::whole) {
      for (const auto& s : stretches_) ticks(s, s.width > 400 ? 6 : 3);
    } else {
      ticks({stretches_.front().from, stretches_.back().until, label_width, chart_width, {}}, 10);
    }
    return out +
           fmt::format("<text class=\"label\" x=\"{:.0f}\" y=\"{:.0f}\">ms</text>\n", label_width - 10, height - 5);
  }

  const berth::plan& plan_;
  const berth::report& report_;
  std::span<const activity> records_;
  const berth::run_marks& marks_;
  std::vector<berth::marked_activity> marked_;
  std::vector<stretch> stretches_;
  std::vector<row> rows_;
};

}  // namespace

std::string timeline_svg(const berth::plan& p, const berth::report& r, const berth::trace& t,
                         const berth::run_marks& marks, timeline_view view, std::size_t most) {
  return timeline(p, r, t, marks).draw(view, most);
}

}  // namespace tool
