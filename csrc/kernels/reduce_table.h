// Kernels of the reductions, by `Reduction`.
#pragma once
#include <cstdint>

#include "ops/reduce.h"

namespace backtrail {

template <class T>
struct ReduceTable {
  // out[r] = reduction of x[r * n ... + n), for r < rows; contiguous.
  void (*rows[kReductions])(const T* x, int64_t rows, int64_t n, T* out);
  // out[c] = reduction over r of x[r * stride + c], for c < n.
  void (*columns[kReductions])(const T* x, int64_t rows, int64_t stride, int64_t n, T* out);
  // Index of the first largest (smallest) element of each row; a NaN counts as both.
  void (*argmax)(const T* x, int64_t rows, int64_t n, int64_t* out);
  void (*argmin)(const T* x, int64_t rows, int64_t n, int64_t* out);
};

}  // namespace backtrail
