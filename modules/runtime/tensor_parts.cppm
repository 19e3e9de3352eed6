// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

// Not exported: which stored tensors make up each tensor of a tree, and whether they can.
export module berth.runtime:tensor_parts;

import berth.base;
import berth.model;

namespace berth {

/// What a stored tensor is to a tree tensor.
enum class part_kind : std::uint8_t { data, scales, other };  // scales: SCB of bitsandbytes; other: a companion

/// A stored tensor that is a part of a tree tensor.
struct tensor_part {
  std::uint32_t tensor = 0;  ///< parameters of the tree, then buffers
  std::uint32_t stored = 0;  ///< index into the sources' tensors
  part_kind kind = part_kind::data;
  const conversion* from = nullptr;  ///< of data
  bool single = false;               ///< has one row of the leading dimension; companions: their data has
  std::uint64_t lead = 0;            ///< where its rows begin
};

/// The part of a tensor that an atom has: rows [first, last) of its leading dimension, or all of it.
struct leading_rows {
  std::uint64_t first = 0, last = 0;
  bool all = true;
};
/// Those of one kind. O(log parts).
std::span<const tensor_part> parts_of_kind(std::span<const tensor_part> parts, part_kind kind);
/// Those of one kind that may have one of these rows: the ones with many rows, then those of one row each that match.
/// O(log parts).
std::array<std::span<const tensor_part>, 2> parts_with(std::span<const tensor_part> parts, part_kind kind,
                                                       const leading_rows& rows);

/// How a tensor gets onto its device.
enum class arrival : std::uint8_t {
  absent,    ///< no file holds it
  elements,  ///< its elements, in the dtype of the form
  quantize,  ///< int8 from floats
  codes,     ///< int8 from codes and scales that are stored
  packed,    ///< stored bytes as they are
};

/// A tensor of the tree as images hold it.
struct arriving_tensor {
  const tensor* what = nullptr;
  tensor_form form{};
  bytes size = 0;
  bytes alignment = 1;  ///< what its offset should be a multiple of
  arrival how = arrival::absent;
  std::uint32_t source = none;  ///< tensor of the same storage whose parts are taken
};

/// The parts of every tensor of a tree, and what becomes of them.
class tensor_parts {
 public:
  /// `tree` and `sources` must outlive the parts. Errors as `make_images`.
  static result<tensor_parts> make(const module_tree& tree, const weight_sources& sources, const tensor_sizes& stored,
                                   const precision& how);

  /// By kind; within it those of many rows, then those of one row; by place, then name.
  std::span<const tensor_part> of(std::uint32_t tensor) const {
    return std::span(parts_).subspan(begin_[tensor], begin_[tensor + 1] - begin_[tensor]);
  }
  const arriving_tensor& arriving(std::uint32_t tensor) const { return arriving_[tensor]; }
  std::uint32_t count() const { return static_cast<std::uint32_t>(arriving_.size()); }

 private:
  tensor_parts(const module_tree& tree, const weight_sources& sources) : tree_(&tree), sources_(&sources) {}

  result<done> collect();
  void place_companions();
  void sort_parts();
  void choose_sources();
  result<done> resolve(std::uint32_t tensor);
  result<done> resolve_codes(arriving_tensor& t) const;
  result<done> resolve_packed(arriving_tensor& t) const;
  result<done> check_elements(const arriving_tensor& t) const;
  const tensor& tensor_of(std::uint32_t tensor) const {
    const auto n = tree_->parameters().size();
    return tensor < n ? tree_->parameters()[tensor] : tree_->buffers()[tensor - n];
  }

  const module_tree* tree_;
  const weight_sources* sources_;
  std::vector<tensor_part> parts_;
  std::vector<std::size_t> begin_;
  std::vector<arriving_tensor> arriving_;
};

/// Whether the ranges of `data` fill a tensor of this shape, each element once. Errors name `t`.
result<done> check_coverage(const tensor& t, std::span<const tensor_part> data);

/// Elements of a slice.
inline std::uint64_t extent_of(const slice& s) {
  return s.end <= s.begin || s.step == 0 ? 0 : (s.end - s.begin + s.step - 1) / s.step;
}
/// "[2, 3]"
inline text<96> words_of(std::span<const std::uint64_t> shape) {
  text<96> out("[");
  for (std::size_t i = 0; i < shape.size(); ++i) out.append(i > 0 ? ", " : "").append(shape[i]);
  return out.append("]");
}

}  // namespace berth
