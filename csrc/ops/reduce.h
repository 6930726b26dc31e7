// Reductions: the neutral element and how two partial results combine.
#pragma once
#include "backtrail/simd.h"

namespace backtrail {

enum class Reduction : uint8_t { sum, prod, max, min };
constexpr int kReductions = 4;

inline namespace BACKTRAIL_TARGET {
namespace ops {

// `combine` joins two vectors; `chain` a few elements, one after the other.
struct SumOf {
  template <class V> static V neutral() { return V(0); }
  template <class V> static V combine(V a, V b) { return a + b; }
  template <class T> static T chain(const T* x, int64_t n) {
    using U = typename native::Traits<T>::Wrapping;
    U sum = U(x[0]);
    for (int64_t i = 1; i < n; ++i) sum += U(x[i]);
    return T(sum);
  }
};
struct ProductOf {
  template <class V> static V neutral() { return V(1); }
  template <class V> static V combine(V a, V b) { return a * b; }
  template <class T> static T chain(const T* x, int64_t n) {
    using U = typename native::Traits<T>::Wrapping;
    U product = U(x[0]);
    for (int64_t i = 1; i < n; ++i) product *= U(x[i]);
    return T(product);
  }
};
template <class V> V lowest() {  // of the lanes' type
  using T = typename V::Scalar;
  if constexpr (T(0.5) == T(0))
    return V(INT64_MIN);
  else
    return V(-__builtin_inf());
}
// NaN if there is one.
template <class T, class F> T extreme(const T* x, int64_t n, F better) {
  T best = x[0], rest = T(0);
  for (int64_t i = 1; i < n; ++i) best = better(x[i], best);
  if constexpr (T(0.5) != T(0)) {
    for (int64_t i = 0; i < n; ++i) rest += x[i] != x[i] ? T(1) : T(0);
    if (rest != T(0)) return T(__builtin_nan(""));
  }
  return best;
}
struct MaxOf {
  template <class V> static V neutral() { return lowest<V>(); }
  template <class V> static V combine(V a, V b) { return max(a, b); }
  template <class T> static T chain(const T* x, int64_t n) {
    return extreme(x, n, [](T a, T b) { return a > b ? a : b; });
  }
};
struct MinOf {
  template <class V> static V neutral() {
    using T = typename V::Scalar;
    if constexpr (T(0.5) == T(0))
      return V(INT64_MAX);
    else
      return V(__builtin_inf());
  }
  template <class V> static V combine(V a, V b) { return min(a, b); }
  template <class T> static T chain(const T* x, int64_t n) {
    return extreme(x, n, [](T a, T b) { return a < b ? a : b; });
  }
};

}  // namespace ops
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
