// What one instruction set offers beyond arithmetic on tensors: conversions between element types
// and copies by strides.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace backtrail {

using ConvertKernel = void (*)(const void* src, void* dst, int64_t n);

struct NumericTable {
  // convert[from][to], indexed by DType, on contiguous elements that do not overlap. To integers:
  // toward 0; NaN and values out of range become the lowest int32 or int64; uint8 is the low byte
  // of the int64. To bool: x != 0. To bfloat16: through float32, to the nearest even.
  ConvertKernel convert[kDTypes][kDTypes];

  // dst[i * dst_stride] = src[i * src_stride] for i < n. Items of 1, 2, 4 or 8 bytes; strides in
  // items, of any sign, or 0 in src.
  void (*copy_strided)(void* dst, int64_t dst_stride, const void* src, int64_t src_stride, int64_t n,
                       size_t item_size);

  // dst[i * dst_stride + j] = src[i + j * src_stride] for i < rows, j < columns: a transpose, in
  // tiles that use whole cache lines on both sides.
  void (*copy_transposed)(void* dst, int64_t dst_stride, const void* src, int64_t src_stride,
                          int64_t rows, int64_t columns, size_t item_size);
};

}  // namespace backtrail
