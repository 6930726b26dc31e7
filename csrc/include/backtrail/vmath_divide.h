// Division with a remainder: fmod, exact whatever the quotient, quotients rounded down or towards
// 0, and the same for integers.
#pragma once

#include "backtrail/vmath_core.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace math {

// f(a, b) lane by lane.
template <class T, class F>
BACKTRAIL_INLINE Vec<T> by_lane(Vec<T> a, Vec<T> b, F f) {
  Vec<T> y;
  for (int i = 0; i < kRegs; ++i)
    for (int j = 0; j < Vec<T>::kLanesPerReg; ++j) y.r[i][j] = f(a.r[i][j], b.r[i][j]);
  return y;
}

// fmod where |a / b| is at least `limit`, `r` elsewhere; exact, and so the same everywhere.
template <class T>
__attribute__((noinline)) Vec<T> far_fmod(Vec<T> a, Vec<T> b, Vec<T> r, T limit) {
  for (int i = 0; i < kRegs; ++i)
    for (int j = 0; j < Vec<T>::kLanesPerReg; ++j) {
      const T n = a.r[i][j], d = b.r[i][j], q = n / d;
      if (!(q >= limit || q <= -limit)) continue;
      r.r[i][j] = sizeof(T) == 4 ? T(__builtin_fmodf(float(n), float(d))) : T(__builtin_fmod(n, d));
    }
  return r;
}

}  // namespace math

// a - trunc(a / b) * b with the sign of a. Of integers: division by 0 gives 0.
template <class T>
BACKTRAIL_INLINE Vec<T> fmod(Vec<T> a, Vec<T> b) {
  if constexpr (Vec<T>::is_integer) {
    return math::by_lane(a, b, [](T n, T d) {
      return d == 0 || d == -1 ? T(0) : T(n % d);  // the lowest integer % -1 traps
    });
  } else {
    using V = Vec<T>;
    // Below it the rounded quotient is off by one at most, which shows in the sign or the size of
    // what is left. Without FMA that would not be exact: all but the smallest go lane by lane.
    constexpr T limit = native::kHasFma ? T(int64_t(1) << math::Real<T>::kMantissa) : T(1);
    const V q = a / b, size = abs(b);
    V r = fma(-trunc(q), b, a);
    r = select((r != V(0)) & ((r < V(0)) ^ (a < V(0))), select(a < V(0), r - size, r + size), r);
    r = select(abs(r) >= size, select(a < V(0), r + size, r - size), r);
    r = select(isinf(b) & !isinf(a), a, r);
    if (any(abs(q) >= V(limit))) r = math::far_fmod(a, b, r, limit);
    return copysign(r, a);
  }
}

// The remainder with the sign of b.
template <class T>
BACKTRAIL_INLINE Vec<T> remainder(Vec<T> a, Vec<T> b) {
  if constexpr (Vec<T>::is_integer) {
    return math::by_lane(a, b, [](T n, T d) {
      const T m = d == 0 || d == -1 ? T(0) : T(n % d);
      return m != 0 && (m < 0) != (d < 0) ? T(m + d) : m;
    });
  } else {
    const Vec<T> r = fmod(a, b), zero(0);
    return select((r != zero) & ((r < zero) ^ (b < zero)), r + b, r);
  }
}

template <class T>
BACKTRAIL_INLINE Vec<T> trunc_divide(Vec<T> a, Vec<T> b) {
  if constexpr (Vec<T>::is_integer) {
    return math::by_lane(a, b, [](T n, T d) {
      using Wrapping = typename native::Traits<T>::Wrapping;
      return d == 0 ? T(0) : d == -1 ? T(-Wrapping(n)) : T(n / d);
    });
  } else {
    return trunc(a / b);
  }
}

template <class T>
BACKTRAIL_INLINE Vec<T> floor_divide(Vec<T> a, Vec<T> b) {
  if constexpr (Vec<T>::is_integer) {
    return math::by_lane(a, b, [](T n, T d) {
      using Wrapping = typename native::Traits<T>::Wrapping;
      const T q = d == 0 ? T(0) : d == -1 ? T(-Wrapping(n)) : T(n / d);
      return d != 0 && d != -1 && n % d != 0 && (n < 0) != (d < 0) ? T(q - 1) : q;
    });
  } else {
    using V = Vec<T>;
    const V r = fmod(a, b);
    V exact = (a - r) / b;  // but for the rounding of the division, which is at most a half
    exact = select((r != V(0)) & ((r < V(0)) ^ (b < V(0))), exact - V(1), exact);
    const V q = select(exact != V(0), round(exact), copysign(V(0), a / b));
    return select(b == V(0), a / b, q);
  }
}

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
