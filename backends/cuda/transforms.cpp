// SPDX-License-Identifier: Apache-2.0
module;

#include <cstddef>
#include <cstdint>

module berth.cuda;

import berth.base;
import berth.exec;

namespace berth::cuda {
namespace {

/// The number in kernels.h of bits that are only moved.
constexpr int bits_type(unsigned bits) {
  switch (bits) {
    case 8:
      return 7;
    case 16:
      return 8;
    case 32:
      return 9;
    case 64:
      return 10;
    default:
      return -1;
  }
}

void run(void* context, const transform& t, const work_call& call) {
  const auto& k = *static_cast<const kernel_table*>(context);
  // The status is also the thread's last error, where the machine looks.
  if (t.kind == transform_kind::quantize) {
    (void)k.quantize(t.rows, t.columns, kernel_type(t.from), t.source, t.source_row_stride, t.source_column_stride,
                     reinterpret_cast<std::int8_t*>(t.target), t.scales, t.bad_row, call.native_stream);
    return;
  }
  const bool moves = t.from == t.to;
  const int from = moves ? bits_type(bits_of(t.from)) : kernel_type(t.from);
  const int to = moves ? from : kernel_type(t.to);
  (void)k.convert(t.rows, t.columns, from, t.source, t.source_row_stride, t.source_column_stride, to, t.target,
                  t.target_row_stride, t.target_column_stride, call.native_stream);
}

}  // namespace

transform_engine cuda_transforms(const kernel_table& kernels) { return {const_cast<kernel_table*>(&kernels), &run}; }

bool has_transform(transform_kind kind, dtype from, dtype to) {
  const auto quantizable = [](dtype t) { return t == dtype::f32 || t == dtype::f16 || t == dtype::bf16; };
  if (kind == transform_kind::quantize) return quantizable(from) && to == dtype::i8;
  if (from == to) return bits_type(bits_of(from)) >= 0;
  return kernel_type(from) >= 0 && (quantizable(to) || to == dtype::f64);
}

}  // namespace berth::cuda
