// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <tuple>
#include <vector>

module berth.runtime;

import berth.base;
import berth.topology;
import berth.plan;
import berth.exec;
import :read_plan;

namespace berth::detail {
namespace {

/// A piece that a lane needs, before it is cut into reads.
struct wanted {
  std::uint32_t atom = 0;
  bytes base = 0;  ///< of the atom's region in the buffer
  image_piece piece;
};

class read_planner {
 public:
  read_planner(const plan& p, const program& load, const weight_images& images, bytes limit)
      : p_(p), load_(load), images_(images), limit_(limit) {}

  result<read_plan> run() {
    make_lanes();
    std::vector<wanted> plain, others;
    for (std::uint32_t l = 0; l < out_.lanes.size(); ++l) {
      plain.clear();
      others.clear();
      collect(l, plain, others);
      const auto first = out_.steps.size();
      out_.lanes[l].first = static_cast<std::uint32_t>(first);
      // In a CPU's memory plain bytes need no slot, the others do: reads of one kind each.
      if (out_.lanes[l].host) {
        if (auto ok = cut(l, plain, true); !ok) return ok.propagate();
        if (auto ok = cut(l, others, false); !ok) return ok.propagate();
      } else {
        plain.insert(plain.end(), others.begin(), others.end());
        if (auto ok = cut(l, plain, false); !ok) return ok.propagate();
      }
      finish(l);
    }
    return std::move(out_);
  }

 private:
  void make_lanes() {
    for (const auto& op : load_.operations) {
      if (op.kind != op_kind::read) continue;
      const auto& s = load_.frame.streams[op.stream];
      const auto known = std::any_of(out_.lanes.begin(), out_.lanes.end(),
                                     [&](const read_lane& l) { return l.buffer == op.to.buffer; });
      if (known) continue;
      read_lane lane;
      lane.device = s.device;
      lane.buffer = op.to.buffer;
      lane.stream = op.stream;
      lane.host = p_.devices[s.device].kind == device_kind::cpu;
      out_.lanes.push_back(lane);
    }
  }

  void collect(std::uint32_t l, std::vector<wanted>& plain, std::vector<wanted>& others) {
    const auto& lane = out_.lanes[l];
    for (const auto& op : load_.operations) {
      if (op.kind != op_kind::read || op.to.buffer != lane.buffer) continue;
      for (const auto& piece : images_.pieces_of(op.atom))
        if (piece.image_offset < op.to.size)  // what lies with another atom ends the image
          (piece.plain ? plain : others).push_back({op.atom, op.to.offset, piece});
      const auto tensors = images_.of(op.atom);
      for (std::uint32_t t = 0; t < tensors.size(); ++t) {
        const auto& tensor = tensors[t];
        if (tensor.stored || tensor.size == 0 || tensor.offset >= op.to.size) continue;
        out_.zeros.push_back({l, op.atom, t, op.to.offset + tensor.offset, tensor.size});
      }
    }
  }

  /// Cuts pieces into parts and gathers neighbouring parts into reads.
  result<done> cut(std::uint32_t l, std::vector<wanted>& pieces, bool in_place) {
    std::sort(pieces.begin(), pieces.end(), [](const wanted& a, const wanted& b) {
      return std::tie(a.piece.file, a.piece.file_offset, a.base, a.piece.image_offset) <
             std::tie(b.piece.file, b.piece.file_offset, b.base, b.piece.image_offset);
    });
    open_ = false;
    for (const auto& w : pieces) {
      if (w.piece.length == 0) continue;
      if (auto ok = w.piece.plain ? cut_plain(l, w, in_place) : cut_transform(l, w); !ok) return ok;
    }
    return done{};
  }

  result<done> cut_plain(std::uint32_t l, const wanted& w, bool in_place) {
    for (bytes taken = 0; taken < w.piece.length;) {
      const auto at = w.piece.file_offset + taken;
      if (room(l, w.piece.file, at, in_place) < std::min(w.piece.length - taken, direct_step))
        begin(l, w.piece.file, at, in_place);
      auto size = std::min(w.piece.length - taken, room(l, w.piece.file, at, in_place));
      // A cut at a boundary of direct reads, so that the next read has nothing to read twice.
      if (const auto over = (at + size) % direct_step; taken + size < w.piece.length && size > over) size -= over;
      read_part part;
      part.atom = w.atom;
      part.piece = steps(w.piece, taken, size);
      part.target = w.base + part.piece.image_offset;
      add(part);
      taken += size;
    }
    return done{};
  }

  result<done> cut_transform(std::uint32_t l, const wanted& w) {
    const auto all = steps_of(w.piece);
    if (!has_transform(w.piece.how.kind, w.piece.how.from, w.piece.how.to))
      return fail(errc::unsupported, name_of(w),
                  text<160>("no conversion from ")
                      .append(info_of(w.piece.how.from).torch)
                      .append(" to ")
                      .append(info_of(w.piece.how.to).torch));
    for (std::uint64_t taken = 0; taken < all;) {
      const auto count = fitting(w.piece, taken, all - taken);
      if (count == 0) return cut_columns(l, w);
      const auto piece = steps(w.piece, taken, count);
      if (room(l, w.piece.file, piece.file_offset, false) < piece.length)
        begin(l, w.piece.file, piece.file_offset, false);
      add(part_of(w, piece));
      taken += count;
    }
    return done{};
  }

  /// How many steps from `first` on fit a slot; their sizes grow with their number.
  std::uint64_t fitting(const image_piece& piece, std::uint64_t first, std::uint64_t most) const {
    if (steps(piece, first, most).length <= limit_) return most;
    std::uint64_t fits = 0, too_many = most;
    while (too_many - fits > 1) {
      const auto middle = fits + (too_many - fits) / 2;
      (steps(piece, first, middle).length <= limit_ ? fits : too_many) = middle;
    }
    return fits;
  }

  /// Rows to be quantized that lie in the file as columns: a slot takes some elements of every stored row.
  result<done> cut_columns(std::uint32_t l, const wanted& w) {
    const auto& t = w.piece.how;
    const bytes element = bits_of(t.from) / 8;
    const auto rows = t.columns == 0 ? 0 : limit_ / element / t.columns;
    if (t.kind != transform_kind::quantize || t.source_row_stride != 1 || rows == 0)
      return fail(errc::capacity, name_of(w), "one of its rows is longer than a staging slot; give more staging memory",
                  t.columns * element, limit_);
    for (std::uint64_t r = 0; r < t.rows; r += rows) {
      const auto count = std::min(rows, t.rows - r);
      auto piece = w.piece;
      piece.how.rows = count;
      piece.how.source_column_stride = count;
      piece.image_offset += r * t.columns;
      piece.image_size = count * t.columns;
      piece.scales_offset += 4 * r;
      piece.file_offset += r * element;
      piece.length = ((t.columns - 1) * t.source_column_stride + count) * element;
      begin(l, piece.file, piece.file_offset, false);
      auto& step = out_.steps.back();
      step.columns = t.columns;
      step.width = count * element;
      step.stride = t.source_column_stride * element;
      add(part_of(w, piece));
      open_ = false;  // nothing goes behind packed columns
    }
    return done{};
  }

  read_part part_of(const wanted& w, const image_piece& piece) const {
    read_part part;
    part.atom = w.atom;
    part.piece = piece;
    part.target = w.base + piece.image_offset;
    part.scales = w.base + piece.scales_offset;
    if (piece.how.kind == transform_kind::quantize)
      part.row = (piece.scales_offset - images_.of(w.atom)[piece.tensor].offset) / sizeof(float);
    return part;
  }
  std::string_view name_of(const wanted& w) const { return images_.of(w.atom)[w.piece.tensor].name; }

  /// Bytes from `at` on that the open read can still take.
  bytes room(std::uint32_t l, std::uint32_t file, bytes at, bool in_place) const {
    if (!open_) return 0;
    const auto& s = out_.steps.back();
    const auto end = s.offset + s.length;
    if (s.lane != l || s.file != file || s.in_place != in_place || at < end || at - end > gap_limit ||
        s.count == most_parts || at - s.offset >= limit_)
      return 0;
    return limit_ - (at - s.offset);
  }
  void begin(std::uint32_t l, std::uint32_t file, bytes at, bool in_place) {
    read_step s;
    s.file = file;
    s.offset = at;
    s.first = static_cast<std::uint32_t>(out_.parts.size());
    s.lane = l;
    s.in_place = in_place;
    out_.steps.push_back(s);
    open_ = true;
  }
  void add(read_part part) {
    auto& s = out_.steps.back();
    part.at = part.piece.file_offset - s.offset;
    s.length = part.at + part.piece.length;
    s.stored += s.columns > 0 ? s.slot_bytes() : part.piece.length;
    s.transforms += part.piece.plain ? 0 : 1;
    ++s.count;
    out_.parts.push_back(part);
  }

  void finish(std::uint32_t l) {
    auto& lane = out_.lanes[l];
    const auto first = out_.steps.begin() + lane.first;
    std::sort(first, out_.steps.end(), [](const read_step& a, const read_step& b) {
      return std::tie(a.file, a.offset, a.first) < std::tie(b.file, b.offset, b.first);
    });
    lane.count = static_cast<std::uint32_t>(out_.steps.size()) - lane.first;
    for (auto s = first; s != out_.steps.end(); ++s) {
      lane.stored += s->stored;
      out_.stored += s->stored;
      if (s->in_place) continue;
      ++lane.staged;
      lane.largest = std::max(lane.largest, s->slot_bytes());
      if (s->transforms == 0) continue;
      ++lane.transformed;
      lane.scratch = std::max(lane.scratch, s->slot_bytes());
    }
  }

  const plan& p_;
  const program& load_;
  const weight_images& images_;
  bytes limit_;
  bool open_ = false;
  read_plan out_;
};

}  // namespace

result<read_plan> plan_reads(const plan& p, const program& load, const weight_images& images, bytes limit) {
  return read_planner(p, load, images, limit).run();
}

}  // namespace berth::detail
