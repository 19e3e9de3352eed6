// SPDX-License-Identifier: Apache-2.0
module;

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

module berth.runtime;

import :tensor_parts;

namespace berth {
namespace {

/// A dimension cut where some range begins or ends: all elements between two cuts are in the same ranges. Ranges with
/// steps cut it into single elements.
class cut_dimension {
 public:
  cut_dimension(std::uint64_t extent, std::span<const tensor_part> data, std::size_t dimension) {
    cuts_ = {0, extent};
    for (const auto& p : data) {
      const auto& r = p.from->range[dimension];
      if (r.step != 1) {
        stepped_ = true;
        cells_ = extent;
        return;
      }
      cuts_.push_back(r.begin);
      cuts_.push_back(r.end);
    }
    std::sort(cuts_.begin(), cuts_.end());
    cuts_.erase(std::unique(cuts_.begin(), cuts_.end()), cuts_.end());
    cells_ = cuts_.size() - 1;
  }

  std::uint64_t cells() const { return cells_; }
  /// The cells of a range.
  slice cells_of(const slice& r) const {
    if (stepped_) return r;
    const auto number = [&](std::uint64_t at) {
      return static_cast<std::uint64_t>(std::lower_bound(cuts_.begin(), cuts_.end(), at) - cuts_.begin());
    };
    return {number(r.begin), number(r.end), 1};
  }

 private:
  std::vector<std::uint64_t> cuts_;
  std::uint64_t cells_ = 0;
  bool stepped_ = false;
};

/// Marks the cells of one part; false if one was marked before.
class cell_marks {
 public:
  explicit cell_marks(std::vector<cut_dimension> dimensions) : dimensions_(std::move(dimensions)) {
    std::uint64_t n = 1;
    for (const auto& d : dimensions_) n *= d.cells();
    marked_.resize(static_cast<std::size_t>(n));
  }
  bool mark(const conversion& c) { return mark(c, 0, 0); }
  std::uint64_t missing() const {
    return static_cast<std::uint64_t>(std::count(marked_.begin(), marked_.end(), false));
  }

 private:
  bool mark(const conversion& c, std::size_t dimension, std::uint64_t at) {
    if (dimension == dimensions_.size()) {
      const auto cell = static_cast<std::size_t>(at);
      const bool fresh = !marked_[cell];
      marked_[cell] = true;
      return fresh;
    }
    const auto cells = dimensions_[dimension].cells_of(c.range[dimension]);
    for (auto i = cells.begin; i < cells.end; i += cells.step)
      if (!mark(c, dimension + 1, at * dimensions_[dimension].cells() + i)) return false;
    return true;
  }

  std::vector<cut_dimension> dimensions_;
  std::vector<bool> marked_;
};

/// Far more than any checkpoint needs, and little memory.
constexpr std::uint64_t most_cells = std::uint64_t{1} << 28;

}  // namespace

result<done> check_coverage(const tensor& t, std::span<const tensor_part> data) {
  std::uint64_t filled = 0;
  for (const auto& p : data) {
    std::uint64_t n = 1;
    for (std::size_t d = 0; d < t.shape.size(); ++d) {
      const auto& r = p.from->range[d];
      if (r.end > t.shape[d] || r.step == 0)
        return fail(
            errc::inconsistent_model, t.name,
            text<416>("its part ").append(p.from->stored).append(" lies outside shape ").append(words_of(t.shape)));
      n *= extent_of(r);
    }
    filled += n;
  }
  if (t.elements == 0 || (data.size() == 1 && filled == t.elements)) return done{};
  std::vector<cut_dimension> dimensions;
  std::uint64_t cells = 1;
  for (std::size_t d = 0; d < t.shape.size(); ++d) {
    cells *= dimensions.emplace_back(t.shape[d], data, d).cells();
    if (cells > most_cells) return fail(errc::unsupported, t.name, "is stored in too many small parts to be checked");
  }
  cell_marks marks(std::move(dimensions));
  for (const auto& p : data)
    if (!marks.mark(*p.from))
      return fail(
          errc::inconsistent_model, t.name,
          text<416>("its part ").append(p.from->stored).append(" is stored twice, under this and another name"));
  if (marks.missing() > 0)
    return fail(errc::inconsistent_model, t.name,
                text<416>("only ")
                    .append(filled)
                    .append(" of its ")
                    .append(t.elements)
                    .append(" elements are stored; the checkpoint is incomplete"));
  return done{};
}

}  // namespace berth
