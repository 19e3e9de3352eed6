// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>

export module berth.exec:transform;

import berth.base;
import :requests;

export namespace berth {

enum class transform_kind : std::uint8_t {
  convert,   ///< elements to another dtype, at other places
  quantize,  ///< rows of floats to int8 codes with one f32 scale each (LLM.int8 weights)
};

/// What stored bytes become behind their copy: a matrix of `rows` x `columns` elements goes from `source` to `target`,
/// both on the device that works. Strides are in elements, so that transposed and interleaved tensors need no other
/// kind. Codes lie row by row without gaps.
struct transform {
  transform_kind kind = transform_kind::convert;
  dtype from = dtype::f32;
  dtype to = dtype::f32;  ///< of `quantize`: i8
  std::uint64_t rows = 0, columns = 0;
  const std::byte* source = nullptr;
  std::uint64_t source_row_stride = 0, source_column_stride = 1;
  std::byte* target = nullptr;
  std::uint64_t target_row_stride = 0, target_column_stride = 1;
  float* scales = nullptr;           ///< of `quantize`: one per row
  std::uint32_t* bad_row = nullptr;  ///< of `quantize`: becomes the least row that has no scale, if there is one
};

/// Who carries transforms out on a kind of device; called from inside a launch.
struct transform_engine {
  void* context = nullptr;
  void (*run)(void* context, const transform& t, const work_call& call) = nullptr;
};

}  // namespace berth
