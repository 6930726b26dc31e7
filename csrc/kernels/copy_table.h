// Moving elements about, whatever they mean.
#pragma once
#include <cstddef>
#include <cstdint>

namespace backtrail {

struct Piece {
  const char* from;
  int64_t bytes;
};

// Source and destination do not overlap. Items are of 1, 2, 4 or 8 bytes.
struct CopyTable {
  // dst[i * dst_stride] = src[i * src_stride] for i < n. Strides in items, of any sign, or 0 in
  // src.
  void (*strided)(void* dst, int64_t dst_stride, const void* src, int64_t src_stride, int64_t n,
                  size_t item_size);

  // dst[i * dst_stride + j] = src[i + j * src_stride] for i < rows, j < columns: a transpose, in
  // tiles that use whole cache lines on both sides. Strides in items.
  void (*transposed)(void* dst, int64_t dst_stride, const void* src, int64_t src_stride,
                     int64_t rows, int64_t columns, size_t item_size);

  // `bytes` bytes from src + i * src_step to dst + i * dst_step for i < rows. Steps in bytes.
  void (*rows)(char* dst, int64_t dst_step, const char* src, int64_t src_step, int64_t rows,
               int64_t bytes);

  // Rows of n pieces, none of them empty, one after another; each moves on by its length.
  void (*joined)(char* dst, Piece* pieces, int n, int64_t rows);

  // dst[i * n + j] = src[i * src_stride] for i < rows, j < n.
  void (*repeated)(void* dst, const void* src, int64_t src_stride, int64_t rows, int64_t n,
                   size_t item_size);

  // dst[i * n + j] = src[i * src_stride + index[j]] for i < rows, j < n.
  void (*columns)(void* dst, const void* src, int64_t src_stride, int64_t rows,
                  const int64_t* index, int64_t n, size_t item_size);
};

}  // namespace backtrail
