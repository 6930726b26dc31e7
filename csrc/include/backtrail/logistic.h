// The logistic function and its logarithm for every type with the arithmetic of Vec. Both sides of
// 0 are formulas of their own, so that derivatives of every order are right there and at both ends.
#pragma once
#include "backtrail/simd.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace meta {

// 1 / (1 + exp(-x)).
template <class V>
BACKTRAIL_INLINE V logistic(V x) {
  auto negative = x < V(0);
  V e = exp(select(negative, x, -x));  // argument <= 0: cannot overflow
  return select(negative, e, V(1)) / (V(1) + e);
}

template <class V>
BACKTRAIL_INLINE V log_logistic(V x) {
  auto negative = x < V(0);
  return select(negative, x, V(0)) - log1p(exp(select(negative, x, -x)));
}

}  // namespace meta
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
