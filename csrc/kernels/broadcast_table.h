// Sums, differences, products and quotients of a matrix with a row or a column, in one pass.
#pragma once
#include <cstdint>

#include "backtrail/pointwise.h"

namespace backtrail {

// An op of two inputs on a dense matrix of `rows` rows of `n`, at least 64 bytes each, into one
// like it. `other` is a column, an element for each row, `step` elements apart; or a row for all of
// them, which begins anew after its end for another 64 bytes.
using BroadcastKernel = void (*)(void* out, const void* matrix, const void* other, int64_t step,
                                 int64_t rows, int64_t n, const double* attrs);

struct BroadcastTable {
  struct Entry {
    PointwiseKernel flat;  // the op on operands of one shape
    // [i]: input i is not the matrix
    BroadcastKernel row[2], column[2];
  };
  static constexpr int kEntries = 8;
  Entry entries[kEntries];

  // Null where there is none for the op and the element type of `flat`.
  const Entry* find(PointwiseKernel flat) const {
    for (const Entry& e : entries)
      if (e.flat == flat) return &e;
    return nullptr;
  }
};

}  // namespace backtrail
