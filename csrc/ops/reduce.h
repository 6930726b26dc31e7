// Reductions: the neutral element and how two partial results combine.
#pragma once
#include "backtrail/simd.h"

namespace backtrail {

enum class Reduction : uint8_t { sum, prod, max, min };
constexpr int kReductions = 4;

inline namespace BACKTRAIL_TARGET {
namespace ops {

struct SumOf {
  template <class V> static V neutral() { return V(0); }
  template <class V> static V combine(V a, V b) { return a + b; }
  template <class T> static T combine_one(T a, T b) {
    using U = typename native::Traits<T>::Wrapping;
    return T(U(a) + U(b));
  }
};
struct ProductOf {
  template <class V> static V neutral() { return V(1); }
  template <class V> static V combine(V a, V b) { return a * b; }
  template <class T> static T combine_one(T a, T b) {
    using U = typename native::Traits<T>::Wrapping;
    return T(U(a) * U(b));
  }
};
template <class V> V lowest() {  // of the lanes' type
  using T = typename V::Scalar;
  if constexpr (T(0.5) == T(0))
    return V(INT64_MIN);
  else
    return V(-__builtin_inf());
}
struct MaxOf {
  template <class V> static V neutral() { return lowest<V>(); }
  template <class V> static V combine(V a, V b) { return max(a, b); }
  template <class T> static T combine_one(T a, T b) { return a > b || a != a ? a : b; }
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
  template <class T> static T combine_one(T a, T b) { return a < b || a != a ? a : b; }
};

}  // namespace ops
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
