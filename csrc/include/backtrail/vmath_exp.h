// Exponentials and hyperbolic functions of vmath.h.
#pragma once

#include "backtrail/vmath_core.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {
namespace math {

// ln 2 = high + low, n * high exact for |n| < 2^12 (float) and 2^21 (double).
template <class T>
struct Ln2;
template <>
struct Ln2<float> {
  static constexpr double high = 0x1.62ep-1, low = 3.1946184945309415e-05;
};
template <>
struct Ln2<double> {
  static constexpr double high = 0x1.62e42feep-1, low = 1.9082149292705877e-10;
};
constexpr double kLn2 = 0.6931471805599453, kLog2E = 1.4426950408889634;

// (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2; exp to 2^-28.2 and 2^-57.9.
BACKTRAIL_INLINE Vec<float> exp_polynomial(Vec<float> r) {
  return polynomial(r, 0.49999994, 0.16666515, 0.04166808, 0.0083693685, 0.0013841445);
}
BACKTRAIL_INLINE Vec<double> exp_polynomial(Vec<double> r) {
  return polynomial(r, 0.5000000000000011, 0.16666666666666427, 0.04166666666652562,
                    0.008333333333481683, 0.001388888894494133, 0.00019841269541649357,
                    2.4801491635023957e-05, 2.7557548566235895e-06, 2.7630803945150175e-07,
                    2.5014044113095322e-08);
}

// x = n ln 2 + r, |r| <= ln(2) / 2.
template <class T>
struct Reduced {
  Vec<T> n, r;
};
template <class T>
BACKTRAIL_INLINE Reduced<T> reduce_ln2(Vec<T> x) {
  const Vec<T> integer(Real<T>::kInteger);
  Vec<T> n = fma(x, Vec<T>(kLog2E), integer) - integer;
  Vec<T> r = fma(n, Vec<T>(-Ln2<T>::high), x);
  return {n, fma(n, Vec<T>(-Ln2<T>::low), r)};
}
template <class T>
BACKTRAIL_INLINE Vec<T> exp_near_0(Vec<T> r) {
  return fma(fma(exp_polynomial(r), r, Vec<T>(1)), r, Vec<T>(1));
}

// (exp(x) - 1) / 4 for x from -40 to just past where it overflows, to half an ULP and a little: 2^n
// r is added to 2^n - 1 without error, and r itself is carried with its rounding error.
template <class T>
BACKTRAIL_INLINE Vec<T> quarter_expm1(Vec<T> x) {
  using V = Vec<T>;
  const V integer(Real<T>::kInteger);
  V n = fma(x, V(kLog2E), integer) - integer;
  V first = fma(n, V(-Ln2<T>::high), x), second = n * V(Ln2<T>::low);
  V r = first - second, rest = (first - r) - second;
  V s = power_of_2(n - V(2));
  V a = s - V(0.25), b = s * r, sum = a + b;
  V tail = fma(r * r, exp_polynomial(r), rest);
  return sum + fma(s, tail, b - (sum - a));
}
template <class T>
constexpr double kExpm1Max = sizeof(T) == 4 ? 89.5 : 710.5;

}  // namespace math

// exp: largest error 0.9 ULP; without FMA 1.2.
template <class T>
BACKTRAIL_INLINE Vec<T> exp(Vec<T> x) {
  x = sizeof(T) == 4 ? math::clamp(x, -105, 90) : math::clamp(x, -746, 711);
  auto [n, r] = math::reduce_ln2(x);
  return math::scale(math::exp_near_0(r), n);
}

// exp2: largest error 0.9 ULP (float), 1.0 (double); without FMA 1.2, 1.3.
template <class T>
BACKTRAIL_INLINE Vec<T> exp2(Vec<T> x) {
  x = sizeof(T) == 4 ? math::clamp(x, -151, 129) : math::clamp(x, -1076, 1025);
  const Vec<T> integer(math::Real<T>::kInteger);
  Vec<T> n = (x + integer) - integer;
  return math::scale(math::exp_near_0((x - n) * Vec<T>(math::kLn2)), n);
}

// expm1: largest error 1.1 ULP (float), 1.2 (double); without FMA 1.2.
template <class T>
BACKTRAIL_INLINE Vec<T> expm1(Vec<T> x) {
  Vec<T> y = Vec<T>(4) * math::quarter_expm1(math::clamp(x, -40, math::kExpm1Max<T>));
  return select(abs(x) < Vec<T>(math::Real<T>::kTiny), x, y);
}

// sinh: largest error 1.9 ULP.
template <class T>
BACKTRAIL_INLINE Vec<T> sinh(Vec<T> x) {
  Vec<T> y = abs(x), q = math::quarter_expm1(below(Vec<T>(math::kExpm1Max<T>), y));
  // With t = 4 q = exp(y) - 1: t - t^2 / (2 (t + 1)), which is exact enough near 0, or (t + t / (t
  // + 1)) / 2.
  Vec<T> w = q / fma(Vec<T>(4), q, Vec<T>(1));
  Vec<T> s = select(q < Vec<T>(0.15), Vec<T>(4) * fma(Vec<T>(-2) * q, w, q), Vec<T>(2) * (q + w));
  return copysign(select(y < Vec<T>(math::Real<T>::kTiny), y, s), x);
}

// cosh: largest error 1.4 ULP; without FMA 1.7.
template <class T>
BACKTRAIL_INLINE Vec<T> cosh(Vec<T> x) {
  auto [n, r] = math::reduce_ln2(below(Vec<T>(math::kExpm1Max<T>), abs(x)));
  Vec<T> quarter = math::scale_normal(math::exp_near_0(r), n - Vec<T>(2));
  return Vec<T>(2) * (quarter + Vec<T>(0.0625) / quarter);
}

// tanh: largest error 1.4 ULP (float), 2.0 (double).
BACKTRAIL_INLINE Vec<float> tanh(Vec<float> x) {
  using V = Vec<float>;
  V y = below(V(10), abs(x)), z = y * y;
  // x + x^3 p(x^2) for |x| <= 0.625, to 2^-27.7; beyond, 1 - 2 / (exp(2x) + 1).
  V p = math::polynomial(z, -0.3333328, 0.13331406, -0.053736515, 0.020628171, -0.005692306);
  V small = fma(y * z, p, y);
  auto [n, r] = math::reduce_ln2(y + y);
  V large = V(1) - V(2) / (math::scale_normal(math::exp_near_0(r), n) + V(1));
  return copysign(select(y < V(0.625), small, large), x);
}
BACKTRAIL_INLINE Vec<double> tanh(Vec<double> x) {
  using V = Vec<double>;
  V y = below(V(20), abs(x)), q = math::quarter_expm1(y + y);
  // With u = 4 q = exp(2y) - 1: u / (u + 2), or u / 2 - u^2 / (2 (u + 2)), which is exact enough
  // near 0.
  V t = q / (q + V(0.5));
  t = select(q < V(0.15), V(2) * fma(-q, t, q), t);
  return copysign(select(y < V(math::Real<double>::kTiny), y, t), x);
}

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
