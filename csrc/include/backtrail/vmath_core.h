// What the functions of vmath.h share: constants of a floating type, exact products, powers of two.
//
// All polynomial coefficients of vmath*.h are minimax: a Remez exchange in 60 digits against
// mpmath, with the weight that makes the error relative to the function, the coefficients rounded
// to the type in turn from the lowest up and the others refitted each time. The comment at a
// polynomial gives its largest relative error. Constants split in two ("high" short enough for
// exact products, and the rest) are mpmath's too.
#pragma once

#include "backtrail/simd.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace math {

template <class T>
struct Real;
template <>
struct Real<float> {
  using Bits = int32_t;
  static constexpr int kMantissa = 23;          // stored bits
  static constexpr float kInteger = 0x1.8p23f;  // x + kInteger: x as an integer, in the low bits
  static constexpr int kLeastExponent = -126;
  static constexpr float kNormal = 0x1p-126f;  // least normal number
  static constexpr float kTiny = 0x1p-26f;     // below it expm1, log1p, tanh, ... are the identity
};
template <>
struct Real<double> {
  using Bits = int64_t;
  static constexpr int kMantissa = 52;
  static constexpr double kInteger = 0x1.8p52;
  static constexpr int kLeastExponent = -1022;
  static constexpr double kNormal = 0x1p-1022;
  static constexpr double kTiny = 0x1p-55;
};

constexpr double kInf = __builtin_inf();

// c0 + c1 x + c2 x^2 + ...
template <class V>
BACKTRAIL_INLINE V polynomial(V, double c0) {
  return V(c0);
}
template <class V, class... C>
BACKTRAIL_INLINE V polynomial(V x, double c0, C... rest) {
  return fma(polynomial(x, rest...), x, V(c0));
}

// a * b - p, exactly, where p is a * b rounded. Without FMA by Dekker's splitting, for a and b
// below 2^996.
template <class T>
BACKTRAIL_INLINE Vec<T> product_error(Vec<T> a, Vec<T> b, Vec<T> p) {
  if constexpr (native::kHasFma) {
    return fma(a, b, -p);
  } else {
    const Vec<T> split(sizeof(T) == 4 ? 0x1p12 + 1 : 0x1p27 + 1);
    Vec<T> ta = a * split, tb = b * split;
    Vec<T> ah = ta - (ta - a), bh = tb - (tb - b), al = a - ah, bl = b - bh;
    return ((ah * bh - p) + ah * bl + al * bh) + al * bl;
  }
}

// a + b - s, exactly, where s is a + b rounded.
template <class T>
BACKTRAIL_INLINE Vec<T> sum_error(Vec<T> a, Vec<T> b, Vec<T> s) {
  Vec<T> t = s - a;
  return (a - (s - t)) + (b - t);
}

// 2^n for integral n between the exponents of normal numbers.
template <class T>
BACKTRAIL_INLINE Vec<T> power_of_2(Vec<T> n) {
  using I = typename Real<T>::Bits;
  auto low = (n + Vec<T>(Real<T>::kInteger)).template bits_as<I>() << Real<T>::kMantissa;
  return (low + Vec<T>(1).template bits_as<I>()).template bits_as<T>();
}

// x * 2^n for x in (1/4, 4) and integral n, |n| < twice the greatest exponent; rounded once when
// denormal.
template <class T>
BACKTRAIL_INLINE Vec<T> scale(Vec<T> x, Vec<T> n) {
#if defined(BACKTRAIL_AVX512)
  if constexpr (sizeof(T) == 4) {
    x.r[0] = _mm512_scalef_ps(x.r[0], n.r[0]);
  } else {
    x.r[0] = _mm512_scalef_pd(x.r[0], n.r[0]);
  }
  return x;
#else
  const Vec<T> integer(Real<T>::kInteger);
  Vec<T> half = fma(n, Vec<T>(0.5), integer) - integer;
  return x * power_of_2(half) * power_of_2(n - half);
#endif
}

// The same where the result cannot be denormal.
template <class T>
BACKTRAIL_INLINE Vec<T> scale_normal(Vec<T> x, Vec<T> n) {
#if defined(BACKTRAIL_AVX512)
  return scale(x, n);
#else
  return x * power_of_2(n);
#endif
}

// x with its sign flipped where the integral n is odd.
template <class T>
BACKTRAIL_INLINE Vec<T> negate_if_odd(Vec<T> x, Vec<T> n) {
  using I = typename Real<T>::Bits;
  auto parity = (n + Vec<T>(Real<T>::kInteger)).template bits_as<I>() << (8 * sizeof(T) - 1);
  return (x.template bits_as<I>() ^ parity).template bits_as<T>();
}

// The value at x clamped to [low, high]; NaN stays.
template <class T>
BACKTRAIL_INLINE Vec<T> clamp(Vec<T> x, double low, double high) {
  return below(Vec<T>(high), above(Vec<T>(low), x));
}

// Eight lanes as doubles, from register `first` on.
BACKTRAIL_INLINE Vec<double> half_as_double(const Vec<float>& x, int first) {
  Vec<double> d;
  BACKTRAIL_EACH_REG(native::F32 from = x.r[first + i / 2];
                     d.r[i] = i % 2 ? native::widen_high(from) : native::widen_low(from);)
  return d;
}
// Runs a function of doubles on the two halves of a float vector.
template <class F, class... X>
BACKTRAIL_INLINE Vec<float> in_double(F f, X... x) {
  if constexpr (kRegs == 1) {
    return to_float(f(low_as_double(x)...), f(high_as_double(x)...));
  } else {
    // A true loop: interleaved, the two halves would not fit in 16 registers.
    Vec<float> y;
    _Pragma("GCC unroll 1") for (int half = 0; half < 2; ++half) {
      const int first = half * kRegs / 2;
      Vec<double> d = f(half_as_double(x, first)...);
      _Pragma("GCC unroll 2") for (int i = 0; i < kRegs / 2; ++i) {
        y.r[first + i] = native::narrow(d.r[2 * i], d.r[2 * i + 1]);
      }
    }
    return y;
  }
}

}  // namespace math
}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
