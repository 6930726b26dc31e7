// Dual numbers v + d*eps with eps^2 = 0: run an op's forward expression on them and `d` is its
// derivative. V is any type with the arithmetic of Vec: a SIMD vector in kernels, or Expr, whose
// recorded program Python can differentiate again.
#pragma once
#include "backtrail/expr.h"
#include "backtrail/simd.h"
#include "backtrail/vmath.h"

namespace backtrail {
inline namespace BACKTRAIL_TARGET {

template <class V>
struct Dual {
  using Mask = typename V::Mask;
  V v, d;
  Dual(double c) : v(c), d(0.0) {}
  Dual(V value, V derivative) : v(value), d(derivative) {}
};

// clang-format off
template <class V> Dual<V> operator-(const Dual<V>& a) { return {-a.v, -a.d}; }
template <class V> Dual<V> operator+(const Dual<V>& a, const Dual<V>& b) { return {a.v + b.v, a.d + b.d}; }
template <class V> Dual<V> operator-(const Dual<V>& a, const Dual<V>& b) { return {a.v - b.v, a.d - b.d}; }
template <class V> Dual<V> operator*(const Dual<V>& a, const Dual<V>& b) { return {a.v * b.v, a.d * b.v + a.v * b.d}; }
template <class V> Dual<V> operator/(const Dual<V>& a, const Dual<V>& b) {
  V q = a.v / b.v;
  return {q, (a.d - q * b.d) / b.v};
}
template <class V> typename V::Mask operator<(const Dual<V>& a, const Dual<V>& b) { return a.v < b.v; }
template <class V> typename V::Mask operator<=(const Dual<V>& a, const Dual<V>& b) { return a.v <= b.v; }
template <class V> typename V::Mask operator>(const Dual<V>& a, const Dual<V>& b) { return a.v > b.v; }
template <class V> typename V::Mask operator>=(const Dual<V>& a, const Dual<V>& b) { return a.v >= b.v; }
template <class V> typename V::Mask operator==(const Dual<V>& a, const Dual<V>& b) { return a.v == b.v; }
template <class V> typename V::Mask operator!=(const Dual<V>& a, const Dual<V>& b) { return a.v != b.v; }

template <class V> Dual<V> select(const typename V::Mask& m, const Dual<V>& a, const Dual<V>& b) {
  return {select(m, a.v, b.v), select(m, a.d, b.d)};
}
template <class V> Dual<V> fma(const Dual<V>& a, const Dual<V>& b, const Dual<V>& c) {
  return {fma(a.v, b.v, c.v), a.d * b.v + a.v * b.d + c.d};
}
// Where the arguments are equal each gets half of the slope, as in PyTorch.
template <class V> Dual<V> max(const Dual<V>& a, const Dual<V>& b) {
  return {max(a.v, b.v), select(a.v > b.v, a.d, select(a.v < b.v, b.d, V(0.5) * (a.d + b.d)))};
}
template <class V> Dual<V> min(const Dual<V>& a, const Dual<V>& b) {
  return {min(a.v, b.v), select(a.v < b.v, a.d, select(a.v > b.v, b.d, V(0.5) * (a.d + b.d)))};
}
template <class V> Dual<V> abs(const Dual<V>& a) {
  return {abs(a.v), select(a.v > V(0), a.d, select(a.v < V(0), -a.d, V(0)))};
}
template <class V> Dual<V> copysign(const Dual<V>& a, const Dual<V>& b) {
  return {copysign(a.v, b.v), copysign(V(1), a.v) * copysign(V(1), b.v) * a.d};
}
template <class V> Dual<V> pow(const Dual<V>& a, const Dual<V>& b) {
  V p = pow(a.v, b.v);
  return {p, b.v * pow(a.v, b.v - V(1)) * a.d + select(b.d == V(0), V(0), p * log(a.v) * b.d)};
}
template <class V> Dual<V> atan2(const Dual<V>& y, const Dual<V>& x) {
  return {atan2(y.v, x.v), (y.d * x.v - x.d * y.v) / (x.v * x.v + y.v * y.v)};
}

// f(v + d*eps) = f(v) + f'(v)*d*eps; `y` is f(v), `x` is v.
#define BACKTRAIL_CHAIN(f, slope)                         \
  template <class V> Dual<V> f(const Dual<V>& a) {        \
    [[maybe_unused]] V x = a.v;                           \
    [[maybe_unused]] V y = f(x);                          \
    return {y, a.d * (slope)};                            \
  }
BACKTRAIL_CHAIN(exp, y)
BACKTRAIL_CHAIN(exp2, y * V(0.69314718055994530942))
BACKTRAIL_CHAIN(expm1, exp(x))
BACKTRAIL_CHAIN(log, V(1) / x)
BACKTRAIL_CHAIN(log2, V(1.44269504088896340736) / x)
BACKTRAIL_CHAIN(log10, V(0.43429448190325182765) / x)
BACKTRAIL_CHAIN(log1p, V(1) / (V(1) + x))
BACKTRAIL_CHAIN(sin, cos(x))
BACKTRAIL_CHAIN(cos, -sin(x))
BACKTRAIL_CHAIN(tan, V(1) + y * y)
BACKTRAIL_CHAIN(asin, V(1) / sqrt(V(1) - x * x))
BACKTRAIL_CHAIN(acos, V(-1) / sqrt(V(1) - x * x))
BACKTRAIL_CHAIN(atan, V(1) / (V(1) + x * x))
BACKTRAIL_CHAIN(sinh, cosh(x))
BACKTRAIL_CHAIN(cosh, sinh(x))
BACKTRAIL_CHAIN(tanh, V(1) - y * y)
BACKTRAIL_CHAIN(asinh, V(1) / sqrt(x * x + V(1)))
BACKTRAIL_CHAIN(acosh, V(1) / sqrt(x * x - V(1)))
BACKTRAIL_CHAIN(atanh, V(1) / (V(1) - x * x))
BACKTRAIL_CHAIN(erf, V(1.12837916709551257390) * exp(-x * x))
BACKTRAIL_CHAIN(erfc, V(-1.12837916709551257390) * exp(-x * x))
BACKTRAIL_CHAIN(sqrt, V(0.5) / y)
BACKTRAIL_CHAIN(rsqrt, V(-0.5) * y * y * y)
BACKTRAIL_CHAIN(floor, V(0))
BACKTRAIL_CHAIN(ceil, V(0))
BACKTRAIL_CHAIN(trunc, V(0))
BACKTRAIL_CHAIN(round, V(0))
#undef BACKTRAIL_CHAIN
template <class V> typename V::Mask isnan(const Dual<V>& a) { return isnan(a.v); }
template <class V> typename V::Mask isinf(const Dual<V>& a) { return isinf(a.v); }
// clang-format on

}  // namespace BACKTRAIL_TARGET
}  // namespace backtrail
