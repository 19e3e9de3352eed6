// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

export module berth.compat:sizes;

import berth.model;
import :number;

export namespace berth::hf {

/// Bytes of a set of tensors, exact in eighths of a byte (bool counts 1/8 byte per element in accelerate). It is a
/// Python float as soon as one tensor in it has a fractional width, whatever its value.
struct byte_sum {
  int128 eighths = 0;
  std::uint32_t fractional = 0;  ///< tensors whose width is not a whole number of bytes
  std::uint32_t tensors = 0;     ///< tensors counted; a module with none is absent from the peers' dictionaries

  inline number value() const {
    if (fractional == 0) return number(eighths / 8);
    return number::real(static_cast<double>(eighths) / 8.0);
  }
  inline byte_sum& operator+=(const byte_sum& o) {
    eighths += o.eighths;
    fractional += o.fractional;
    tensors += o.tensors;
    return *this;
  }
};

/// Width of one element in eighths of a byte, or `uncounted` for a tensor that the walk leaves out (an object met
/// before, a tie target).
using element_width = std::uint32_t;
inline constexpr element_width uncounted = 0xffffffffu;

/// One entry of a size dictionary.
struct named_size {
  std::string_view name;
  number bytes;
};

/// What the peers' `compute_module_sizes` returns: bytes of every module and tensor by index. Refers to the tree.
class module_sizes {
 public:
  /// Widths per parameter and per buffer of the tree. Linear time.
  module_sizes(const module_tree& tree, std::vector<element_width> parameters, std::vector<element_width> buffers);

  inline const byte_sum& of_module(module_index m) const { return modules_[m]; }
  inline byte_sum of_parameter(std::uint32_t i) const { return sum_of(tree_->parameters()[i], parameters_[i]); }
  inline byte_sum of_buffer(std::uint32_t i) const { return sum_of(tree_->buffers()[i], buffers_[i]); }
  /// True if a parameter (not only buffers) was counted in module `m` or below.
  bool counts_parameters(module_index m) const;
  inline number total() const { return modules_.front().value(); }

  /// The dictionary in the peers' order: tensors in walk order (parameters, then buffers), each behind those of its
  /// ancestors that are new, from the root down.
  std::vector<named_size> entries() const;

 private:
  static inline byte_sum sum_of(const tensor& t, element_width w) {
    if (w == uncounted) return {};
    return {static_cast<int128>(t.elements) * w, w % 8 != 0 ? 1u : 0u, 1u};
  }
  const module_tree* tree_;
  std::vector<byte_sum> modules_;
  std::vector<element_width> parameters_;
  std::vector<element_width> buffers_;
};

/// Torch names ("float16"), short forms ("fp16") and accelerate's "custom.INT4" by full tensor name.
using special_dtypes = std::vector<std::pair<std::string, std::string>>;

namespace accelerate {

/// `dtype_byte_size`: bytes per element, a float for bool and the custom sub-byte types. A name without a number at
/// its end is refused (`invalid_argument`, ValueError), as in the peer.
result<number> dtype_byte_size(std::string_view dtype_name);

/// `compute_module_sizes`: every parameter and buffer object once, under its first name; `dtype` ("" for none) only
/// shrinks floating and complex tensors, `special` sets widths by full name. Errors: those of `dtype_byte_size`.
result<module_sizes> compute_module_sizes(const module_tree& tree, std::string_view dtype = {},
                                          const special_dtypes& special = {});

}  // namespace accelerate
}  // namespace berth::hf
