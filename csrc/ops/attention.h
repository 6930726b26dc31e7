// One row of attention scores: its softmax and the derivative side by side.
#pragma once
#include "ops/rowwise.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace ops {

// The query sees the first n keys; what lies between n and `end` becomes 0.
struct AttentionRow {
  // scores + mask -> exp(that - max), with its max and sum. `mask` may be null.
  template <class T>
  static BACKTRAIL_INLINE void forward(int64_t n, int64_t end, T* scores, const T* mask, T* max,
                                       T* sum) {
    using V = Vec<T>;
    if (mask)
      each<T>(n, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
        part.store(part.load(scores + i) + part.load(mask + i), scores + i);
      });
    *max = max_row(n, scores);
    // Where everything is masked, exp(-inf - 0) = 0 and not exp(-inf + inf) = NaN.
    const V shift(*max == T(-__builtin_inf()) ? T(0) : *max);
    T total[1];
    sum_row<T>(n, total, [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
      V e = exp(part.pad(part.load(scores + i) - shift, T(-__builtin_inf())));
      part.store(e, scores + i);
      s[0] += e;
    });
    *sum = total[0];
    for (int64_t i = n; i < end; ++i) scores[i] = T(0);
  }

  // scores -> p = exp(scores + mask - lse) and dp -> p * (dp - sum(p * dp)), the gradient of the
  // scores.
  template <class T>
  static BACKTRAIL_INLINE void backward(int64_t n, int64_t end, T* scores, T* dp, const T* mask,
                                        T lse) {
    using V = Vec<T>;
    T dot[1];
    sum_row<T>(n, dot, [&](int64_t i, auto part, V* s) BACKTRAIL_LAMBDA {
      V score = part.load(scores + i);
      if (mask) score += part.load(mask + i);
      V p = part.pad(exp(score - V(lse)), T(0));
      part.store(p, scores + i);
      s[0] = fma(p, part.load(dp + i), s[0]);
    });
    each<T>(n, [&](int64_t i, auto part) BACKTRAIL_LAMBDA {
      part.store(part.load(scores + i) * (part.load(dp + i) - V(dot[0])), dp + i);
    });
    for (int64_t i = n; i < end; ++i) scores[i] = dp[i] = T(0);
  }
};

}  // namespace ops
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
