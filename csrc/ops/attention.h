// Rows of attention scores: their softmax and its derivative side by side.
#pragma once
#include "ops/rowwise.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace ops {

// Q rows at `stride`, of which row q has seen[q] scores; a row's memory extends to the next multiple
// of the lanes past `end`. Scores in [seen, end) become 0. `mask`, also Q rows, may be null.
template <int Q, class T> struct AttentionRows {
  using V = Vec<T>;
  int64_t seen[Q];
  int64_t end, stride;
  const T* mask;
  int64_t mask_stride;

  // scores + mask -> exp(that - max), with its max and sum.
  BACKTRAIL_INLINE void forward(T* scores, T* max, T* sum) const {
    const T least = T(-__builtin_inf());
    V top[Q], shift[Q], total[Q][1];
    if (mask) BACKTRAIL_EACH_ROW add_mask(q, scores + q * stride);
    BACKTRAIL_EACH_ROW top[q] = max_row(seen[q], scores + q * stride);
    BACKTRAIL_EACH_ROW max[q] = largest(top[q]);
    // Where everything is masked, exp(-inf - 0) = 0 and not exp(-inf + inf) = NaN.
    BACKTRAIL_EACH_ROW shift[q] = V(max[q] == least ? T(0) : max[q]);
    BACKTRAIL_EACH_ROW {
      T* row = scores + q * stride;
      sum_row<T, 2>(seen[q], total[q], [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
        V e = exp(part.pad(V::load(row + i) - shift[q], least));
        e.store(row + i);
        s[0] += e;
      });
      clear(q, row);
    }
    BACKTRAIL_EACH_ROW sum[q] = reduce_add(total[q][0]);
  }

  // scores -> p = exp(scores + mask - lse) and dp -> p * (dp - sum(p * dp)), the gradient of the
  // scores.
  BACKTRAIL_INLINE void backward(T* scores, T* dp, const T* lse) const {
    V total[Q][1], dot[Q];
    if (mask) BACKTRAIL_EACH_ROW add_mask(q, scores + q * stride);
    BACKTRAIL_EACH_ROW {
      T *row = scores + q * stride, *drow = dp + q * stride;
      const V shift(lse[q]);
      sum_row<T, 2>(seen[q], total[q], [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
        V p = part.pad(exp(V::load(row + i) - shift), T(0));
        p.store(row + i);
        s[0] = fma(p, part.pad(V::load(drow + i), T(0)), s[0]);
      });
      clear(q, row);
    }
    BACKTRAIL_EACH_ROW dot[q] = V(reduce_add(total[q][0]));
    BACKTRAIL_EACH_ROW {
      T *row = scores + q * stride, *drow = dp + q * stride;
      each<T>(seen[q], [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
        part.pad(V::load(row + i) * (V::load(drow + i) - dot[q]), T(0)).store(drow + i);
      });
      clear(q, drow);
    }
  }

 private:
  BACKTRAIL_INLINE void add_mask(int q, T* row) const {
    each<T>(seen[q], [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      (V::load(row + i) + part.load(mask + q * mask_stride + i)).store(row + i);
    });
  }
  // From the first vector past the row's own.
  BACKTRAIL_INLINE void clear(int q, T* row) const {
    for (int64_t i = (seen[q] + V::lanes - 1) / V::lanes * V::lanes; i < end; i += V::lanes)
      V(0).store(row + i);
  }
};

}  // namespace ops
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
